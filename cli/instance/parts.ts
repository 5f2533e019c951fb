/** The programs of an instance: how each is started, by its entry file, and how it says that it serves. */
import { join } from 'node:path';
import { z } from 'zod';

import { AgentId, JoinTokenCreated } from '../../schema/api/agent.ts';
import { Pin } from '../../schema/pin.ts';
import type { Admin } from './admin.ts';
import { type EdgeAddress, postToEdge } from './edge-api.ts';
import type { Engine } from './engine-start.ts';
import { findJson } from './files.ts';
import { type Home, homePaths } from './home.ts';
import type { PartLine, PartSpec } from './part.ts';
import type { Settings } from './settings.ts';

/** The checkout. */
export const root = join(import.meta.dirname, '../..');

/** Keeps the heap of a Node process that only passes things on small. */
export const SMALL_HEAP = ['--max-old-space-size=96', '--max-semi-space-size=1'];

export type RedisAddress = { url: string; token: string };

/** The gateway in front of a private redis-server, or of a store in memory; on the same port for this supervisor's life. */
export function redisPart(home: Home, mode: 'server' | 'memory'): PartSpec {
  let port = '0';
  return {
    name: 'redis',
    readyLine: 'ready',
    graceMs: 10_000,
    command: async () => ({
      args: [
        join(root, 'edge/serve/redis/index.ts'),
        '--dies-with-parent',
        ...Object.entries({ mode, port, dir: home.at('redis') }).flatMap(([name, value]) => [`--${name}`, value]),
      ],
      env: { CAUSEWAY_REDIS_TOKEN: home.secrets.redis },
    }),
    onLine: (line) => {
      if (line.msg === 'ready' && typeof line['url'] === 'string') port = new URL(line['url']).port;
    },
  };
}

/** workerd and the Node process that keeps it; without Redis, events wait in their outboxes. */
export function edgePart(
  home: Home,
  settings: Pick<Settings, 'host' | 'port' | 'tls' | 'publicUrl'> & Partial<Pick<Settings, 'logDays' | 'logsS3'>>,
  redis: RedisAddress | undefined,
  onLine: (line: PartLine) => void = () => undefined,
): PartSpec {
  const address = ['--host', settings.host, '--port', String(settings.port)];
  const files = ['--state', home.at('edge'), '--keys', homePaths(home.path).keys, ...tlsFlags(home, settings)];
  return {
    name: 'edge',
    readyLine: 'ready',
    graceMs: 12_000,
    onLine,
    command: async () => ({
      args: [...SMALL_HEAP, join(root, 'edge/serve/index.ts'), ...files, ...address],
      env: {
        CAUSEWAY_INSTANCE: home.identity.id,
        CAUSEWAY_BOOTSTRAP: home.secrets.bootstrap,
        ...(settings.publicUrl === undefined ? {} : { CAUSEWAY_ORIGIN: settings.publicUrl }),
        ...(settings.logDays === undefined ? {} : { CAUSEWAY_LOG_DAYS: String(settings.logDays) }),
        ...s3Variables(settings.logsS3),
        ...(redis ? { UPSTASH_REDIS_REST_URL: redis.url, UPSTASH_REDIS_REST_TOKEN: redis.token } : {}),
      },
    }),
  };
}

function s3Variables(bucket: Settings['logsS3']): Record<string, string> {
  if (bucket === undefined) return {};
  const { url, region, accessKeyId, secretAccessKey } = bucket;
  return {
    CAUSEWAY_LOGS_S3_URL: url,
    ...(region === undefined ? {} : { CAUSEWAY_LOGS_S3_REGION: region }),
    CAUSEWAY_LOGS_S3_ACCESS_KEY_ID: accessKeyId,
    CAUSEWAY_LOGS_S3_SECRET_ACCESS_KEY: secretAccessKey,
  };
}

function tlsFlags(home: Home, { tls }: Pick<Settings, 'tls'>): string[] {
  if (tls.kind === 'files') return ['--tls-cert', tls.certificate, '--tls-key', tls.key];
  if (tls.kind === 'off') return [];
  return ['--tls-dir', home.at('tls'), ...tls.names.flatMap((name) => ['--tls-name', name])];
}

/** What the edge says of its TLS when it is ready, and when another certificate is served. */
export const ServedTls = z.object({ pin: Pin, endsAtMs: z.int(), public: z.boolean() });

export type AgentOptions = {
  home: Home;
  /** Where the edge is now, and by what it is known. */
  edge: () => EdgeAddress;
  engine: Engine;
  admin: Admin;
  onLine: (line: PartLine) => void;
};

/** The agent of this machine. It joins as any machine does: with a token that the API gives out, once. */
export function agentPart({ home, edge, engine, admin, onLine }: AgentOptions): PartSpec {
  const state = home.at('agent');
  return {
    name: 'agent',
    readyLine: 'connected',
    graceMs: 15_000,
    onLine,
    command: async () => {
      const { url, pin } = edge();
      return {
        args: [
          join(root, 'agent-daemon/index.ts'),
          '--url',
          url,
          '--state',
          state,
          '--name',
          home.identity.agentName,
          ...(pin === undefined ? [] : ['--pin', pin]),
        ],
        env: {
          DOCKER_HOST: `unix://${engine.socket}`,
          CAUSEWAY_NETWORK_POOL: home.identity.networkPool,
          ...(findAgentId(home) !== undefined ? {} : { CAUSEWAY_JOIN_TOKEN: await newJoinToken({ url, pin }, admin) }),
        },
      };
    },
  };
}

/** Who the agent of this machine is, once it has enrolled. */
export function findAgentId(home: Home): string | undefined {
  return findJson(identityFile(home), z.object({ agentId: AgentId }))?.agentId;
}

const identityFile = (home: Home) => home.at('agent', 'identity.json');

async function newJoinToken(edge: EdgeAddress, { token, resourceGroup = 'default' }: Admin): Promise<string> {
  const created = await postToEdge({
    ...edge,
    path: '/v1/agents/join-tokens',
    token,
    body: { resourceGroup, ttlSeconds: 600, autoApprove: true },
    answer: JoinTokenCreated,
    what: 'give a join token to this machine',
  });
  return created.token;
}

/** What an instance needs of its machine. Each look says what it found, how good that is, and what to type if it is not. */
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { accessSync, constants, existsSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { json } from 'node:stream/consumers';

import { bytesText } from '../terminal/table.ts';
import { findAgent } from './agent-look.ts';
import { installLine, mayInstall } from './apt.ts';
import { callEngine } from './engine.ts';
import { STANDARD_SOCKET } from './engine-start.ts';
import type { Settings } from './settings.ts';
import { findLiveState, isReady } from './state.ts';

/** `weak` works, but not as well as it might; `missing` stops `causeway up`. */
export type Finding = { name: string; verdict: 'ok' | 'weak' | 'missing'; what: string; remedy?: string };

type Look = (settings: Settings) => Finding | Promise<Finding>;

/** Free disk below which images and outputs get into trouble. */
const DISK_BYTES = 5e9;
/** Memory that edge, Redis and agent use together, with room for one small session. */
const MEMORY_BYTES = 1.5e9;

const findNode: Look = () => {
  const major = Number(process.versions.node.split('.')[0]);
  const what = `Node.js ${process.versions.node}`;
  if (major >= 24) return { name: 'node', verdict: 'ok', what };
  return { name: 'node', verdict: 'missing', what: `${what}; 24 is needed`, remedy: 'rm -r node_modules && npm start' };
};

const findTools: Look = () => {
  const tools = ['flock', 'setpriv', 'unshare', 'nsenter'];
  const missing = tools.filter((tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).error !== undefined);
  if (missing.length === 0) return { name: 'util-linux', verdict: 'ok', what: tools.join(', ') };
  return {
    name: 'util-linux',
    verdict: 'missing',
    what: `no ${missing.join(', ')}`,
    remedy: installLine(['util-linux']),
  };
};

type EngineFacts = {
  /** Mirrors of Docker Hub, and registries without TLS, in the settings of the engine. */
  RegistryConfig?: { Mirrors?: string[] | null; IndexConfigs?: Record<string, { Secure: boolean }> | null };
  HttpsProxy?: string;
  ServerVersion: string;
  LiveRestoreEnabled: boolean;
  CgroupVersion: string;
  Driver: string;
  SecurityOptions: string[];
};

const findEngine: Look = async ({ engineSocket }) => {
  const socket = engineSocket ?? STANDARD_SOCKET;
  let facts: EngineFacts;
  try {
    facts = (await json(await callEngine(socket, 'GET', '/info', { timeoutMs: 5_000 }))) as EngineFacts;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    if (mayInstall() && engineSocket === undefined)
      return {
        name: 'engine',
        verdict: 'weak',
        what: `none at ${socket}`,
        remedy: 'causeway up   (installs and starts it)',
      };
    return {
      name: 'engine',
      verdict: 'missing',
      what: `none answers at ${socket} (${why})`,
      remedy: engineSocket === undefined ? installLine(['docker.io']) : 'start it, or unset DOCKER_HOST',
    };
  }
  const what = `Docker ${facts.ServerVersion}, ${facts.Driver}, cgroup v${facts.CgroupVersion}, at ${socket}`;
  if (facts.LiveRestoreEnabled) return { name: 'engine', verdict: 'ok', what };
  return {
    name: 'engine',
    verdict: 'weak',
    what: `${what}; without live-restore its restart ends all containers`,
    remedy: `put {"live-restore": true} into /etc/docker/daemon.json, then: ${process.getuid?.() === 0 ? '' : 'sudo '}systemctl reload docker`,
  };
};

/** What an image without a registry in its name is asked of. */
const defaultRegistry = 'registry-1.docker.io';
const registryMs = 3_000;

const findRegistry: Look = async ({ engineSocket }) => {
  const name = 'registry';
  let facts: EngineFacts;
  try {
    const socket = engineSocket ?? STANDARD_SOCKET;
    facts = (await json(await callEngine(socket, 'GET', '/info', { timeoutMs: 5_000 }))) as EngineFacts;
  } catch {
    return { name, verdict: 'weak', what: 'not known without an engine' };
  }
  const { Mirrors: mirrors, IndexConfigs: known } = facts.RegistryConfig ?? {};
  const own = Object.keys(known ?? {}).filter((each) => each !== 'docker.io');
  const configured = [...(mirrors ?? []), ...own];
  if (configured.length > 0) return { name, verdict: 'ok', what: `the engine is set up for ${configured.join(', ')}` };
  if (facts.HttpsProxy) return { name, verdict: 'ok', what: 'the engine asks registries through its proxy' };
  if (await answersAt(defaultRegistry, 443)) return { name, verdict: 'ok', what: `${defaultRegistry} can be reached` };
  return {
    name,
    verdict: 'weak',
    what: `none is set up and ${defaultRegistry} can not be reached: sessions run only what \`causeway images\` lists`,
    remedy:
      'name images of a registry that this machine reaches (--image HOST:PORT/NAME:TAG); for a mirror or one without TLS put ' +
      '{"registry-mirrors": ["https://HOST"], "insecure-registries": ["HOST:PORT"]} into /etc/docker/daemon.json; or docker load -i FILE',
  };
};

function answersAt(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: registryMs });
    const end = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket
      .on('connect', () => end(true))
      .on('timeout', () => end(false))
      .on('error', () => end(false));
  });
}

const findRedis: Look = ({ upstash }) => {
  if (upstash) return { name: 'redis', verdict: 'ok', what: `Upstash at ${new URL(upstash.url).host}` };
  if (existsSync('/usr/bin/redis-server'))
    return { name: 'redis', verdict: 'ok', what: 'redis-server of this machine' };
  if (mayInstall())
    return { name: 'redis', verdict: 'weak', what: 'no redis-server', remedy: 'causeway up   (installs it)' };
  return {
    name: 'redis',
    verdict: 'weak',
    what: 'no redis-server: events and reports would live in memory and be lost at a restart',
    remedy: installLine(['redis-server']),
  };
};

const findImageTools: Look = ({ pythonImage }) => {
  const name = 'image';
  if (pythonImage !== undefined) return { name, verdict: 'ok', what: `causeway/python is pulled from ${pythonImage}` };
  if (process.getuid?.() !== 0)
    return {
      name,
      verdict: 'weak',
      what: 'building causeway/python needs root',
      remedy: 'sudo causeway up   once, or set CAUSEWAY_PYTHON_IMAGE',
    };
  if (existsSync('/usr/sbin/debootstrap'))
    return { name, verdict: 'ok', what: 'debootstrap, to build causeway/python' };
  const remedy = mayInstall() ? 'causeway up   (installs it)' : installLine(['debootstrap']);
  return { name, verdict: 'weak', what: 'no debootstrap to build causeway/python', remedy };
};

const findPort: Look = async ({ home, host, port }) => {
  const state = findLiveState(home);
  if (state)
    return {
      name: 'port',
      verdict: 'ok',
      what: `${state.url} is this instance (${isReady(state) ? 'ready' : 'not ready'})`,
    };
  const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
  if (!error) return { name: 'port', verdict: 'ok', what: `${host} port ${port} is free` };
  const what = error.code === 'EADDRINUSE' ? `${host} port ${port} is in use by another program` : error.message;
  return { name: 'port', verdict: 'missing', what, remedy: `PORT=${port + 1} causeway up` };
};

/** Long before its end a certificate should have been made anew: by an edge that runs, or by whoever looks after its file. */
const renewMs = 30 * 86_400_000;

const findTls: Look = ({ home, host, isLoopback, tls }) => {
  const name = 'exposure';
  if (tls.kind === 'off') {
    if (isLoopback) return { name, verdict: 'ok', what: `${host} is reached from this machine alone` };
    const remedy = 'CAUSEWAY_TLS=on causeway up, a TLS proxy in front of it, or HOST=127.0.0.1';
    return { name, verdict: 'weak', what: `${host} may be reached from elsewhere, WITHOUT TLS`, remedy };
  }
  const file = tls.kind === 'files' ? tls.certificate : join(home, 'tls', 'server.pem');
  let endsAt: Date;
  try {
    endsAt = new X509Certificate(readFileSync(file)).validToDate;
  } catch (error) {
    if (tls.kind === 'own') return { name, verdict: 'ok', what: 'TLS, with keys that `causeway up` makes' };
    const remedy = 'give --tls-cert and --tls-key files in PEM';
    return { name, verdict: 'missing', what: `${file} is no certificate: ${(error as Error).message}`, remedy };
  }
  const what = `TLS, certificate good until ${endsAt.toISOString().slice(0, 10)}`;
  if (endsAt.getTime() > Date.now() + renewMs) return { name, verdict: 'ok', what };
  const remedy = tls.kind === 'own' ? 'causeway up: it is made anew' : 'renew it: a running edge takes the new file';
  return { name, verdict: 'weak', what, remedy };
};

const findHome: Look = ({ home }) => {
  const name = 'home';
  let place = home;
  while (!existsSync(place)) place = dirname(place);
  try {
    accessSync(place, constants.W_OK | constants.X_OK);
  } catch {
    return {
      name,
      verdict: 'missing',
      what: `${home} can not be written`,
      remedy: 'CAUSEWAY_HOME=/another/folder causeway up',
    };
  }
  const { bavail, bsize } = statfsSync(place);
  const free = bavail * bsize;
  const what = `${home}, ${bytesText(free)} free`;
  if (free < DISK_BYTES)
    return { name, verdict: 'weak', what: `${what}; images and outputs need more`, remedy: 'free some disk' };
  if (existsSync(home) && (statSync(home).mode & 0o077) !== 0)
    return { name, verdict: 'weak', what: `${what}; others may read it`, remedy: `chmod 700 ${home}` };
  return { name, verdict: 'ok', what };
};

const findMemory: Look = () => {
  const what = `${bytesText(freemem())} free of ${bytesText(totalmem())}`;
  if (totalmem() >= MEMORY_BYTES) return { name: 'memory', verdict: 'ok', what };
  return {
    name: 'memory',
    verdict: 'weak',
    what: `${what}; edge, Redis and agent use about 0.6 GB`,
    remedy: 'a larger machine',
  };
};

/** In the order in which `causeway up` needs them. */
export const prerequisites: readonly Look[] = [
  findNode,
  findTools,
  findHome,
  findMemory,
  findEngine,
  findRegistry,
  findRedis,
  findPort,
  findTls,
  findImageTools,
  findAgent,
];

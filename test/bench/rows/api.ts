/** The API: authenticated reads beside a bare Hono on the same runtime, alone and under load. */
import { startBare } from '../peers/bare.ts';
import { loadInTurns, loadSteadily } from '../peers/http-load.ts';
import type { BenchContext } from '../context.ts';
import { type Row, quantile } from '../row.ts';
import { keepOutput } from '../subjects/bulk.ts';
import { saturate } from '../subjects/saturate.ts';
import { endSessions, startSession } from '../subjects/session.ts';

const connections = 64;
const durationMs = 4000;
const loginsPerSecond = 10;
/** Of all paths together. */
const steadyPerSecond = 300;

export const rows: Row[] = [
  {
    name: 'get-whoami',
    title: `authenticated GET of whoami, ${connections} connections`,
    peer: 'a bare Hono hello, served the same way',
    unit: 'per s',
    goal: { kind: 'ratio', atLeast: 0.6 },
    setup: async (context) => besideHello(context, '/v1/whoami'),
  },
  {
    name: 'get-session',
    title: `authenticated GET of one session by id, ${connections} connections`,
    peer: 'a bare Hono hello, served the same way',
    unit: 'per s',
    goal: { kind: 'ratio', atLeast: 0.25 },
    setup: async (context) => {
      const stack = await context.stack();
      const { id } = await startSession(stack, {});
      const job = await besideHello(context, `/v1/sessions/${id}`);
      return {
        round: job.round,
        teardown: async () => {
          await job.teardown();
          await endSessions(stack, [id]);
        },
      };
    },
  },
  {
    name: 'api-beside-stream',
    title: 'p99 of authenticated GETs (whoami, one session) while one stream saturates',
    peer: 'the same while nothing else moves',
    unit: 'ms',
    goal: { kind: 'value', atMost: 50 },
    setup: async (context) => {
      const stack = await context.stack();
      const kept = await keepOutput(stack, 64 * 1024 * 1024);
      const paths = ['/v1/whoami', `/v1/sessions/${kept.sessionId}`];
      return {
        round: async () => {
          const peer = await p99(context, paths);
          const stream = await saturate(stack, kept.sessionId, 1);
          const subject = await p99(context, paths);
          await stream.kill9();
          return { subject, peer };
        },
        teardown: async () => endSessions(stack, [kept.sessionId]),
      };
    },
  },
  {
    name: 'api-beside-logins',
    title: `p99 of authenticated GETs of whoami while ${loginsPerSecond} logins arrive a second`,
    peer: 'the same while nothing else moves',
    unit: 'ms',
    goal: { kind: 'value', atMost: 50 },
    setup: async (context) => {
      const { client } = await context.stack();
      return {
        round: async () => {
          const peer = await p99(context, ['/v1/whoami']);
          const body = { email: client.email, password: client.password };
          const logins = setInterval(() => {
            void client.call('POST', '/v1/auth/login', body, { token: null }).catch(() => {});
          }, 1000 / loginsPerSecond);
          const subject = await p99(context, ['/v1/whoami']);
          clearInterval(logins);
          return { subject, peer };
        },
      };
    },
  },
];

async function besideHello(context: BenchContext, path: string) {
  const { client } = await context.stack();
  const bare = await startBare();
  const headers = { authorization: `Bearer ${client.token}` };
  return {
    round: async () => {
      const ours = { url: `${client.url}${path}`, headers, connections, durationMs };
      const { subject, peer } = await loadInTurns(ours, { url: `${bare.url}/hello`, connections, durationMs });
      return { subject: subject.perSecond, peer: peer.perSecond };
    },
    teardown: async () => bare.stop(),
  };
}

/** p99 in ms over all paths, asked at a steady rate whatever becomes of the answers. */
async function p99(context: BenchContext, paths: readonly string[]): Promise<number> {
  const { client } = await context.stack();
  const headers = { authorization: `Bearer ${client.token}` };
  const loads = paths.map(async (path) =>
    loadSteadily({
      url: `${client.url}${path}`,
      headers,
      connections: 32,
      durationMs,
      perSecond: steadyPerSecond / paths.length,
    }),
  );
  return quantile((await Promise.all(loads)).flat(), 0.99);
}

/** What live kernels cost an agent, and open channels an edge. */
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { residentMiB } from '../../support/invariants.ts';
import { type Stack, startStack } from '../../support/stack.ts';
import type { BenchContext } from '../context.ts';
import type { Row } from '../row.ts';
import { sharedRounds } from '../shared-rounds.ts';
import { bringImage, channelsUrl, kernelSession, startKernel } from '../subjects/kernel-lab.ts';
import { startSession } from '../subjects/session.ts';

const sessions = 4;
const kernelsPerSession = 15;
const kernels = sessions * kernelsPerSession;
const channelCount = 1000;
/** One person may have 256. */
const people = 5;
/** A round looks for this long; five rounds are ten minutes. Shorter for development: CAUSEWAY_BENCH_ROUND_SECONDS=12. */
const roundMs = Number(process.env['CAUSEWAY_BENCH_ROUND_SECONDS'] ?? 120) * 1000;
const lookEveryMs = 2000;
const settleMs = 10_000;
/** What garbage collection may add to a memory that is called flat. */
const flatMiB = 16;

/** MiB of both processes. */
interface Look {
  agent: number;
  edge: number;
}

interface World {
  stack: Stack;
  /** Before any kernel, with all of them, and with all channels. */
  before: Look;
  live: Look;
  open: Look;
  sockets: WebSocket[];
}

const worlds = new WeakMap<BenchContext, Promise<World>>();

const looks = sharedRounds(async (context) => {
  const world = await worldOf(context);
  const most = await highest(world.stack, roundMs);
  const closed = world.sockets.filter((socket) => socket.readyState !== WebSocket.OPEN).length;
  return { world, most, fault: closed > 0 ? `${closed} channels were closed` : grown(world.open, most) };
});

export const rows: Row[] = [
  row({
    name: 'kernels-memory',
    title: `memory of an agent for each of ${kernels} live kernels, ${channelCount} channels of theirs open`,
    atMost: 2048,
    share: ({ before }, most) => (most.agent - before.agent) / kernels,
  }),
  row({
    name: 'channels-memory',
    title: `memory of an edge for each of ${channelCount} open channels of the Jupyter gateway`,
    atMost: 256,
    share: ({ live }, most) => (most.edge - live.edge) / channelCount,
  }),
  row({
    name: 'channels-memory-agent',
    title: `memory of an agent for each of ${channelCount} open channels of the Jupyter gateway`,
    atMost: 256,
    share: ({ live }, most) => (most.agent - live.agent) / channelCount,
  }),
];

function row({
  name,
  title,
  atMost,
  share,
}: {
  name: string;
  title: string;
  atMost: number;
  /** In MiB. */
  share: (world: World, most: Look) => number;
}): Row {
  return {
    name,
    title: `${title}; flat over all rounds of ${roundMs / 1000} s`,
    peer: 'the same as soon as all were there',
    unit: 'KiB',
    goal: { kind: 'value', atMost },
    setup: (context) => {
      let n = 0;
      return Promise.resolve({
        round: async () => {
          const { world, most, fault } = await looks(context, n++);
          return {
            subject: share(world, most) * 1024,
            peer: share(world, world.open) * 1024,
            ...(fault === undefined ? {} : { fault }),
          };
        },
      });
    },
  };
}

/** A fault when one of the processes has grown. */
function grown(first: Look, most: Look): string | undefined {
  const more = Math.max(most.agent - first.agent, most.edge - first.edge);
  return more > flatMiB ? `it grew by ${more} MiB` : undefined;
}

function worldOf(context: BenchContext): Promise<World> {
  const known = worlds.get(context) ?? startWorld(context);
  worlds.set(context, known);
  return known;
}

/** On a stack of its own: what other rows did to theirs is not what kernels cost. */
async function startWorld(context: BenchContext): Promise<World> {
  const stack = await startStack();
  context.atEnd(() => stack.stop());
  await bringImage(stack);
  const resources = { cpu: 0.4, mem: '2g' };
  const started = await Promise.all(
    Array.from({ length: sessions }, () => startSession(stack, { ...kernelSession, resources })),
  );
  const before = await highest(stack, settleMs);
  const ids = await Promise.all(
    started.map(async ({ id: sessionId }) => {
      const ofSession: { sessionId: string; kernelId: string }[] = [];
      while (ofSession.length < kernelsPerSession)
        ofSession.push({ sessionId, kernelId: await startKernel(stack, sessionId) });
      return ofSession;
    }),
  );
  const live = await highest(stack, settleMs);
  const sockets = await openChannels(stack, ids.flat());
  context.atEnd(() => sockets.forEach((socket) => socket.terminate()));
  const open = await highest(stack, settleMs);
  return { stack, before, live, open, sockets };
}

/** Spread evenly over kernels and people. */
async function openChannels(
  stack: Stack,
  all: readonly { sessionId: string; kernelId: string }[],
): Promise<WebSocket[]> {
  const tokens = await Promise.all(Array.from({ length: people }, (_, n) => newPerson(stack, n)));
  const sockets: WebSocket[] = [];
  for (let n = 0; n < channelCount; n++) {
    const url = channelsUrl(stack, { ...all[n % all.length]!, client: `client-${n}`, token: tokens[n % people]! });
    const socket = new WebSocket(url, 'v1.kernel.websocket.jupyter.org', { perMessageDeflate: false });
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
    });
    sockets.push(socket);
  }
  return sockets;
}

/** The token of somebody who may use what others have in the administrator's project. */
async function newPerson({ client }: Stack, n: number): Promise<string> {
  const me = (await client.api('GET', '/v1/whoami')) as { projects: { id: string }[] };
  const { id } = (await client.api('POST', '/v1/users', { email: `bench-${n}@example.test` })) as { id: string };
  await client.api('PUT', `/v1/projects/${me.projects[0]!.id}/members/${id}`, { role: 'project-admin' });
  return ((await client.api('POST', `/v1/users/${id}/tokens`, { name: 'bench' })) as { token: string }).token;
}

async function highest({ agents, edge }: Stack, durationMs: number): Promise<Look> {
  const endMs = performance.now() + durationMs;
  const most: Look = { agent: 0, edge: 0 };
  do {
    most.agent = Math.max(most.agent, residentMiB(agents[0]!.process.pid));
    most.edge = Math.max(most.edge, residentMiB(edge.workerdPid));
    await sleep(lookEveryMs);
  } while (performance.now() < endMs);
  return most;
}

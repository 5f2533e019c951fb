/** Cold starts: one after the other, and a burst. */
import type Docker from 'dockerode';
import type { Stack } from '../../support/stack.ts';
import { type Limits, type PeerContainer, removeContainer, startContainer } from '../peers/docker.ts';
import { type Row, median } from '../row.ts';
import { endSessions, startSession } from '../subjects/session.ts';

const startsPerRound = 5;
const burst = 64;
/** The engine saturates at about two starts per core at a time. */
const atOnce = 4;
const single: Limits = { cpu: 1, memMiB: 256 };
/** What lets the burst fit into two cores. */
const small: Limits = { cpu: 0.03, memMiB: 32 };

export const rows: Row[] = [
  {
    name: 'session-start',
    title: 'session start, POST to running, cold, one after the other',
    peer: 'dockerode: create the same network, create, connect, start, on the same engine',
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.1 },
    setup: async (context) => {
      const stack = await context.stack();
      const { docker } = stack.agents[0]!.engine;
      return { round: async () => ({ subject: await startOurs(stack), peer: await startTheirs(docker) }) };
    },
  },
  {
    name: 'session-burst',
    title: `${burst} sessions started at once, until the last runs; none lost, none doubled`,
    peer: `dockerode doing the same on the same engine, ${atOnce} at a time`,
    unit: 'per s',
    goal: { kind: 'ratio', atLeast: 0.95 },
    setup: async (context) => {
      const stack = await context.stack();
      const { docker } = stack.agents[0]!.engine;
      return { round: async () => ({ subject: await burstOurs(stack), peer: await burstTheirs(docker) }) };
    },
  },
];

/** Median time in ms from before the POST to the ledger's note that the session runs. */
async function startOurs(stack: Stack): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < startsPerRound; n++) {
    const sentMs = Date.now();
    const { id, runningMs } = await startSession(stack, { resources: toRequest(single) });
    times.push(runningMs - sentMs);
    await endSessions(stack, [id]);
  }
  return median(times)!;
}

/** Median time of a start in ms. */
async function startTheirs(docker: Docker): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < startsPerRound; n++) {
    const startedMs = performance.now();
    const started = await startContainer(docker, n, single);
    times.push(performance.now() - startedMs);
    await removeContainer(started);
  }
  return median(times)!;
}

/** Starts per second. */
async function burstOurs(stack: Stack): Promise<number> {
  const sentMs = Date.now();
  const started = await Promise.all(
    Array.from({ length: burst }, async () => startSession(stack, { resources: toRequest(small) })),
  );
  const perSecond = burst / ((Math.max(...started.map(({ runningMs }) => runningMs)) - sentMs) / 1000);
  const ids = started.map(({ id }) => id);
  const running = await stack.agents[0]!.engine.docker.listContainers();
  const ours = running
    .map(({ Labels }) => Labels['causeway.session'])
    .filter((id) => id !== undefined && ids.includes(id));
  if (ours.length !== burst || new Set(ours).size !== burst)
    throw new Error(`${burst} sessions have ${ours.length} containers`);
  await endSessions(stack, ids);
  return perSecond;
}

/** Starts per second. */
async function burstTheirs(docker: Docker): Promise<number> {
  const started: PeerContainer[] = [];
  let next = 0;
  const startedMs = performance.now();
  await inParallel(async () => {
    for (let n = next++; n < burst; n = next++) started.push(await startContainer(docker, n, small));
  });
  const perSecond = burst / ((performance.now() - startedMs) / 1000);
  await inParallel(async () => {
    for (let each = started.pop(); each !== undefined; each = started.pop()) await removeContainer(each);
  });
  return perSecond;
}

function toRequest({ cpu, memMiB }: Limits) {
  return { cpu, mem: `${memMiB}m` };
}

async function inParallel(worker: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: atOnce }, worker));
}

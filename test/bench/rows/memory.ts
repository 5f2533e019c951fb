/** What an agent costs its host. */
import { setTimeout as sleep } from 'node:timers/promises';
import { residentMiB } from '../../support/invariants.ts';
import { startStack } from '../../support/stack.ts';
import type { Row } from '../row.ts';
import { endSessions, startSession } from '../subjects/session.ts';

const sessions = 50;
/** A round looks for this long; five rounds are ten minutes. Shorter for development: CAUSEWAY_BENCH_ROUND_SECONDS=12. */
const roundMs = Number(process.env['CAUSEWAY_BENCH_ROUND_SECONDS'] ?? 120) * 1000;
const lookEveryMs = 2000;
/** What garbage collection may add to a memory that is called flat. */
const flatMiB = 8;

export const rows: Row[] = [
  {
    name: 'agent-memory',
    title: `resident memory of a fresh agent with ${sessions} sessions that write now and then, flat over all rounds of ${roundMs / 1000} s`,
    peer: 'the same at the beginning of the first round',
    unit: 'MiB',
    goal: { kind: 'value', atMost: 90 },
    setup: measure,
  },
];

/** On an agent of its own: what other rows did to theirs is not what an agent costs. */
async function measure() {
  const stack = await startStack();
  const command = ['sh', '-c', 'while :; do echo a line of output; sleep 1; done'];
  const started = await Promise.all(
    Array.from({ length: sessions }, async () =>
      startSession(stack, { type: 'batch', command, resources: { cpu: 0.02, mem: '16m' } }),
    ),
  );
  const look = (): number => residentMiB(stack.agents[0]!.process.pid);
  const first = await highest(look, 10_000);
  return {
    round: async () => {
      const subject = await highest(look, roundMs);
      const grown = subject - first;
      return { subject, peer: first, ...(grown > flatMiB ? { fault: `it grew by ${grown} MiB` } : {}) };
    },
    teardown: async () => {
      await endSessions(
        stack,
        started.map(({ id }) => id),
      );
      await stack.stop();
    },
  };
}

async function highest(look: () => number, durationMs: number): Promise<number> {
  const endMs = performance.now() + durationMs;
  let most = look();
  while (performance.now() < endMs) {
    await sleep(lookEveryMs);
    most = Math.max(most, look());
  }
  return most;
}

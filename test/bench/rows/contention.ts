/** Small things beside large ones. */
import type { Started } from '../../support/process.ts';
import type { Stack } from '../../support/stack.ts';
import { type Row, quantile } from '../row.ts';
import { keepOutput } from '../subjects/bulk.ts';
import { echoThrough } from '../subjects/echo.ts';
import { saturate } from '../subjects/saturate.ts';
import { dialSession, endSessions, spawnOf, startSession } from '../subjects/session.ts';

const bulkBytes = 64 * 1024 * 1024;
/** 20 Mbit/s, 50 ms for a round trip. */
const slowLink = { bytesPerSecond: 2_500_000, latencyMs: 25 };

export const rows: Row[] = [
  {
    name: 'echo-beside-bulk',
    title: 'p99 of an echo through a process, beside 16 saturating streams of the same session',
    peer: 'the same while nothing else moves',
    unit: 'ms',
    goal: { kind: 'over', atMost: 5 },
    setup: async (context) => beside(await context.stack(), 16, 1000),
  },
  {
    name: 'keys-beside-bulk',
    title: 'p99 of a key echo in a terminal beside one saturating stream, both over 20 Mbit/s and 50 ms',
    peer: 'the same while nothing else moves',
    unit: 'ms',
    goal: { kind: 'over', atMost: 50 },
    setup: async (context) => {
      const stack = await context.stackBehindProxy();
      stack.agentProxy!.set('both', slowLink);
      const job = await beside(stack, 1, 100);
      return {
        round: job.round,
        teardown: async () => {
          stack.agentProxy!.heal();
          await job.teardown();
        },
      };
    },
  },
];

async function beside(stack: Stack, streams: number, echoes: number) {
  const { id } = await startSession(stack, { resources: { cpu: 0.5, mem: '256m' } });
  const kept = await keepOutput(stack, bulkBytes);
  const socket = await dialSession(stack, id);
  const p99 = async (): Promise<number> => quantile(await echoThrough(socket, spawnOf(['cat']), echoes), 0.99) / 1000;
  return {
    round: async () => {
      const peer = await p99();
      const load: Started = await saturate(stack, kept.sessionId, streams);
      const subject = await p99();
      await load.kill9();
      return { subject, peer };
    },
    teardown: async () => {
      socket.cut();
      await endSessions(stack, [id, kept.sessionId]);
    },
  };
}

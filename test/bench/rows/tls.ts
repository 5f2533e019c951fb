/** What TLS costs: the same jobs on a stack that serves it, pinned at both ends, and on one that does not. */
import type { Row } from '../row.ts';
import { median } from '../row.ts';
import { type KeptOutput, keepOutput, readOutput } from '../subjects/bulk.ts';
import { endSessions, startSession } from '../subjects/session.ts';
import type { Stack } from '../../support/stack.ts';

const bulkBytes = 256 * 1024 * 1024;
const startsPerRound = 5;
const peer = 'the same without TLS';

export const rows: Row[] = [
  {
    name: 'tls-bulk',
    title: 'bulk from agent to client over TLS, one stream',
    peer,
    unit: 'MB/s',
    goal: { kind: 'ratio', atLeast: 0.5 },
    setup: async (context) => {
      const [secure, plain] = [await context.stackOverTls(), await context.stack()];
      const kept = new Map<Stack, KeptOutput>();
      for (const stack of [secure, plain]) kept.set(stack, await keepOutput(stack, bulkBytes));
      const read = (stack: Stack, verify = false) => readOutput(stack, kept.get(stack)!, 1, { verify });
      await read(secure, true);
      return {
        round: async () => ({ subject: await read(secure), peer: await read(plain) }),
        teardown: async () => {
          for (const [stack, { sessionId }] of kept) await endSessions(stack, [sessionId]);
        },
      };
    },
  },
  {
    name: 'tls-start',
    title: 'session start over TLS, POST to running',
    peer,
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.1 },
    setup: async (context) => {
      const [secure, plain] = [await context.stackOverTls(), await context.stack()];
      return { round: async () => ({ subject: await startTime(secure), peer: await startTime(plain) }) };
    },
  },
];

/** Median time in ms from before the POST to the ledger's note that the session runs. */
async function startTime(stack: Stack): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < startsPerRound; n++) {
    const sentMs = Date.now();
    const { id, runningMs } = await startSession(stack, { resources: { cpu: 1, mem: '256m' } });
    times.push(runningMs - sentMs);
    await endSessions(stack, [id]);
  }
  return median(times)!;
}

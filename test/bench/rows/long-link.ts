/** One stream over a long, fast link. */
import { startFaultProxy } from '../../support/fault-proxy.ts';
import { readRate, startTarget } from '../peers/tcp.ts';
import type { Row } from '../row.ts';
import { keepOutput, readOutput } from '../subjects/bulk.ts';
import { endSessions } from '../subjects/session.ts';

/** 200 Mbit/s, 100 ms for a round trip. */
const link = { bytesPerSecond: 25_000_000, latencyMs: 50 };
const bulkBytes = 100_000_000;

export const rows: Row[] = (['client', 'agent'] as const).map((side): Row => ({
  name: `long-link-${side}`,
  title: `one stream over 200 Mbit/s and 100 ms between ${side === 'client' ? 'client and edge' : 'edge and agent'}`,
  peer: 'plain TCP over the same link',
  unit: 'MB/s',
  goal: { kind: 'ratio', atLeast: 0.9 },
  setup: async (context) => {
    const stack = await (side === 'client' ? context.stack() : context.stackBehindProxy());
    const kept = await keepOutput(stack, bulkBytes);
    const toEdge = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
    const target = await startTarget();
    const toTarget = await startFaultProxy({ target: { port: target.port } });
    toTarget.set('both', link);
    if (side === 'client') toEdge.set('both', link);
    else stack.agentProxy!.set('both', link);
    const base = side === 'client' ? `http://127.0.0.1:${toEdge.port}` : stack.url;
    return {
      round: async () => ({
        subject: await readOutput(stack, kept, 1, { base }),
        peer: await readRate(toTarget.port, 1, bulkBytes),
      }),
      teardown: async () => {
        stack.agentProxy?.heal();
        await toEdge.stop();
        await toTarget.stop();
        await target.stop();
        await endSessions(stack, [kept.sessionId]);
      },
    };
  },
}));

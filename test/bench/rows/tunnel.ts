/** The tunnel on an unhindered machine: small echoes and bulk. */
import type { ClientSocket } from '../../support/client-socket.ts';
import { startBare, startRelay } from '../peers/bare.ts';
import { startSshTunnel } from '../peers/ssh.ts';
import { echoTimes, readRate, startTarget } from '../peers/tcp.ts';
import { type Row, quantile } from '../row.ts';
import { keepOutput, readOutput } from '../subjects/bulk.ts';
import { echoThrough } from '../subjects/echo.ts';
import { dialSession, endSessions, startSession } from '../subjects/session.ts';

const warmUpEchoes = 5000;
const echoes = 2000;
const bulkBytes = 512 * 1024 * 1024;

export const rows: Row[] = [
  {
    name: 'tunnel-echo',
    title: 'echo of 64 bytes, client to edge to agent and back',
    peer: 'a bare hibernating relay in workerd',
    floor: '`ssh -R` on loopback',
    unit: 'us',
    goal: { kind: 'ratio', atMost: 1.2 },
    setup: async (context) => {
      const stack = await context.stack();
      const { id } = await startSession(stack, {});
      const socket: ClientSocket = await dialSession(stack, id);
      const target = await startTarget();
      const ssh = await startSshTunnel(target.port);
      const bare = await startBare();
      const relay = await startRelay(bare);
      // Both, until the compilers of all processes have seen it.
      await echoThrough(socket, { op: 'echo' }, warmUpEchoes);
      await relay.echoTimes(warmUpEchoes);
      return {
        round: async () => ({
          subject: quantile(await echoThrough(socket, { op: 'echo' }, echoes), 0.5),
          peer: quantile(await relay.echoTimes(echoes), 0.5),
          floor: quantile(await echoTimes(ssh.port, echoes), 0.5),
        }),
        teardown: async () => {
          socket.cut();
          await relay.stop();
          await bare.stop();
          await ssh.stop();
          await target.stop();
          await endSessions(stack, [id]);
        },
      };
    },
  },
  ...[1, 16].map((streams): Row => ({
    name: `tunnel-bulk-${streams}`,
    title: `bulk from agent to client, ${streams === 1 ? 'one stream' : `${streams} streams`}, SHA-256 equal`,
    peer: '`ssh -R` on loopback',
    floor: 'plain TCP on loopback',
    unit: 'MB/s',
    goal: { kind: 'ratio', atLeast: 1 },
    setup: async (context) => {
      const stack = await context.stack();
      const kept = await keepOutput(stack, bulkBytes / streams);
      await readOutput(stack, kept, streams, { verify: true });
      const target = await startTarget();
      const ssh = await startSshTunnel(target.port);
      return {
        round: async () => ({
          subject: await readOutput(stack, kept, streams),
          peer: await readRate(ssh.port, streams, bulkBytes),
          floor: await readRate(target.port, streams, bulkBytes),
        }),
        teardown: async () => {
          await ssh.stop();
          await target.stop();
          await endSessions(stack, [kept.sessionId]);
        },
      };
    },
  })),
];

/** Running a small program in a running session. */
import { exec, removeContainer, startContainer } from '../peers/docker.ts';
import { type Row, median } from '../row.ts';
import { dialSession, endSessions, spawnOf, startSession } from '../subjects/session.ts';

const perRound = 20;

export const rows: Row[] = [
  {
    name: 'exec',
    title: 'exec of `true` through edge, tunnel and init, from the dial of a new socket until the exit code is known',
    peer: "`docker exec` through the engine's API, on the same engine",
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 0.15 },
    setup: async (context) => {
      const stack = await context.stack();
      const peer = await startContainer(stack.agents[0]!.engine.docker, 0, { cpu: 1, memMiB: 256 });
      const { id } = await startSession(stack, { resources: { cpu: 1, mem: '256m' } });
      const ours = async (): Promise<number> => {
        const socket = await dialSession(stack, id);
        const { exitCode } = await socket.open(spawnOf(['true'])).exit();
        socket.cut();
        return exitCode ?? -1;
      };
      return {
        round: async () => ({
          subject: await medianTime(ours),
          peer: await medianTime(async () => exec(peer.container, ['true'])),
        }),
        teardown: async () => {
          await removeContainer(peer);
          await endSessions(stack, [id]);
        },
      };
    },
  },
];

/** Median of the times in ms; the job must answer exit code 0. */
async function medianTime(job: () => Promise<number>): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < perRound; n++) {
    const startedMs = performance.now();
    const code = await job();
    if (code !== 0) throw new Error(`true ended with ${code}`);
    times.push(performance.now() - startedMs);
  }
  return median(times)!;
}

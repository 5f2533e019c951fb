/** A session ends while its kernels are started: whoever waits for them is told. */
import { describe, expect, it } from 'vitest';
import { processIdOf } from '../../../agent-daemon/kernels/spawner.ts';
import { Refusal } from '../../../schema/errors.ts';
import { until } from '../../support/wait.ts';
import { freshKernelId, freshRunId, KernelBench, withBench } from './bench.ts';
import type { Step } from './fake-kernel.ts';

const withOwn = (act: (own: KernelBench) => Promise<void>) => withBench(new KernelBench(), act);
const unreachable = () => new Refusal('session_not_running', 'Not now.');
const die = JSON.stringify([{ do: 'die', signal: 'SIGKILL' }] satisfies Step[]);

/** A kernel that was started anew in vain, and a run that waits for it. */
async function waiting(own: KernelBench) {
  const id = freshKernelId();
  await own.act(id, { kind: 'startSpec', spec: 'fake', restarts: { perMinute: 2 } });
  own.spawnRefusal = unreachable();
  await own.run(die, { spec: 'fake', kernelId: id }).outcome();
  await until(() => own.refusedSpawns > 0, { what: 'the kernel not to be started' });
  const run = own.run('[]', { spec: 'fake', kernelId: id });
  const viewer = own.channels({ kernelId: id, writer: 'w', after: { starts: 2, offset: 0 } });
  await until(() => run.stream.info, { what: 'the run to be taken' });
  return { id, run, viewer };
}

describe('the end of a session', () => {
  it('is the end of a kernel of Jupyter that could not be started anew yet', async () =>
    withOwn(async (own) => {
      const { id, run, viewer } = await waiting(own);
      own.hasEnded = true;
      own.spawnRefusal = undefined;
      expect(await run.outcome()).toEqual({ reason: 'not-started' });
      expect((await own.list()).find((each) => each.id === id)).toMatchObject({ state: 'dead', starts: 2 });
      await expect(viewer.done).rejects.toMatchObject({ code: 'session_output_gone' });
      await expect(own.act(id, { kind: 'restart' })).rejects.toMatchObject({ code: 'session_ended' });
    }));

  it('with all that is kept of it leaves nobody waiting either', async () =>
    withOwn(async (own) => {
      const { run, viewer } = await waiting(own);
      await own.kernels.remove();
      expect(await run.outcome()).toEqual({ reason: 'not-started' });
      await expect(viewer.done).rejects.toMatchObject({ code: 'session_output_gone' });
    }));

  it('is told to whoever reads a kernel that ran till then', async () =>
    withOwn(async (own) => {
      const id = freshKernelId();
      await own.act(id, { kind: 'startSpec', spec: 'fake', restarts: { perMinute: 2 } });
      const viewer = await own.channels({ kernelId: id }).whenOpen();
      // The agent does not read its log any more when its process ends.
      await own.kernels.remove();
      await own.supervisor.link.signal(processIdOf(id, 1), 9);
      await viewer.done;
      expect(viewer.events.at(-1)).toMatchObject({ kind: 'ended', signal: 'SIGKILL', restarts: false });
    }));

  it('is the end of a runner that is started anew', async () =>
    withOwn(async (own) => {
      const id = freshKernelId();
      await own.act(id, { kind: 'start', language: 'bash' });
      own.spawnRefusal = unreachable();
      await expect(own.act(id, { kind: 'restart' })).rejects.toMatchObject({ code: 'session_not_running' });
      expect((await own.list()).find((each) => each.id === id)).toMatchObject({
        state: 'dead',
        death: { reason: 'not-started' },
      });
      await expect(own.run('echo 1', { kernelId: id }).done).rejects.toMatchObject({ code: 'kernel_dead' });
      own.spawnRefusal = undefined;
      expect(await own.act(id, { kind: 'restart' })).toMatchObject({ state: 'idle' });
      const run = own.execute({ runId: freshRunId(), kernelId: id, request: { mode: 'query', code: 'sleep 60' } });
      await run.event('begun');
      const next = own.run('echo 2', { kernelId: id });
      await until(() => next.stream.info, { what: 'the next run to be taken' });
      await own.kernels.remove();
      expect(await next.outcome()).toEqual({ reason: 'killed' });
      run.cut();
    }));
});

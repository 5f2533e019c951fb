/** A session ends while its kernels are started: whoever waits for them is told. */
import { describe, expect, it } from 'vitest';
import { Refusal } from '../../../schema/errors.ts';
import { newId } from '../../../schema/ids.ts';
import { until } from '../../support/wait.ts';
import { freshRunId, KernelBench } from './bench.ts';
import { fakeArgv } from './bridge-process.ts';
import type { Step } from './fake-kernel.ts';

const kernelId = () => newId('kernel', Date.now(), crypto.getRandomValues(new Uint8Array(10)));
const withBench = async (act: (own: KernelBench) => Promise<void>) => {
  const own = new KernelBench();
  await own.start();
  try {
    own.putSpecs({ fake: { argv: fakeArgv, display_name: 'Fake', language: 'fake' } });
    await act(own);
  } finally {
    await own.stop();
  }
};
const unreachable = () => new Refusal('session_not_running', 'Not now.');
const die = JSON.stringify([{ do: 'die', signal: 'SIGKILL' }] satisfies Step[]);

/** A kernel that was started anew in vain, and a run that waits for it. */
async function waiting(own: KernelBench) {
  const id = kernelId();
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
    withBench(async (own) => {
      const { id, run, viewer } = await waiting(own);
      own.hasEnded = true;
      own.spawnRefusal = undefined;
      expect(await run.outcome()).toEqual({ reason: 'not-started' });
      expect((await own.list()).find((each) => each.id === id)).toMatchObject({ state: 'dead', starts: 2 });
      await expect(viewer.done).rejects.toMatchObject({ code: 'session_output_gone' });
      await expect(own.act(id, { kind: 'restart' })).rejects.toMatchObject({ code: 'session_ended' });
    }));

  it('with all that is kept of it leaves nobody waiting either', async () =>
    withBench(async (own) => {
      const { run, viewer } = await waiting(own);
      await own.kernels.remove();
      expect(await run.outcome()).toEqual({ reason: 'not-started' });
      await expect(viewer.done).rejects.toMatchObject({ code: 'session_output_gone' });
    }));

  it('is the end of a runner that is started anew', async () =>
    withBench(async (own) => {
      const id = kernelId();
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

/** A kernel that is slow to start, over a real init and bridge: who asked for it waits, and nobody else. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { limits } from '../../../schema/protocol/limits.ts';
import { until } from '../../support/wait.ts';
import { VirtualTime } from '../../support/virtual-time.ts';
import { freshKernelId, KernelBench, withBench } from './bench.ts';
import { fakeArgv } from './bridge-process.ts';

/** With a kernelspec `slow`, whose kernel starts once `go` was called. */
const withSlow = (act: (own: KernelBench, go: () => void) => Promise<void>) =>
  withBench(new KernelBench(), async (own) => {
    const wait = 'while [ ! -e "$HOME/go" ]; do sleep 0.02; done; exec "$@"';
    own.putSpecs({ slow: { argv: ['sh', '-c', wait, 'sh', ...fakeArgv], display_name: 'Slow', language: 'fake' } });
    await act(own, () => writeFileSync(`${own.dir.path}/home/go`, ''));
  });

describe('a kernel that is slow to start', () => {
  it('is told as starting before whoever called gives it up, and runs later what it was given', () =>
    withSlow(async (own, go) => {
      const [id, time] = [freshKernelId(), new VirtualTime()];
      const answered = own.call(id, { kind: 'startSpec', spec: 'slow' }, time);
      await until(async () => (await own.list()).length === 1, { what: 'it to be started' });
      await time.pass(limits.callDeadlineMs - 1);
      expect(await answered).toMatchObject({ ok: true, result: { kernel: { id, state: 'starting' } } });
      const run = own.run('[{"do":"print","text":"there"}]', { kernelId: id });
      await until(() => run.stream.info, { what: 'the run to be taken' });
      go();
      expect(await run.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(run.text()).toBe('there');
    }));

  it('keeps nobody from running code in others, and tells at once that a run was taken', () =>
    withSlow(async (own, go) => {
      const slow = own.run('[{"do":"print","text":"slow"}]', { spec: 'slow' });
      await until(() => slow.stream.info, { what: 'the run to be taken' });
      const other = own.run('echo other', { language: 'bash' });
      expect(await other.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      const [bash] = (await own.list()).filter(({ language }) => language === 'bash');
      expect(await own.act(bash!.id, { kind: 'restart' })).toMatchObject({ state: 'idle', starts: 2 });
      expect(slow.isDone).toBe(false);
      go();
      expect(await slow.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(slow.text()).toBe('slow');
    }));

  it('and has no program after all is none: that is what its runs are refused with', () =>
    withSlow(async (own) => {
      own.putSpecs({ none: { argv: ['/nowhere/kernel'], display_name: 'None', language: 'fake' } });
      const twice = ['first', 'second'].map((runId) => own.run('[]', { spec: 'none', runId }));
      for (const run of twice) await expect(run.done).rejects.toMatchObject({ code: 'kernel_spec_unusable' });
      await expect(own.run('[]', { spec: 'none', runId: 'first' }).done).rejects.toMatchObject({
        code: 'kernel_spec_unusable',
      });
      expect(await own.list()).toEqual([]);
    }));
});

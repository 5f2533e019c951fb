/** What is kept of runs that ended, over a real init: enough to come back to one, and no more than that. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { freshRunId, KernelBench, withBench } from './bench.ts';

class CountingDisk extends KernelBench {
  /** To the file of kernels and runs. */
  writtenBytes = 0;

  override ports() {
    const ports = super.ports();
    const { disk } = ports;
    const open: typeof disk.open = async (path, ...how) => {
      const file = await disk.open(path, ...how);
      if (!path.startsWith(this.kernelsPath)) return file;
      const write = file.write.bind(file);
      const counting = (...what: Parameters<typeof write>) => {
        this.writtenBytes += what[2];
        return write(...what);
      };
      return Object.assign(file, { write: counting });
    };
    return { ...ports, disk: { ...disk, open } };
  }
}

/** Code that says nothing, of so many bytes. */
const long = (bytes: number) => `# ${'x'.repeat(bytes)}`;

describe('runs that ended', () => {
  it('are kept without what was asked: the next one costs as much as the first', () =>
    withBench(new CountingDisk(), async (own) => {
      const request = { mode: 'query' as const, code: `print("first") ${long(100 * 1024)}` };
      const first = { runId: freshRunId(), request };
      await own.execute(first).outcome();
      for (let n = 0; n < 100; n++) await own.run(long(100 * 1024)).outcome();
      own.writtenBytes = 0;
      for (let n = 0; n < 10; n++) await own.run('1').outcome();
      // That of one run, of the kernel, and perhaps of one time that all is written anew.
      expect(own.writtenBytes).toBeLessThan(1024 * 1024);
      expect(readFileSync(own.kernelsPath).byteLength).toBeLessThan(5 * 1024 * 1024);
      // And all the same the first is known, here and by another agent.
      for (const again of [() => Promise.resolve(), () => own.restart()]) {
        await again();
        const repeated = own.execute(first);
        expect(await repeated.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
        expect(repeated.text()).toBe('first\n');
        await expect(own.run('2', { runId: first.runId }).done).rejects.toMatchObject({ code: 'kernel_run_conflict' });
      }
    }));

  it('say where the log of a kernel goes on, of one that was quiet for long too', () =>
    withBench(new CountingDisk(), async (own) => {
      await own.run('echo old', { language: 'bash' }).outcome();
      const run = (code: string) => own.run(code, { language: 'python' }).outcome();
      // More than are known after their end, and then so much that all is written anew.
      for (let n = 0; n < 25; n++) await Promise.all(Array.from({ length: 41 }, () => run('1')));
      for (let n = 0; n < 50; n++) await run(long(100 * 1024));
      await own.restart();
      const next = own.run('echo new', { language: 'bash' });
      expect(await next.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(next.text()).toBe('new\n');
    }));
});

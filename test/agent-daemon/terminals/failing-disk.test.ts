/** A terminal of a session whose disk fails for a while when another agent takes it up. Over a real init. */
import { expect, it } from 'vitest';
import { until } from '../../support/wait.ts';
import { TerminalBench, typing } from './bench.ts';

class FailingDisk extends TerminalBench {
  /** What is refused: a look at what is kept of a process, or reading the screen that is kept. */
  refuses: 'looks' | 'screens' | undefined;
  refusals = 0;

  override ports() {
    const ports = super.ports();
    const { disk } = ports;
    const refuse = () => {
      this.refusals++;
      return Promise.reject(Object.assign(new Error('i/o error'), { code: 'EIO' }));
    };
    const stat: typeof disk.stat = (path) =>
      this.refuses === 'looks' && path.endsWith('/process') ? refuse() : disk.stat(path);
    const readFile: typeof disk.readFile = (path) =>
      this.refuses === 'screens' && path.endsWith('/screen') ? refuse() : disk.readFile(path);
    return { ...ports, disk: { ...disk, stat, readFile } };
  }
}

it.each(['looks', 'screens'] as const)('is shown and typed into as before, also after %s that failed', async (what) => {
  const bench = await new FailingDisk().start();
  try {
    const id = await bench.open('stty -echo; echo ready; while read -r line; do echo "[$line]"; done');
    const before = bench.view(id, typing());
    await before.whenText('ready');
    before.stream.input('one\n');
    await before.whenText('[one]');
    await bench.leave();
    bench.refuses = what;
    const started = bench.start();
    await until(() => bench.refusals > 0, { what: 'a refusal' });
    bench.refuses = undefined;
    await started;
    // It is taken up within a second or so.
    const after = await until(
      async () => {
        const viewer = bench.view(id, typing());
        await viewer.event('screen');
        return viewer;
      },
      { what: 'the screen', everyMs: 200 },
    );
    expect((await after.rows()).join(' ')).toMatch(/ready.*\[one\]/);
    after.stream.input('two\n');
    await after.whenText('[two]');
  } finally {
    await bench.stop();
  }
});

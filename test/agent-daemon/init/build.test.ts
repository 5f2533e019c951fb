import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { runToEnd, start } from '../../support/process.ts';
import { byTier, tier } from '../../support/tier.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { initFolder, shell, TestSession } from './harness.ts';

const build = `${initFolder}build.sh`;
const withoutLeaks = { ASAN_OPTIONS: 'detect_leaks=0' }; // the leak checker traces its process, which init forbids
const suites = ['process', 'output', 'input', 'stdio', 'hostile', 'sftp', 'relay', '../kernels/bridge'];

it('is built from its source to the same bytes', async () => {
  await runToEnd(build, ['--check']);
});

it.runIf(tier === 'full')('is built for aarch64 to the same bytes', { timeout: 300_000 }, async () => {
  await runToEnd(build, ['--check', 'aarch64']);
});

it.each(['wire', 'ring', 'sftp', 'zmtp'])('[I2] [T6] withstands a fuzzer: %s', { timeout: 600_000 }, async (target) => {
  using scratch = tmpDir('fuzz');
  const fuzzer = `${scratch.path}/${target}`;
  await runToEnd(build, ['--fuzz', target, fuzzer]);
  const seconds = byTier({ daily: 10, full: 180 });
  const output = await runToEnd(fuzzer, [`-max_total_time=${seconds}`, '-max_len=4096'], { cwd: scratch.path });
  const runs = Number(/Done (\d+) runs/.exec(output)?.[1]);
  expect(runs).toBeGreaterThan(1000);
});

it('does nothing undefined under a long random use, over reconnects', { timeout: 240_000 }, async () => {
  using scratch = tmpDir('san');
  const binary = `${scratch.path}/init`;
  await runToEnd(build, ['--sanitize', binary]);
  await using session = new TestSession({
    binary,
    prefix: ['env', 'ASAN_OPTIONS=detect_leaks=0'],
    args: ['--memory', '4000000'],
  });
  await session.start();
  for (let round = 0; round < byTier({ daily: 12, full: 200 }); round++) {
    const specs = Array.from({ length: 12 }, (_, i) =>
      shell(`head -c ${(round * 7919 + i * 104_729) % 300_000} /dev/urandom; cat | wc -c >&2; exit ${i}`, {
        ...(i % 4 === 0 ? { tty: { rows: 1, cols: 1 } } : { stdin: 'open' as const }),
        output: { onFull: i % 3 === 0 ? 'drop' : 'block' },
        drainMs: i % 5 === 0 ? 0 : 100,
      }),
    );
    session.acknowledges = round % 2 === 0;
    const born = Promise.allSettled(specs.map((spec) => session.link.spawn(spec)));
    await session.replaceAgent();
    await born;
    await Promise.all(specs.map((spec) => session.link.spawn(spec)));
    // What a pipe holds: a process whose output nobody takes reads nothing, and is killed only after this.
    const bytes = Buffer.alloc((round * 500) % 60_000);
    const input = Promise.allSettled(specs.map((spec) => session.link.writeStdin(spec.processId, 0, bytes)));
    if (round % 3 === 0) await session.replaceAgent();
    await input;
    await Promise.allSettled(specs.map((spec) => session.link.signal(spec.processId, 9, 'session')));
    await until(() => specs.every((spec) => session.record.exits.has(spec.processId)), { what: 'all ends' });
    await Promise.all(specs.map((spec) => session.link.release(spec.processId)));
  }
  await session.link.shutdown(true).catch(() => {});
  await until(() => session.initExited, { what: 'the init to leave' });
  expect(session.child?.output()).toBe('');
  expect(session.child?.exit).toEqual({ code: 0, signal: null });
});

it.runIf(tier === 'full')('keeps its rules under the sanitizers', { timeout: 1_200_000 }, async () => {
  using scratch = tmpDir('san');
  const binary = `${scratch.path}/init`;
  await runToEnd(build, ['--sanitize', binary]);
  const files = suites.map((name) => fileURLToPath(new URL(`${name}.test.ts`, import.meta.url)));
  const vitest = start(process.execPath, ['node_modules/.bin/vitest', 'run', '--project', 'node', ...files], {
    env: { ...withoutLeaks, CAUSEWAY_TEST_INIT: binary },
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
  });
  const { code } = await vitest.exited;
  expect(code, vitest.output()).toBe(0);
});

/** The runner of languages that keep nothing between runs: one contract over those whose interpreter is here. */
import { spawnSync } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import type { Language } from '../../../schema/api/kernel-parts.ts';
import { tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { RunnerProcess } from './runner-process.ts';

interface Words {
  program: string;
  /** Prints `out` and `err` to the two streams, and something beyond ASCII. */
  bothStreams: string;
  remember: string;
  /** Fails when nothing was remembered. */
  recall: string;
  exits3: string;
  /** Prints `begun` and does not end. */
  endless: string;
  /** Prints the length of its standard input. */
  readsStdin: string;
  /** Prints this many characters `x` and a newline. */
  long: (count: number) => string;
}

const table: Partial<Record<Language, Words>> = {
  // Of every Debian.
  perl: {
    program: 'perl',
    bothStreams: 'print "out \u20ac\\n"; print STDERR "err\\n";',
    remember: '$x = 1;',
    recall: 'die "nothing" unless defined $x;',
    exits3: 'exit 3;',
    endless: '$| = 1; print "begun\\n"; 1 while 1;',
    readsStdin: 'my @all = <STDIN>; print scalar(@all), "\\n";',
    long: (count) => `print "x" x ${count}, "\\n";`,
  },
  ruby: {
    program: 'ruby',
    bothStreams: 'puts "out \u20ac"; $stderr.puts "err"',
    remember: '$x = 1',
    recall: 'raise "nothing" if $x.nil?',
    exits3: 'exit 3',
    endless: '$stdout.sync = true; trap("INT", "DEFAULT"); puts "begun"; loop {}',
    readsStdin: 'puts STDIN.readlines.size',
    long: (count) => `puts "x" * ${count}`,
  },
  r: {
    program: 'Rscript',
    bothStreams: 'cat("out \u20ac\\n"); message("err")',
    remember: 'x <- 1',
    recall: 'stopifnot(exists("x"))',
    exits3: 'quit(status = 3)',
    endless: 'cat("begun\\n"); repeat {}',
    readsStdin: 'cat(length(readLines(file("stdin"))), "\\n", sep = "")',
    long: (count) => `cat(strrep("x", ${count}), "\\n", sep = "")`,
  },
};
const isHere = ({ program }: Words) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
const here = (Object.keys(table) as Language[]).filter((language) => isHere(table[language]!));

let open: RunnerProcess[] = [];
afterEach(async () => {
  await Promise.all(open.map((each) => each.stop()));
  open = [];
});
function start(language: Language): RunnerProcess {
  const runner = new RunnerProcess(language);
  open.push(runner);
  return runner;
}

it('has those to look at that the tests bring', () => {
  expect(here).toEqual(tier === 'full' ? ['perl', 'ruby', 'r'] : expect.arrayContaining(['perl']));
});

describe.each(here)('%s', (language) => {
  const words = table[language]!;

  it('[R2, R7, R8] runs each code by itself, tells streams apart, and has its status', async () => {
    const runner = start(language);
    expect(await runner.said('ready')).toMatchObject({ language, version: expect.stringMatching(/^\d+\.\d+/) });
    expect(await runner.run(words.bothStreams)).toEqual({
      stdout: 'out \u20ac\n',
      stderr: 'err\n',
      records: [],
      exitCode: 0,
    });
    expect(await runner.run(words.remember)).toMatchObject({ exitCode: 0 });
    expect((await runner.run(words.recall)).exitCode).not.toBe(0);
    expect(await runner.run(words.exits3)).toMatchObject({ exitCode: 3, stdout: '', stderr: '' });
    expect((await runner.run(words.long(100_000))).stdout).toBe(`${'x'.repeat(100_000)}\n`);
    expect((await runner.run(words.readsStdin)).stdout).toBe('0\n');
    expect(await runner.ran(runner.ask('shell', 'echo hi; exit 5'))).toMatchObject({ stdout: 'hi\n', exitCode: 5 });
  });

  it('[R9] is interrupted, also as its code comes, and goes on', async () => {
    const runner = start(language);
    await runner.said('ready');
    const id = runner.ask('run', words.endless);
    await until(() => runner.text('stdout').includes('begun'), { what: 'begun' });
    runner.interrupt();
    const ran = await runner.ran(id);
    expect(ran).toMatchObject({ exitCode: 130, stdout: 'begun\n' });
    expect(ran.records).toMatchObject([{ kind: 'error', name: 'Interrupted' }]);
    const late = runner.ask('run', `${'# a comment\n'.repeat(2000)}${words.bothStreams}`);
    runner.interrupt();
    await runner.ran(late);
    expect((await runner.run(words.bothStreams)).stdout).toBe('out \u20ac\n');
  });

  it('[R2, R3] says where it is, completes nothing, and ends with its input', async () => {
    const runner = start(language);
    const mark = runner.ask('mark');
    expect(await runner.said('mark', mark)).toEqual({ kind: 'mark', id: mark });
    const asked = runner.ask('complete', 'pri');
    expect(await runner.said('completion', asked)).toMatchObject({ matches: [], replaces: 0 });
    expect(await runner.ran(asked)).toMatchObject({ exitCode: 0 });
    runner.child.stdin.end();
    await until(() => runner.exit, { what: 'its end' });
    expect(runner.exit).toEqual({ code: 0, signal: null });
  });
});

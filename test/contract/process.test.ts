import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runToEnd, start } from '../support/process.ts';
import { startTime, tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

it('collects lines of both streams, parses JSON ones, and waits for one by its message', async () => {
  const program = start('sh', ['-c', `echo plain; echo '{"msg":"ready","port":7}'; echo oops >&2; sleep 60`]);
  expect(await program.line('ready')).toMatchObject({ port: 7, from: 'stdout' });
  await program.line(({ text }) => text === 'oops');
  expect(program.lines.map(({ text }) => text).toSorted()).toEqual(['oops', 'plain', '{"msg":"ready","port":7}']);
  expect(await program.stop()).toEqual({ code: null, signal: 'SIGTERM' });
});

it('fails at once, with what it printed, when the program ends before the awaited line', async () => {
  const program = start('sh', ['-c', 'echo why >&2; exit 3'], { name: 'short' });
  await expect(program.line('ready')).rejects.toThrow(/short to say "ready".*it ended with 3[^]*why/);
});

it('hides its own CAUSEWAY_ variables from the program, and appends all output to a file', async () => {
  using dir = tmpDir('prc');
  const logFile = join(dir.path, 'log');
  process.env['CAUSEWAY_SECRET'] = 'hidden';
  const said = await runToEnd('env', [], { env: { CAUSEWAY_GIVEN: 'shown' }, logFile });
  delete process.env['CAUSEWAY_SECRET'];
  expect(said).toContain('CAUSEWAY_GIVEN=shown');
  expect(said).not.toContain('hidden');
  await until(() => readFileSync(logFile, 'utf8').includes('CAUSEWAY_GIVEN=shown'), { what: 'the log file' });
});

it('leaves no program behind when the process that started it is killed', async () => {
  const module = new URL('../support/process.ts', import.meta.url).pathname;
  const script = `const { start } = await import('${module}'); console.log(JSON.stringify({ msg: 'started', child: start('sleep', ['600']).pid }));`;
  const parent = start(process.execPath, ['--input-type=module', '--eval', script]);
  const child = Number((await parent.line('started'))['child']);
  expect(startTime(child)).toBeDefined();
  await parent.kill9();
  await until(() => startTime(child) === undefined, { what: 'the child to be gone' });
});

it('says what it waited for, how long, and what the last look showed', async () => {
  await expect(until(() => 0, { what: 'snow', timeoutMs: 60, everyMs: 20 })).rejects.toThrow(
    /gave up waiting for snow after \d+ ms, \d looks: last answer: 0/,
  );
  const broken = () => {
    throw new Error('cloudy');
  };
  await expect(until(broken, { what: 'sun', timeoutMs: 1 })).rejects.toThrow(/sun.*last error: cloudy/);
});

it('makes directories with short names that are gone afterwards', () => {
  const dir = tmpDir('t');
  writeFileSync(join(dir.path, 'file'), '');
  expect(dir.path.length).toBeLessThan(40);
  dir.remove();
  expect(existsSync(dir.path)).toBe(false);
});

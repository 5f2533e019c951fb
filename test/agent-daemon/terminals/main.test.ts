/** The main process of a session with a terminal: one of its terminals, and followed by `run -it` as ever. Over a real init. */
import { afterEach, expect, it } from 'vitest';
import { until } from '../../support/wait.ts';
import { TerminalBench, typing } from './bench.ts';

let bench: TerminalBench;
afterEach(async () => {
  await bench?.stop();
});

async function started(script: string): Promise<string> {
  bench = await new TerminalBench().start();
  await bench.startMain(script);
  const [main] = await bench.list();
  expect(main).toMatchObject({ name: 'main', state: 'running', argv: ['/bin/bash', '--norc', '-c', script] });
  return main!.id;
}
const echo = 'stty -echo; while read -r line; do echo "[$line]"; done';

it('[S18] [S19] is seen and typed into by who attaches, beside the client that started it', async () => {
  const id = await started(`printf '\\e[31mready\\e[0m\\r\\n'; ${echo}`);
  const client = bench.follow();
  await client.whenText('ready');
  client.input('one\n');
  await client.whenText('[one]');
  const viewer = bench.view(id, typing());
  await viewer.whenText('[one]');
  viewer.stream.input('two\n');
  await Promise.all([client.whenText('[two]'), viewer.whenText('[two]')]);
  client.input('three\n');
  await viewer.whenText('[three]');
  expect(client.text().match(/\[\w+\]/g)).toEqual(['[one]', '[two]', '[three]']);
  expect((await bench.list())[0]).toMatchObject({ viewers: 2, writers: 2 });
  // Each goes on where its own bytes end, also when the agent died.
  client.cut();
  await bench.restart();
  const again = bench.follow({ after: { stdout: 0, stderr: 0 } });
  await until(() => again.info !== undefined, { what: 'opened' });
  expect(again.info?.inputOffset).toBe('one\nthree\n'.length);
  again.inputAt('one\n'.length, 'three\nfour\n');
  await again.whenText('[four]');
  expect(again.text().match(/\[\w+\]/g)).toEqual(['[one]', '[two]', '[three]', '[four]']);
  const late = bench.view(id);
  await late.event('screen');
  expect((await late.rows()).join(' ')).toMatch(/ready.*\[one\].*\[two\].*\[three\].*\[four\]/);
});

it('has the size of who typed last, and is answered once, by the client that started it while that is there', async () => {
  const id = await started(
    `stty raw -echo; printf 'ab\\e[6n'; head -c 6 | od -An -c; stty sane -echo; ${echo.replace('echo "[$line]"', 'stty size')}`,
  );
  const viewer = bench.view(id, typing({ rows: 30, columns: 100 }));
  // Nobody answers for it now: the agent does.
  await viewer.whenText('033   [   1   ;   3   R');
  const client = bench.follow();
  await until(() => client.info !== undefined, { what: 'opened' });
  client.control({ kind: 'resize', rows: 12, columns: 50 });
  client.input('x\n');
  await viewer.whenText('12 50');
  viewer.stream.input('y\n');
  await client.whenText('30 100');
  expect(viewer.events.filter(({ kind }) => kind === 'window')).toContainEqual({
    kind: 'window',
    rows: 12,
    columns: 50,
  });
});

it('leaves the answer to the terminal of the client that started it', async () => {
  await started(`read -r; stty raw -echo; printf 'ab\\e[6n'; head -c 2 | od -An -c; sleep 100`);
  const client = bench.follow();
  await until(() => client.info !== undefined, { what: 'opened' });
  client.input('go\n');
  await client.whenText('\x1b[6n');
  client.input('OK');
  await client.whenText('O   K');
});

it('shows its exact screen behind a flood that its log does not keep', async () => {
  const id = await started(`printf '\\e[?1h\\e[3;20r'; seq 1 500000; printf 'last\\e[?25l'; sleep 1000`);
  const fast = bench.view(id);
  await fast.whenText('last');
  const late = bench.view(id);
  await late.event('screen');
  expect(await late.drawn()).toBe(await fast.drawn());
});

it('is not hung up as a terminal, and ends with its process', async () => {
  const id = await started('read -r; exit 7');
  await expect(bench.act(id, { kind: 'close' })).rejects.toMatchObject({ code: 'terminal_conflict' });
  const viewer = bench.view(id, typing());
  await viewer.event('screen');
  viewer.stream.input('\n');
  expect(await viewer.event('exit')).toMatchObject({ exitCode: 7, reason: 'exited' });
  expect((await bench.list())[0]).toMatchObject({ state: 'ended', exit: { exitCode: 7 } });
});

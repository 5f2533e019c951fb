/**
 * The main job, as the README tells it: a person trains a classifier with one command, leaves, comes back from another
 * terminal, and the control plane may die in between.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cli } from '../support/cli.ts';
import { importPython } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { until } from '../support/wait.ts';

const root = join(import.meta.dirname, '../..');
const digits = readFileSync(join(root, 'examples/digits.py'));
let stack: Stack;
let cli: Cli;
const run = (args: string[], input?: string | Uint8Array) => cli.run(args, input);

beforeAll(async () => {
  stack = await startStack();
  cli = new Cli(stack.url, stack.client.token!, stack.dir);
  const { engine } = stack.agents[0]!;
  await importPython(engine.docker, engine.socket);
});
afterAll(() => stack.stop());

it('trains on digits with the program from standard input and prints its accuracy', async () => {
  const ran = await run(['run', '-q', '--image', 'causeway/python', '--', 'python3', '-'], digits);
  expect(ran).toMatchObject({ status: 0, stderr: '' });
  expect(Number(/^accuracy ([0-9.]+)$/m.exec(ran.stdout)?.[1])).toBeGreaterThan(0.9);
  expect(ran.stdout.match(/^epoch/gm)).toHaveLength(20);
});

it('goes on detached; another terminal follows it over a kill -9 of the control plane and misses nothing', async () => {
  const started = await run(['run', '-d', '--name', 'digits', '--', 'python3', '-'], digits);
  expect(started).toMatchObject({ status: 0, stdout: 'digits\n' });
  const follower = cli.start(['logs', '-f', 'digits'], '');
  await until(() => /^epoch {2}3/m.test(follower.seen.stdout), { what: 'three epochs to be seen' });
  stack.edge.killWorkerd9();
  const followed = await follower.done;
  expect(followed.status, followed.stderr).toBe(0);
  expect(followed.stdout.match(/^epoch +[0-9]+/gm)?.map((line) => Number(line.slice(5)))).toEqual(
    Array.from({ length: 20 }, (_, epoch) => epoch + 1),
  );
  expect(followed.stdout).toMatch(/^accuracy 0\.9/m);
  expect((await run(['logs', '--since-offset', '10', '--stream', 'stdout', 'digits'])).stdout).toBe(
    followed.stdout.slice(10),
  );
});

it('passes exit codes, signals, both streams and standard input through', async () => {
  expect(await run(['run', '-q', '--', 'sh', '-c', 'echo out; echo err >&2; exit 3'])).toMatchObject({
    status: 3,
    stdout: 'out\n',
    stderr: 'err\n',
  });
  expect((await run(['run', '-q', '--', 'sh', '-c', 'kill -9 $$'])).status).toBe(137);
  expect(await run(['run', '--', 'no-such-command'])).toMatchObject({ status: 127 });
  const binary = Buffer.alloc(3 * 1024 * 1024, 'binary \xff\x00 input ', 'latin1');
  const counted = await run(['run', '--', 'sha256sum'], binary);
  const { createHash } = await import('node:crypto');
  expect(counted.stdout).toBe(`${createHash('sha256').update(binary).digest('hex')}  -\n`);
});

it('runs more processes in a session, copies files in and out, and ends it', async () => {
  expect(await run(['run', '-d', '--name', 'bench'])).toMatchObject({ status: 0, stdout: 'bench\n' });
  await until(async () => (await run(['ps', '--json'])).stdout.includes('"state":"RUNNING"'), {
    what: 'the session to run',
  });
  expect(await run(['exec', '-i', 'bench', '--', 'sh', '-c', 'cat; exit 4'], 'typed')).toMatchObject({
    status: 4,
    stdout: 'typed',
  });
  const local = join(stack.dir, 'copied.txt');
  writeFileSync(local, 'carried\n');
  expect((await run(['cp', local, 'bench:in/here.txt'])).status).toBe(0);
  expect((await run(['exec', 'bench', '--', 'cat', '/home/work/in/here.txt'])).stdout).toBe('carried\n');
  rmSync(local);
  expect((await run(['cp', 'bench:in/here.txt', local])).status).toBe(0);
  expect(readFileSync(local, 'utf8')).toBe('carried\n');
  expect(await run(['stop', 'bench'])).toMatchObject({ status: 0, stdout: 'bench\n' });
  expect(JSON.parse((await run(['inspect', 'bench'])).stdout)).toMatchObject({
    state: 'TERMINATED',
    result: { reason: 'stopped' },
  });
});

it('says what is wrong and what to type', async () => {
  expect(await run(['exec', 'nobody', '--', 'true'])).toMatchObject({
    status: 1,
    stderr: 'causeway: there is no session nobody\n  try: causeway ps -a\n',
  });
  const huge = await run(['run', '--mem', '900t', '--', 'true']);
  expect(huge.status).toBe(125);
  expect(huge.stderr).toContain('the most is');
  expect((await run(['logs', '--tail', 'x', 'digits'])).status).toBe(2);
  expect(stack.leaks([stack.client.password, stack.client.token!])).toEqual([]);
});

it.each<[string[], number, string]>([
  [['run', '--mem', 'lots', '--', 'true'], 125, '--mem: must be an amount: 0.5 or 4 of cpu, 512m or 4g of mem'],
  [['run', '--cpu', 'many', '--', 'true'], 125, '--cpu: must be an amount: 0.5 or 4 of cpu'],
  [['run', '--name', 'No Such', '--', 'true'], 125, '--name: must be 1 to 63 of a-z, 0-9 and -'],
  [['run', '-e', '1A=b', '--', 'true'], 125, '-e: must be a name of letters, digits and _'],
  [['run', '-e', '=b', '--', 'true'], 2, 'try: -e NAME=VALUE'],
  [['run', '--timeout', 'soon', '--', 'true'], 2, 'try: --timeout 15m'],
  [['run', '--image', '../../etc', '--', 'true'], 125, 'try: causeway images'],
  [['logs', '--since-offset', '-5', 'digits'], 2, 'try: --since-offset 100'],
  [['ps', '--state', 'asleep'], 1, '--state: must be live, or one or more of PENDING'],
  [['ps', '--limit', 'x'], 2, 'try: --limit 100'],
  [['inspect', 'ses_01m86g3qx3rbx8h4f53n9e695w_1_1'], 1, 'try: causeway ps -a'],
  [['agent', 'token', 'create', '--ttl', '5d'], 2, 'try: --ttl 15m'],
  [['events', '--since', 'now'], 1, '--since: must be the id of an event'],
  [['cp', 'a', 'b'], 2, 'try: causeway cp data.csv SESSION:data.csv'],
  [['frob'], 2, 'try: causeway --help'],
  [['logs', '--colour'], 2, 'try: causeway logs --help'],
])('answers causeway %s in words, without a pattern', async (args, status, words) => {
  const ran = await run(args);
  expect(ran.stderr).toContain(words);
  expect(ran.stderr).not.toMatch(/Invalid|pattern|expected| at .*\.ts/);
  expect(ran).toMatchObject({ status, stdout: '' });
});

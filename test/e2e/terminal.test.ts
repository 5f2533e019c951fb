/** What a person does to a running command from a terminal, what cuts do to it, and large files both ways. */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, createReadStream, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cli, peakOf } from '../support/cli.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { busyboxImage } from '../support/images.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { byTier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const image = ['--image', busyboxImage, '--cpu', '0.1', '--mem', '64m'];
const ctrlC = '\x03';
let stack: Stack;
let cli: Cli;
let proxy: FaultProxy;
/** The same CLI, through the proxy. */
let far: Cli;

beforeAll(async () => {
  stack = await startStack();
  proxy = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
  cli = new Cli(stack.url, stack.client.token!, stack.dir);
  far = new Cli(`http://127.0.0.1:${proxy.port}`, stack.client.token!, stack.dir);
});
afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
});

it('asks a command to stop at the first Ctrl-C, and ends as it ends', async () => {
  const script = 'trap "echo bye; exit 7" TERM; echo up; while :; do sleep 0.1; done';
  const run = cli.terminal(['run', '--name', 'polite', ...image, '--', 'sh', '-c', script]);
  await run.says(/up\r\n/);
  run.type(ctrlC);
  const { status, stdout } = await run.done;
  expect(stdout).toMatch(/asked polite to stop; Ctrl-C again leaves it alone[^]*bye/);
  expect(status).toBe(7);
});

it('leaves a command alone at the second Ctrl-C, and says how to see it', async () => {
  const script = 'trap "" TERM; echo up; while :; do sleep 0.1; done';
  const run = cli.terminal(['run', '--name', 'stubborn', ...image, '--', 'sh', '-c', script]);
  await run.says(/up\r\n/);
  run.type(ctrlC);
  await run.says(/Ctrl-C again/);
  run.type(ctrlC);
  const { status, stdout } = await run.done;
  expect(stdout).toContain('stubborn goes on; see it: causeway logs -f stubborn');
  expect(status).toBe(130);
  await cli.run(['stop', '-f', 'stubborn']);
});

it('gives a command a terminal, whose Ctrl-C goes to the command, and leaves it with Ctrl-P Ctrl-Q', async () => {
  const run = cli.terminal(['run', '-it', '--name', 'shell', ...image, '--', 'sh']);
  await run.says(/\$/);
  run.type('tty; sleep 1000\n');
  await run.says(/\/dev\/pts\//);
  run.type(ctrlC);
  run.type('echo $((6 * 7))\n');
  await run.says(/^42/m);
  // In one piece with what was typed before, and not at once: a part of the keys alone is typed when the next one comes.
  run.type('touch typed\n\x10');
  run.type('\x10\x11');
  expect((await run.done).status).toBe(130);
  expect((await cli.run(['exec', 'shell', '--', 'ls'])).stdout).toContain('typed');
  const again = cli.terminal(['exec', '-it', 'shell', '--', 'sh', '-c', 'stty size; exit 3']);
  expect(await again.done).toMatchObject({ status: 3, stdout: expect.stringMatching(/^\d+ \d+/m) });
  expect(await cli.run(['stop', 'shell'])).toMatchObject({ status: 0 });
});

it('[S16] leads OpenSSH into a session, with its input, both outputs and its status', async () => {
  expect(await cli.run(['run', '-d', '--name', 'far', ...image])).toMatchObject({ status: 0 });
  await stack.client.waitForState((await found('far')).id, ['RUNNING']);
  const ran = await cli.run(['ssh', 'far', 'cat; id -u; echo bad >&2; exit 7'], 'typed\n');
  expect(ran).toMatchObject({ status: 7, stdout: 'typed\n1000\n', stderr: 'bad\n' });
});

it('resumes by itself when the connection is lost, misses nothing, and ends as the command ends', async () => {
  const count = 'i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 5';
  const run = far.start(['run', ...image, '--', 'sh', '-c', count], '');
  for (const line of [5, 20, 35]) {
    await run.says(new RegExp(`^${line}$`, 'm'));
    expect(proxy.reset()).toBeGreaterThan(0);
  }
  proxy.refuse();
  await run.says(/connection was lost/, 'stderr');
  proxy.heal();
  const { status, stdout, stderr } = await run.done;
  expect(stdout.trim().split('\n')).toEqual(Array.from({ length: 60 }, (_, n) => String(n + 1)));
  expect(stderr).toContain('resumed');
  expect(status).toBe(5);
});

it('follows a log over a restart of edge and agent', async () => {
  const count = 'i=0; while [ $i -lt 80 ]; do i=$((i+1)); echo $i; sleep 0.1; done';
  expect(await cli.run(['run', '-d', '--name', 'long', ...image, '--', 'sh', '-c', count])).toMatchObject({
    status: 0,
  });
  const follow = cli.start(['logs', '-f', 'long'], '');
  await follow.says(/^3$/m);
  await Promise.all([stack.edge.restart(), stack.agents[0]!.restart()]);
  const { status, stdout, stderr } = await follow.done;
  expect(stdout.trim().split('\n'), stderr).toEqual(Array.from({ length: 80 }, (_, n) => String(n + 1)));
  expect(status).toBe(0);
});

it('says on stderr which bytes of a log are missing, and where', async () => {
  const made = await stack.client.createSession({
    type: 'batch',
    image: busyboxImage,
    command: ['sh', '-c', 'yes | head -c 2000000'],
    output: { onFull: 'drop', spoolBytes: 65_536 },
  });
  await stack.client.waitForState(made.id, ['TERMINATED']);
  const { stdout, stderr, status } = await cli.run(['logs', made.id]);
  const [, missing] = /^causeway: (\d+) bytes of stdout are missing \(.*\): 0 to \1$/m.exec(stderr) ?? [];
  expect(Number(missing) + stdout.length).toBe(2_000_000);
  expect(status).toBe(0);
});

const pieceBytes = 1024 ** 2;
const fileBytes = byTier({ daily: 24 * 1024 ** 2, full: 1023 * 1024 ** 2 });
/** What garbage collectors leave lying about while a file passes; a part that held the file would be far beyond. */
const growthBytes = 448 * 1024 ** 2;

it(`copies a file of ${fileBytes / 1024 ** 2} MiB in, and out again after the end, in flat memory`, async () => {
  const [there, back] = [join(stack.dir, 'there.bin'), join(stack.dir, 'back.bin')];
  const wanted = writeNoise(there);
  expect(await cli.run(['run', '-d', '--name', 'files', ...image])).toMatchObject({ status: 0 });
  await stack.client.waitForState((await found('files')).id, ['RUNNING']);
  const pids = [stack.edge.workerdPid, stack.agents[0]!.process.pid];
  const before = pids.map(peakOf);

  const up = cli.start(['cp', there, 'files:in/'], '');
  expect(await up.done).toMatchObject({ status: 0 });
  rmSync(there);
  expect((await cli.run(['exec', 'files', '--', 'sha256sum', 'in/there.bin'])).stdout).toContain(wanted);
  expect(await cli.run(['stop', 'files'])).toMatchObject({ status: 0 });
  const down = cli.start(['cp', 'files:in/there.bin', back], '');
  expect(await down.done).toMatchObject({ status: 0 });
  expect(await sha256(back)).toBe(wanted);
  rmSync(back);

  const grown = pids.map((pid, n) => peakOf(pid) - before[n]!);
  console.log(`grown by ${JSON.stringify(grown)}, the CLI's peaks ${up.peakBytes()} and ${down.peakBytes()} bytes`);
  for (const bytes of [...grown, up.peakBytes(), down.peakBytes()]) expect(bytes).toBeLessThan(growthBytes);
});

it('refuses to copy more than 1 GiB before it sends anything', async () => {
  const huge = join(stack.dir, 'huge.bin');
  writeFileSync(huge, '');
  truncateSync(huge, 1024 ** 3 + 1);
  const ran = await cli.run(['cp', huge, 'files:']);
  rmSync(huge);
  expect(ran).toMatchObject({ status: 2, stdout: '' });
  expect(ran.stderr).toMatch(/huge\.bin has 1.* GiB; one copy is at most 1 GiB[^]*try: /);
});

it('ends in peace when the reader of its output has seen enough', async () => {
  const shell = `"$0" "$1" logs long | head -n 1`;
  const env = { ...process.env, CAUSEWAY_URL: stack.url, CAUSEWAY_TOKEN: stack.client.token!, NO_COLOR: '1' };
  const main = join(import.meta.dirname, '../../cli/index.ts');
  expect(execFileSync('sh', ['-c', shell, process.execPath, main], { env, encoding: 'utf8' })).toBe('1\n');
});

async function found(name: string) {
  return until(async () => (await stack.client.sessions()).find((each) => each.name === name), { what: name });
}

/** Writes `fileBytes` of noise that nothing can compress. Returns its SHA-256. */
function writeNoise(path: string): string {
  const hash = createHash('sha256');
  const file = openSync(path, 'w');
  for (let left = fileBytes; left > 0; left -= pieceBytes) {
    const piece = randomBytes(pieceBytes);
    hash.update(piece);
    writeSync(file, piece);
  }
  closeSync(file);
  return hash.digest('hex');
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

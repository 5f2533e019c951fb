/** Terminals that go on, over the real stack: two viewers, deaths in the middle of a full-screen program, floods and pastes. */
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Terminal } from '../../schema/api/terminal-parts.ts';
import { Cli, type Running } from '../support/cli.ts';
import { openTerminals } from '../support/jupyter-terminals.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { busyboxImage } from '../support/images.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { byTier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

let stack: Stack;
let cli: Cli;
let proxy: FaultProxy;
/** The same CLI, through the proxy. */
let far: Cli;
let path: string;

beforeAll(async () => {
  stack = await startStack();
  proxy = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
  cli = new Cli(stack.url, stack.client.token!, stack.dir);
  far = new Cli(`http://127.0.0.1:${proxy.port}`, stack.client.token!, join(stack.dir, 'far'));
  const image = ['--image', busyboxImage, '--cpu', '0.5', '--mem', '64m'];
  expect(await cli.run(['run', '-d', '--name', 'desk', ...image])).toMatchObject({ status: 0 });
  const session = await until(async () => (await stack.client.sessions()).find((each) => each.name === 'desk'), {
    what: 'the session',
  });
  await stack.client.waitForState(session.id, ['RUNNING']);
  path = `/v1/sessions/${session.id}/terminals`;
});
afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
});

const terminals = async () => ((await stack.client.api('GET', path)) as { items: Terminal[] }).items;
const says = (running: Running, text: string) =>
  until(() => running.seen.stdout.includes(text), {
    what: `${text} in ${JSON.stringify(running.seen.stdout.slice(-800))}`,
    timeoutMs: 60_000,
  });
const left = async (running: Running) => {
  running.type('\x10\x11');
  return running.done;
};

it('[S18] is seen and typed into by two at once, left and come back to, and ends with its status', async () => {
  const first = cli.terminal(['attach', 'desk']);
  await says(first, '$ ');
  first.type('word=kept; echo one-$((20 + 1))\n');
  await says(first, 'one-21');
  const second = cli.terminal(['attach', 'desk']);
  await says(second, 'one-21');
  second.type('echo two-$((20 + 2))-$word\n');
  await Promise.all([says(first, 'two-22-kept'), says(second, 'two-22-kept')]);
  const watcher = cli.terminal(['attach', '--read-only', 'desk']);
  await says(watcher, 'two-22-kept');
  expect((await cli.run(['terminals', 'desk'])).stdout).toMatch(/trm_\w+ +running +\d+x\d+ +3 /);
  // In one piece with what was typed before, as of a paste.
  second.type('echo last-$((20 + 3))\n\x10\x11');
  expect((await second.done).stdout).toMatch(/the terminal goes on; see it: causeway attach --terminal \w{6} desk/);
  await says(first, 'last-23');
  first.type('exit 5\n');
  expect((await first.done).status).toBe(5);
  expect((await watcher.done).status).toBe(5);
  expect((await cli.run(['terminals', 'desk'])).stdout).toMatch(/ended \(5\)/);
});

it('[S18] has its full screen after the death of the agent, and after that of workerd', async () => {
  const draw = String.raw`printf '\033[?1049h\033[2J\033[3;5Hfull-screen\033[?25l'; while read -r line; do printf '\033[5;5H<%s>' "$line"; done`;
  const first = cli.terminal(['attach', 'desk', '--', 'sh', '-c', draw]);
  await says(first, 'full-screen');
  first.type('before\n');
  await says(first, '<before>');
  await stack.agents[0]!.kill9();
  await stack.agents[0]!.start();
  first.type('after\n');
  await says(first, '<after>');
  const second = cli.terminal(['attach', 'desk']);
  await says(second, '<after>');
  expect(second.seen.stdout).toMatch(/\x1b\[\?1047h[^]*full-screen[^]*<before>[^]*\x1b\[\?25l[^]*<after>/);
  stack.edge.killWorkerd9();
  first.type('later\n');
  await Promise.all([says(first, '<later>'), says(second, '<later>')]);
  expect((await left(second)).status).toBe(0);
  expect((await left(first)).status).toBe(0);
  const running = (await terminals()).filter(({ state }) => state === 'running');
  for (const { id } of running) await cli.run(['terminals', '--close', id, 'desk']);
  expect((await terminals()).filter(({ state }) => state === 'running')).toEqual([]);
});

it('[S19] takes a paste whole over cuts, and says in one line that the way is cut', async () => {
  const bytes = byTier({ daily: 1024 * 1024, full: 16 * 1024 * 1024 });
  const pasted = randomBytes(bytes / 2).toString('hex');
  const wanted = createHash('sha256').update(pasted).digest('hex');
  const take = `stty raw -echo; printf ready; head -c ${bytes} | sha256sum; stty sane; echo; cat`;
  const run = far.terminal(['attach', 'desk', '--', 'sh', '-c', take]);
  await says(run, 'ready');
  for (let at = 0; at < bytes; at += bytes / 4) {
    run.type(pasted.slice(at, at + bytes / 4));
    await until(() => proxy.reset() > 0, { what: 'a connection to cut' });
  }
  await says(run, wanted);
  proxy.refuse();
  proxy.reset();
  await says(run, 'the connection was lost');
  proxy.heal();
  run.type('healed\n');
  await says(run, 'healed');
  expect((await left(run)).status).toBe(0);
});

it('is left with Ctrl-C by who may only look, and did not know that', async () => {
  const host = cli.terminal(['attach', '--new', 'desk']);
  await says(host, '$ ');
  const narrowed = await stack.client.api('POST', '/v1/tokens', { name: 'reader', role: 'viewer' });
  const { token } = narrowed as { token: string };
  const reader = new Cli(stack.url, token, join(stack.dir, 'reader')).terminal(['attach', 'desk']);
  await says(reader, 'you may look at it');
  host.type('echo shown-$((20 + 1))\n');
  await says(reader, 'shown-21');
  reader.type('\x03');
  expect((await reader.done).status).toBe(0);
  host.type('exit\n');
  expect((await host.done).status).toBe(0);
});

it('is made once where the answer is lost and it is asked for again', async () => {
  const argv = ['sh', '-c', 'echo made; read -r line'];
  const made = async () => (await terminals()).filter((each) => each.argv.join() === argv.join());
  proxy.set('down', { latencyMs: 1000 });
  const run = far.terminal(['attach', 'desk', '--', ...argv]);
  await until(async () => (await made()).length > 0, { what: 'the terminal', everyMs: 20 });
  expect(proxy.reset()).toBeGreaterThan(0);
  proxy.heal();
  await says(run, 'made');
  expect(await made()).toHaveLength(1);
  run.type('\n');
  expect((await run.done).status).toBe(0);
});

it('hears Ctrl-C in a flood', async () => {
  const flood = `trap 'echo; echo heard; exit 9' INT; yes 0123456789012345678901234567890123456789`;
  const run = cli.terminal(['attach', 'desk', '--', 'sh', '-c', flood]);
  await until(() => run.seen.stdout.length > 3_000_000, { what: 'a flood', timeoutMs: 60_000 });
  run.type('\x03');
  const { status, stdout } = await run.done;
  expect(stdout.slice(-4000)).toContain('heard');
  expect(status).toBe(9);
});

it('lets nothing of a program reach beyond the screen of who looks', async () => {
  const attack = String.raw`printf 'a\033]52;c;ZXZpbA==\007b\033]0;title\007c\033[21td\033[31mred\033[0m\n'; sleep 0.2`;
  const safe = await cli.terminal(['exec', '-it', 'desk', '--', 'sh', '-c', attack]).done;
  expect(safe.stdout).toContain('abcd\x1b[31mred\x1b[0m');
  const asked = await cli.terminal(['exec', '-it', '--unsafe-output', 'desk', '--', 'sh', '-c', attack]).done;
  expect(asked.stdout).toContain('\x1b]52;c;ZXZpbA==\x07');
  const attached = await cli.terminal(['attach', 'desk', '--', 'sh', '-c', attack]).done;
  expect(attached.stdout).toMatch(/abcd(\x1b\[0;31m|\x1b\[31m)red/);
  expect(attached.stdout).not.toContain(']52;');
});

it('shows the main process of run -it to who attaches, who types beside it, over the death of the agent', async () => {
  const image = ['--image', busyboxImage, '--cpu', '0.1', '--mem', '64m'];
  const owner = cli.terminal(['run', '-it', '--name', 'main', ...image, '--', 'sh']);
  await says(owner, '$ ');
  owner.type('word=kept; echo one-$((20 + 1))\n');
  await says(owner, 'one-21');
  const guest = cli.terminal(['attach', 'main']);
  await says(guest, 'one-21');
  guest.type('echo two-$((20 + 2))-$word\n');
  await Promise.all([says(owner, 'two-22-kept'), says(guest, 'two-22-kept')]);
  expect((await cli.run(['terminals', 'main'])).stdout).toMatch(/trm_\w+ +main +running /);
  expect((await cli.run(['terminals', '--close', 'main', 'main'])).status).not.toBe(0);
  await stack.agents[0]!.kill9();
  await stack.agents[0]!.start();
  owner.type('echo three-$((20 + 3))-$word\n');
  await Promise.all([says(owner, 'three-23-kept'), says(guest, 'three-23-kept')]);
  owner.type('\x10\x11');
  expect((await owner.done).stdout).toContain('see it: causeway attach main');
  guest.type('exit 6\n');
  expect((await guest.done).status).toBe(6);
});

it('is seen by whoever has a link, until it is taken back', async () => {
  const host = cli.terminal(['attach', '--new', 'desk']);
  await says(host, '$ ');
  host.type('echo shown-$((20 + 1))\n');
  await says(host, 'shown-21');
  const { stdout, stderr } = await cli.run(['terminals', 'share', 'desk', '--ttl', '10m']);
  const link = stdout.trim();
  expect(link).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v1\/shared-terminals\/trm_\w+#cwt_/);
  // Signed in nowhere.
  const stranger = new Cli('http://127.0.0.1:9', 'none', join(stack.dir, 'stranger'));
  const guest = stranger.terminal(['attach', '--link', link]);
  await says(guest, 'shown-21');
  guest.type('echo typed-$((20 + 1))\n');
  host.type('echo later-$((20 + 2))\n');
  await says(guest, 'later-22');
  expect(host.seen.stdout).not.toContain('typed-');
  const token = link.split('#')[1]!;
  const asked = await fetch(`${stack.url}/v1/sessions`, { headers: { authorization: `Bearer ${token}` } });
  expect(asked.status).toBe(403);
  expect((await cli.run(['terminals', 'links', 'desk'])).stdout).toMatch(/tok_\w+ /);
  const id = /unshare desk (\w{6})/.exec(stderr)![1]!;
  expect((await cli.run(['terminals', 'unshare', 'desk', id])).status).toBe(0);
  host.type('while :; do date; sleep 1; done\n');
  expect((await guest.done).status).not.toBe(0);
  expect((await stranger.terminal(['attach', '--link', link]).done).status).not.toBe(0);
  host.type('\x03');
  host.type('exit\n');
  await host.done;
});

it('is a terminal of JupyterLab, which comes back to its exact screen after the death of workerd', async () => {
  const lab = openTerminals({
    url: `${stack.url}${path.replace(/terminals$/, 'jupyter/')}`,
    token: stack.client.token!,
  });
  try {
    const page = await lab.start({ name: 'lab', cwd: '/proc' });
    expect(await lab.names()).toContain('lab');
    page.size(30, 100);
    page.type('pwd; stty size\r');
    await page.shows(/\/proc[^]*30 100/);
    page.type('printf "\\342\\202\\254-%s\\n" $((40 + 2))\r');
    await page.shows(/€-42/);
    // Another page, and the CLI, are at the same one.
    const other = lab.connect('lab');
    await other.shows(/€-42/);
    const attached = cli.terminal(['attach', '--terminal', 'lab', 'desk']);
    await says(attached, '€-42');
    attached.type('echo three-$((1 + 2))\n');
    await Promise.all([page.shows(/three-3/), other.shows(/three-3/)]);
    await left(attached);
    stack.edge.killWorkerd9();
    await until(() => page.resets() > 1, { what: 'the page to come back', timeoutMs: 60_000 });
    await page.shows(/€-42[^]*three-3/);
    page.type('echo back-$((1 + 1))\r');
    await page.shows(/back-2/);
    page.type('exit\r');
    await until(() => page.isOver(), { what: 'its end' });
    expect(await lab.names()).not.toContain('lab');
    const last = await lab.start({});
    expect(last.name).toBe('1');
    await lab.shutdown('1');
    await until(() => last.isOver(), { what: 'its end' });
  } finally {
    lab.stop();
  }
});

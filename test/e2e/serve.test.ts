import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';

import { type Edge, startEdge } from '../../edge/serve/start.ts';
import { fetchBy } from '../../wire/http.ts';
import { Way } from '../../wire/way.ts';
import { freePort } from '../support/free-port.ts';

const echo = join(import.meta.dirname, '../edge/workers/echo.ts');
const started: Edge[] = [];
const folders: string[] = [];

function freshState(): string {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-serve-'));
  folders.push(folder);
  return folder;
}

async function start(options: Parameters<typeof startEdge>[0]): Promise<Edge> {
  const edge = await startEdge({ port: await freePort(), ...options });
  started.push(edge);
  return edge;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const isHealthy = async (url: string) => expect((await fetch(`${url}/healthz`)).status).toBe(200);

afterEach(async () => {
  for (const edge of started.splice(0)) await edge.kill9();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

it('serves, finishes a running request after SIGTERM, and exits 0', async () => {
  const edge = await start({ state: freshState(), worker: echo });
  const slow = fetch(`${edge.url}/slow`);
  await vi.waitFor(() => isHealthy(edge.url));
  const [code, answer] = await Promise.all([edge.stop(), slow]);
  expect(answer.status).toBe(200);
  expect(code).toBe(0);
  expect(edge.lines.at(-1)).toMatchObject({ msg: 'stopped', finished: true });
  expect(isAlive(edge.workerdPid())).toBe(false);
});

it('has the hubs close their sockets before it stops', async () => {
  const edge = await start({ state: freshState(), vars: { CAUSEWAY_BOOTSTRAP: 'a-secret-of-this-test' } });
  await edge.stop();
  expect(edge.lines.at(-1)).toMatchObject({ msg: 'stopped', told: true, finished: true });
});

it('tells the Worker the true address of a client, whatever the client claims, and passes the bindings', async () => {
  const edge = await start({ state: freshState(), worker: echo, vars: { CAUSEWAY_FAILPOINT: 'x:before' } });
  const forged = { 'mf-cf-blob': '{"clientIp":"203.0.113.9:1"}', 'cf-connecting-ip': '203.0.113.9' };
  const answer = await (await fetch(edge.url, { headers: forged })).json();
  expect(answer).toMatchObject({
    cf: { clientIp: expect.stringMatching(/^127\.0\.0\.1:\d+$/) },
    host: new URL(edge.url).host,
  });
  expect(answer).toMatchObject({ knob: 'x:before', layout: 'machine', hasKeys: true });
});

it('serves TLS by the same key after a restart, with true addresses, and drains itself over it', async () => {
  const state = freshState();
  const tlsDir = join(state, 'tls');
  const first = await start({ state, worker: echo, tlsDir });
  const pinOf = (edge: Edge) => {
    const tls = edge.lines.find(({ msg }) => msg === 'ready')?.['tls'] as { pin: string } | undefined;
    return tls?.pin ?? '';
  };
  const pin = pinOf(first);
  const ask = fetchBy(new Way({}, [pin]));
  const forged = { 'mf-cf-blob': '{"clientIp":"203.0.113.9:1"}', 'cf-connecting-ip': '203.0.113.9' };
  expect(await (await ask(first.url, { headers: forged })).json()).toMatchObject({
    cf: { clientIp: expect.stringMatching(/^127\.0\.0\.1:\d+$/) },
    host: new URL(first.url).host,
  });
  expect(new URL(first.url).protocol).toBe('https:');
  await expect(fetch(first.url)).rejects.toThrow();
  await first.stop();
  const second = await start({ state, tlsDir, vars: { CAUSEWAY_BOOTSTRAP: 'a-secret-of-this-test' } });
  expect(pinOf(second)).toBe(pin);
  expect((await ask(`${second.url}/healthz`)).status).toBe(200);
  await second.stop();
  expect(second.lines.at(-1)).toMatchObject({ msg: 'stopped', told: true, finished: true });
});

it('refuses a second edge on the same state directory', async () => {
  const state = freshState();
  const edge = await start({ state });
  await expect(startEdge({ state })).rejects.toThrow(/another edge is running on .*exit 75|exit 75[^]*another edge/);
  await isHealthy(edge.url);
});

it('leaves no workerd behind when it is killed, and the next one takes over port and state', async () => {
  const state = freshState();
  const first = await start({ state });
  const workerd = first.workerdPid();
  await first.kill9();
  await vi.waitFor(() => expect(isAlive(workerd)).toBe(false), { timeout: 10_000 });
  const second = await start({ state, port: Number(new URL(first.url).port) });
  expect(second.url).toBe(first.url);
  await isHealthy(second.url);
});

it('brings back on the same port a workerd that was killed', async () => {
  const edge = await start({ state: freshState() });
  const before = edge.workerdPid();
  process.kill(before, 'SIGKILL');
  await edge.waitFor((line) => line.msg === 'workerd restarted');
  expect(edge.workerdPid()).not.toBe(before);
  await isHealthy(edge.url);
});

it('replaces a workerd that hangs', async () => {
  const edge = await start({ state: freshState() });
  process.kill(edge.workerdPid(), 'SIGSTOP');
  expect(await edge.waitFor((line) => line.msg === 'workerd hangs, killing it')).toMatchObject({ missed: 3 });
  await edge.waitFor((line) => line.msg === 'workerd restarted');
  await isHealthy(edge.url);
});

it('says why it can not start: a port in use, a missing flag', async () => {
  const edge = await start({ state: freshState() });
  const port = Number(new URL(edge.url).port);
  await expect(startEdge({ state: freshState(), port })).rejects.toThrow(/[Aa]ddress already in use/);
  await expect(startEdge({ state: '' })).rejects.toThrow(/--state DIR is required/);
});

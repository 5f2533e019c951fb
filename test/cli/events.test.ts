/** `causeway events -f` against a control plane that goes away and comes back. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Api } from '../../cli/http/api.ts';
import { Cli, type Running } from '../support/cli.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

let dir: TmpDir;
let server: Server;
let url: string;
let asked: IncomingMessage[];
let answer: (response: ServerResponse, time: number) => void;
let running: Running | undefined;

beforeEach(async () => {
  dir = tmpDir('evt');
  asked = [];
  server = createServer((request, response) => answer(response, asked.push(request)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  running?.child.kill('SIGKILL');
  await running?.done;
  running = undefined;
  server.close().closeAllConnections();
  dir.remove();
});

const follow = () => (running = new Cli(url, 'cwt_x', dir.path).start(['events', '-f', '--json'], ''));
function stream(response: ServerResponse, n: number): ServerResponse {
  const ids = { eventId: `evt_${n}`, domainId: 'dom_1', projectId: 'prj_1', objectId: 'ses_1' };
  const event = { ...ids, type: 'session.state', version: n, atMs: 1_000_000, data: {} };
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(`id: g.${n}-0\ndata: ${JSON.stringify(event)}\n\n`);
  return response;
}
function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/problem+json' });
  response.end(JSON.stringify({ type: 'about:blank', title: code, status, code }));
}

it('goes on behind the last event over a time in which there are none to be had', async () => {
  answer = (response, time) => {
    if (time === 1) stream(response, 1).end();
    else if (time < 10) refuse(response, 503, 'events_unavailable');
    else stream(response, 2);
  };
  const following = follow();
  await following.says(/evt_2/);
  expect(following.seen.stdout).toMatch(/^\{"id":"g\.1-0".*\n\{"id":"g\.2-0".*\n$/);
  expect(asked.slice(1).map(({ headers }) => headers['last-event-id'])).toEqual(asked.slice(1).map(() => 'g.1-0'));
});

it('goes on behind the last event over a control plane that can not be reached for long', async () => {
  answer = (response, time) => {
    if (time === 1) stream(response, 1).end();
    else if (time < 9) response.destroy();
    else stream(response, 2);
  };
  const following = follow();
  await following.says(/evt_2/);
  expect(following.seen.stdout).toMatch(/^\{"id":"g\.1-0".*\n\{"id":"g\.2-0".*\n$/);
});

it('says that nobody answers where nothing comes back', async () => {
  answer = () => undefined;
  const asking = new Api({ url, token: 'cwt_x' }).follow('/v1/events', {}, 300);
  await expect(asking).rejects.toMatchObject({ code: 'edge_unreachable', message: expect.stringContaining('0.3 s') });
});

it('ends where it may not listen any more', async () => {
  answer = (response, time) => (time === 1 ? stream(response, 1).end() : refuse(response, 401, 'auth_revoked'));
  expect((await follow().done).status).toBe(1);
  expect(asked).toHaveLength(2);
});

it('does not wait for ever on a path that died in silence', async () => {
  let isOver = false;
  answer = (response) => void stream(response, 1).on('close', () => (isOver = true));
  const { body } = await new Api({ url, token: 'cwt_x' }).follow('/v1/events', {}, 300);
  let read = 0;
  const reading = (async () => {
    for await (const chunk of body) read += chunk.byteLength;
  })();
  await expect(reading).rejects.toThrow('nothing came for 0.3 s');
  expect(read).toBeGreaterThan(0);
  await until(() => isOver, { what: 'the end of the request' });
});

it('does not take who reads late for silence, and lets go of what is not read on', async () => {
  let isOver = false;
  answer = (response) => {
    stream(response, 1).on('close', () => (isOver = true));
    setTimeout(() => response.write(':\n\n'), 100);
  };
  const { body } = await new Api({ url, token: 'cwt_x' }).follow('/v1/events', {}, 300);
  const reading = body[Symbol.asyncIterator]();
  await reading.next();
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect(Buffer.from((await reading.next()).value as Uint8Array).toString()).toBe(':\n\n');
  await reading.return?.();
  await until(() => isOver, { what: 'the end of the request' });
});

/** Events of output from a server that the test plays: what ends an answer, and where the next one begins. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { Api } from '../../cli/http/api.ts';
import { LogEvents, type LogEventsOptions } from '../../cli/session/log-events.ts';

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** Follows what is answered, one answer after the other; the last one again and again. */
async function follow(answers: readonly Answer[], more: Partial<LogEventsOptions> = {}) {
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const answer = answers[Math.min(asked.length, answers.length - 1)]!;
    asked.push(request.headers['last-event-id'] as string | undefined);
    answer(response, request);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const out: string[] = [];
  const said: string[] = [];
  const write = (bytes: Uint8Array) => {
    out.push(new TextDecoder().decode(bytes));
    return Promise.resolve();
  };
  const say = (line: string) => void said.push(line);
  const api = new Api({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: 'x' });
  const options = { sessionId: 'ses_1', query: {}, typed: {}, follow: true, timestamps: false, ...more };
  const events = new LogEvents(api, options, { writeStdout: write, writeStderr: write, say, warn: say });
  const done = events.run().then(() => ({ asked, out: out.join(''), said }));
  return { done };
}

const line = (offset: number, text: string) => {
  const next = offset + text.length + 1;
  const data = JSON.stringify({ stream: 'stdout', offset, next, timeMs: 1, text });
  return `event: line\nid: 1.${next}.0\ndata: ${data}\n\n`;
};
const exit = (end: number) =>
  `event: exit\nid: 1.${end}.0\ndata: ${JSON.stringify({ exitCode: 0, reason: 'exited', ends: { stdout: end } })}\n\n`;

const begin = (response: ServerResponse, from = { stdout: 0, stderr: 0 }) =>
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'causeway-generation': '1',
    'causeway-stdout-from': String(from.stdout),
    'causeway-stderr-from': String(from.stderr),
  });
const says =
  (text: string, from?: { stdout: number; stderr: number }): Answer =>
  (response) =>
    begin(response, from).end(text);
/** The way is cut behind it. */
const breaksBehind =
  (text: string, from?: { stdout: number; stderr: number }): Answer =>
  (response) => {
    begin(response, from).write(text, () => setTimeout(() => response.destroy(), 50));
  };
const refuses =
  (status: number, code: string): Answer =>
  (response) => {
    const problem = { type: `/errors/${code}`, title: code, status, code, requestId: 'req_1' };
    response.writeHead(status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
  };

it('waits out what a moment later is answered, once something was followed', async () => {
  const { done } = await follow([
    breaksBehind(line(0, 'one')),
    refuses(429, 'request_rate_limited'),
    (response) => response.writeHead(504).end('<html>'),
    says(line(4, 'two') + exit(8)),
  ]);
  expect(await done).toEqual({
    asked: [undefined, '1.4.0', '1.4.0', '1.4.0'],
    out: 'one\ntwo\n',
    said: ['the connection was lost; the process goes on, resuming as soon as there is a way ...'],
  });
});

it('does not wait for what was never there, nor for what no waiting cures', async () => {
  const first = await follow([refuses(429, 'request_rate_limited')]);
  await expect(first.done).rejects.toMatchObject({ code: 'request_rate_limited' });
  const gone = await follow([breaksBehind(line(0, 'one')), refuses(410, 'session_output_gone')]);
  await expect(gone.done).rejects.toMatchObject({ code: 'session_output_gone' });
});

it('gives up on a server of which every answer breaks off at once', { timeout: 30_000 }, async () => {
  const { done } = await follow([breaksBehind(':\n\n')]);
  await expect(done).rejects.toThrow();
});

it('goes on behind the beginning of an answer that was cut before its first event', async () => {
  const from = { stdout: 90, stderr: 800 };
  const { done } = await follow([breaksBehind(':\n\n', from), says(line(90, 'meanwhile') + exit(100), from)]);
  expect(await done).toMatchObject({ asked: [undefined, '1.90.800'], out: 'meanwhile\n' });
});

it('goes on elsewhere where its path died in silence', async () => {
  const { done } = await follow([(response) => begin(response).write(line(0, 'one')), says(line(4, 'two') + exit(8))], {
    silenceMs: 300,
  });
  expect(await done).toEqual({ asked: [undefined, '1.4.0'], out: 'one\ntwo\n', said: [] });
});

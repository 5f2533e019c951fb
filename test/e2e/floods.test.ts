/** Raw bytes to the real server: what no client library would send must be answered or cut off, and hurt nobody else. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { type Edge, startEdge } from '../../edge/serve/start.ts';

let edge: Edge;
let state: string;
beforeAll(async () => {
  state = mkdtempSync(join(tmpdir(), 'causeway-floods-'));
  edge = await startEdge({ state });
});
afterAll(async () => {
  await edge.kill9();
  rmSync(state, { recursive: true, force: true });
});

/** Sends bytes, and returns what came back until the server closed or nothing more is to come. */
function exchange(bytes: string, closeMs = 5_000): Promise<string> {
  const { hostname, port } = new URL(edge.url);
  return new Promise((resolve) => {
    let said = '';
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    const end = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(said);
    };
    const timer = setTimeout(end, closeMs);
    socket.setEncoding('latin1').on('data', (text) => {
      said += String(text);
      if (/\r\n\r\n/.test(said)) end();
    });
    socket.on('error', end).on('close', end);
  });
}
const request = (headers: string, line = 'GET /healthz HTTP/1.1') => `${line}\r\nHost: edge\r\n${headers}\r\n`;
const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);

describe('a flood of headers', () => {
  it.each([
    ['one of 2 MiB', `X-Big: ${'a'.repeat(2 * 1024 * 1024)}\r\n`],
    ['50,000 small ones', Array.from({ length: 50_000 }, (_, at) => `X-${at}: ${at}\r\n`).join('')],
  ])('%s is refused or cut off', async (_, headers) => {
    const status = statusOf(await exchange(request(headers)));
    expect([0, 400, 413, 431]).toContain(status);
    expect((await fetch(`${edge.url}/healthz`)).status).toBe(200);
  });
});

describe('a request that is none', () => {
  it.each([
    ['garbage', '\x00\x01\x02\r\n\r\n'],
    ['a method that is none', request('', 'BREW /healthz HTTP/1.1')],
    ['a negative length', request('Content-Length: -1\r\n', 'POST /v1/auth/login HTTP/1.1')],
    ['two lengths', request('Content-Length: 1\r\nContent-Length: 2\r\n', 'POST /v1/auth/login HTTP/1.1')],
    ['an unknown coding', request('Transfer-Encoding: xchunked\r\n', 'POST /v1/auth/login HTTP/1.1')],
    ['a NUL in a header', request('X-A: a\0b\r\n')],
    ['a header line that goes on', request('X-A: a\r\n b: c\r\n : x\r\n')],
  ])('%s is no success', async (_, bytes) => {
    const status = statusOf(await exchange(bytes, 3_000));
    expect(status === 0 || (status >= 400 && status < 600), String(status)).toBe(true);
    expect((await fetch(`${edge.url}/healthz`)).status).toBe(200);
  });
});

/** The CLI against a control plane that answers as it is told to. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cli } from '../support/cli.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';

let dir: TmpDir;
let server: Server;
let answers: { status: number; code?: string }[];
let asked: IncomingMessage[];
let url: string;

beforeEach(async () => {
  dir = tmpDir('api');
  asked = [];
  server = createServer((request, response) => {
    asked.push(request);
    request.resume();
    const { status, code } = answers[Math.min(asked.length, answers.length) - 1]!;
    response.writeHead(status, { 'content-type': 'application/problem+json', 'retry-after': '1' });
    response.end(code === undefined ? undefined : JSON.stringify({ type: 'about:blank', title: code, status, code }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  server.close().closeAllConnections();
  dir.remove();
});

const changePassword = () => new Cli(url, 'cwt_x', dir.path).run(['account', 'password'], 'old\nnew');

it('asks again with the same key while an attempt whose answer was lost holds it', async () => {
  answers = [
    { status: 503, code: 'edge_overloaded' },
    { status: 409, code: 'idempotency_in_progress' },
    { status: 204 },
  ];
  expect(await changePassword()).toMatchObject({ status: 0, stderr: 'the password is changed\n' });
  expect(asked).toHaveLength(3);
  expect(new Set(asked.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
});

it('does not ask again after another conflict', async () => {
  answers = [{ status: 409, code: 'idempotency_key_reused' }];
  expect((await changePassword()).status).toBe(1);
  expect(asked).toHaveLength(1);
});

/** Signs in to the server as a person has done before. Returns the file where that is kept. */
function signedIn(): string {
  const file = join(dir.path, 'config/causeway/config.json');
  mkdirSync(dirname(file), { recursive: true });
  const current = new URL(url).host;
  writeFileSync(file, JSON.stringify({ current, contexts: { [current]: { url, token: 'cwt_stored' } } }));
  return file;
}

it('takes empty variables for none: logout revokes and forgets the stored token', async () => {
  const file = signedIn();
  answers = [{ status: 204 }];
  expect(await new Cli('', '', dir.path).run(['logout'])).toMatchObject({ status: 0 });
  expect(asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer cwt_stored']);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ contexts: {} });
});

it('does not forget the stored token when logout revokes another one', async () => {
  const file = signedIn();
  answers = [{ status: 204 }];
  expect(await new Cli(url, 'cwt_x', dir.path).run(['logout'])).toMatchObject({ status: 0 });
  expect(asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer cwt_x']);
  expect(readFileSync(file, 'utf8')).toContain('cwt_stored');
});

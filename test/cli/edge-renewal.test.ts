/** When a certificate takes the place of the one that is served, by a clock that the test gives. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';

import { tlsSource } from '../../edge/serve/tls/flags.ts';
import { Renewal } from '../../edge/serve/tls/renewal.ts';

const dayMs = 86_400_000;
const hourMs = 3_600_000;
const startMs = Date.UTC(2026, 0, 1);
const [quiet, busy] = [true, false];
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'causeway-renewal-'));
  folders.push(made);
  return made;
}

/** What an edge does that was started at `startMs` with certificates of its own. */
function own(dir = folder()) {
  const read = tlsSource({ 'tls-dir': dir, 'tls-name': ['cp.example'] })!;
  const first = read(startMs);
  const refused: string[] = [];
  return { dir, first, refused, renewal: new Renewal(first, read, (why) => refused.push(why)) };
}

/** The same with files that somebody else looks after; `renew` puts others there, made at a time. */
function files() {
  const { dir } = own();
  const at = folder();
  const given = { 'tls-cert': join(at, 'server.pem'), 'tls-key': join(at, 'server.key') };
  const put = (from: string, names: (keyof typeof given)[] = ['tls-cert', 'tls-key']) =>
    names.forEach((name) => copyFileSync(join(from, given[name].slice(at.length)), given[name]));
  put(dir);
  const read = tlsSource(given)!;
  const refused: string[] = [];
  const renewal = new Renewal(read(startMs), read, (why) => refused.push(why));
  return { at, dir, put, refused, renewal };
}

it('keeps its own certificate for half of its life, and then serves another for the same key', () => {
  const { first, renewal } = own();
  const halfMs = (startMs - dayMs + first.endsAtMs) / 2;
  for (let nowMs = startMs; nowMs < halfMs; nowMs += 10 * dayMs) expect(renewal.look(nowMs, quiet)).toBeUndefined();
  const next = renewal.look(halfMs, quiet);
  expect(next).toMatchObject({ pin: first.pin, names: first.names });
  expect(next!.endsAtMs).toBeGreaterThan(first.endsAtMs);
  expect(renewal.look(halfMs + dayMs, quiet)).toBeUndefined();
});

it('waits for a quiet moment, a day at most', () => {
  const { first, renewal } = own();
  const dueMs = first.endsAtMs - 100 * dayMs;
  expect(renewal.look(dueMs, busy)).toBeUndefined();
  expect(renewal.look(dueMs + dayMs - 1, busy)).toBeUndefined();
  expect(renewal.look(dueMs + dayMs, busy)).toBeDefined();
  const other = own();
  expect(other.renewal.look(dueMs, busy)).toBeUndefined();
  expect(other.renewal.look(dueMs + hourMs, quiet)).toBeDefined();
});

it('waits for half of the time that is left when that is less, and for nothing when the clock jumped over the end', () => {
  const { first, renewal } = own();
  const lateMs = first.endsAtMs - 2 * hourMs;
  expect(renewal.look(lateMs, busy)).toBeUndefined();
  expect(renewal.look(lateMs + hourMs - 1, busy)).toBeUndefined();
  expect(renewal.look(lateMs + hourMs, busy)).toBeDefined();
  const jumped = own();
  expect(jumped.renewal.look(jumped.first.endsAtMs + dayMs, busy)!.endsAtMs).toBeGreaterThan(
    jumped.first.endsAtMs + dayMs,
  );
});

it('serves one that is valid already when the clock jumped back, and does not wait by a clock that did', () => {
  const { renewal } = own();
  const next = renewal.look(startMs - 10 * dayMs, quiet);
  expect(next).toBeDefined();
  const other = own();
  const dueMs = other.first.endsAtMs - 100 * dayMs;
  expect(other.renewal.look(dueMs, busy)).toBeUndefined();
  expect(other.renewal.look(dueMs - dayMs, busy)).toBeDefined();
});

it('takes files that were changed, a key of another pin too, and stays with what it serves while they do not fit', () => {
  const { put, refused, renewal, dir } = files();
  expect(renewal.look(startMs, quiet)).toBeUndefined();
  rmSync(join(dir, 'server.pem'));
  const renewed = own(dir).first;
  put(dir);
  expect(renewal.look(startMs, quiet)).toMatchObject({ certificateChain: renewed.certificateChain, pin: renewed.pin });

  const another = own();
  put(another.dir, ['tls-cert']);
  for (const n of [1, 2]) expect(renewal.look(startMs + n, quiet)).toBeUndefined();
  expect(refused).toEqual([
    expect.stringMatching(/server.key is not the key of the first certificate in .*server.pem/),
  ]);
  put(another.dir);
  expect(renewal.look(startMs + 3, quiet)).toMatchObject({ pin: another.first.pin });
});

it('stays with what it serves when the files are gone or have ended, and says it once for each reason', () => {
  const { at, dir, put, refused, renewal } = files();
  rmSync(join(at, 'server.pem'));
  writeFileSync(join(at, 'server.pem'), '');
  for (const n of [1, 2]) expect(renewal.look(startMs + n, quiet)).toBeUndefined();
  put(dir);
  expect(renewal.look(startMs + 5000 * dayMs, quiet)).toBeUndefined();
  expect(refused).toEqual([expect.stringMatching(/holds no certificate/), expect.stringMatching(/ended on/)]);
});

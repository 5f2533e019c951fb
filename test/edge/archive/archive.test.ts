/** Output in object storage through the front door: agents put it there, people read it when the agent is gone. */
import { env, exports } from 'cloudflare:workers';
import { beforeEach, describe, expect, it } from 'vitest';
import { findArchive } from '../../../edge/manager/archive/find.ts';
import { readLogs } from '../../../edge/manager/archive/read.ts';
import { removeArchive, sweepArchives } from '../../../edge/manager/archive/retention.ts';
import type { Blobs } from '../../../edge/platform/blobs-port.ts';
import { r2Blobs } from '../../../edge/platform/blobs-r2.ts';
import { readConfig } from '../../../edge/platform/config.ts';
import { chunkBodyBytes, chunkName, encodeChunk, type TimedBytes } from '../../../schema/log/chunk.ts';
import type { LineItem } from '../../../schema/protocol/lines.ts';
import { Host, newJoinToken } from '../agents/host.ts';
import { bootstrapped, call, origin, send } from '../client.ts';
import { BenchAgent, bigSlots } from '../scheduler/bench-agent.ts';

const text = (bytes: string) => new TextEncoder().encode(bytes);
const dayMs = 86_400_000;

let token: string;
let id: string;
let host: Host;
let bench: BenchAgent;

beforeEach(async () => {
  ({ token } = await bootstrapped());
  host = await placedHost();
});

/** A machine that can sign, and on which a session runs: `id`. */
async function placedHost(more: object = {}): Promise<Host> {
  const signing = await Host.make();
  await signing.enrol((await newJoinToken(token)).token);
  bench = new BenchAgent(1);
  await bench.enrol();
  // The ledger knows the bench; it signs by the key of the host.
  await env.DB.prepare('UPDATE agents SET id = ? WHERE id = ?').bind(bench.agentId, signing.agentId).run();
  signing.agentId = bench.agentId;
  const body = { type: 'batch', image: 'busybox', command: ['true'], ...more };
  id = (await call<{ id: string }>('POST', '/v1/sessions', { token, body })).body.id;
  const { intents } = await bench.attach();
  await bench.acknowledge(intents.map(({ intentId }) => intentId));
  await bench.tell(id, 1, { kind: 'running', containerId: 'c1' });
  return signing;
}

async function gzip(raw: Uint8Array): Promise<Uint8Array> {
  const zip = new CompressionStream('gzip') as unknown as ReadableWritablePair<Uint8Array, Uint8Array>;
  return new Uint8Array(await new Response(new Blob([raw]).stream().pipeThrough(zip)).arrayBuffer());
}

async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

interface Put {
  by?: Host;
  session?: string;
  generation?: number;
  process?: string;
  stream?: 'stdout' | 'stderr';
  missing?: string;
  sha?: string;
  body?: Uint8Array;
  name?: string;
}

async function put(path: string, by: Host, body: Uint8Array, headers: Record<string, string>) {
  const request = new Request(`${origin}/agent/v1/blobs/logs/${path}`, {
    method: 'PUT',
    headers: { authorization: await by.credential(), 'content-length': String(body.byteLength), ...headers },
    body,
  });
  const response = await exports.default.fetch(request);
  const said = await response.text();
  return { status: response.status, code: said === '' ? undefined : (JSON.parse(said) as { code: string }).code };
}

/** Hands a chunk over that begins at `from`. */
async function putChunk(from: number, records: TimedBytes[], more: Put = {}) {
  const { by = host, session = id, generation = 1, process = 'main', stream = 'stdout', missing } = more;
  const raw = encodeChunk(records);
  const length = records.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const name = more.name ?? chunkName(from, from + length);
  return put(`${session}/${generation}/${process}/${stream}/${name}`, by, more.body ?? (await gzip(raw)), {
    'content-type': 'application/gzip',
    'causeway-sha256': more.sha ?? (await sha256(raw)),
    ...(missing === undefined ? {} : { 'causeway-missing': missing }),
  });
}

const at = (timeMs: number, bytes: string): TimedBytes => ({ timeMs, bytes: text(bytes) });

function putEnd(ends: { stdout: number; stderr: number }, more: object = {}) {
  const body = text(JSON.stringify({ exit: { exitCode: 3, reason: 'exited' }, ends, ...more }));
  return put(`${id}/1/main/end`, host, body, { 'content-type': 'application/json' });
}

async function read(query: string, accept?: string): Promise<{ status: number; text: string; source: string | null }> {
  const headers = accept === undefined ? {} : { accept };
  const response = await send('GET', `/v1/sessions/${id}/logs?source=storage&${query}`, { token, headers });
  const source = response.headers.get('causeway-log-source');
  return { status: response.status, text: await response.text(), source };
}

const itemsOf = (body: string) =>
  body
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LineItem);

describe('what agents put there', () => {
  it('is taken once: the same again is harmless, anything else under the name is refused', async () => {
    expect(await putChunk(0, [at(1, 'one\n')])).toEqual({ status: 204, code: undefined });
    expect((await putChunk(0, [at(1, 'one\n')])).status).toBe(204);
    expect(await putChunk(0, [at(1, 'two\n')])).toEqual({ status: 409, code: 'archive_chunk_conflict' });
    expect((await putEnd({ stdout: 4, stderr: 0 })).status).toBe(204);
    expect((await putEnd({ stdout: 5, stderr: 0 })).status).toBe(409);
    expect((await read('stream=stdout')).text).toBe('one\n');
  });

  it('is taken from the agent of that session and generation alone, and can not be read by any', async () => {
    const other = await Host.make();
    await other.enrol((await newJoinToken(token)).token);
    for (const more of [{ by: other }, { generation: 2 }, { session: `ses_${'0'.repeat(26)}_1_1` }])
      expect(await putChunk(0, [at(1, 'x')], more)).toEqual({ status: 404, code: 'session_not_found' });
    // Of a group that is not the agent's: no object is asked, and none made.
    expect((await putChunk(0, [at(1, 'x')], { session: `ses_${'0'.repeat(26)}_77_1` })).status).toBe(404);
    await putChunk(0, [at(1, 'x')]);
    const path = `/agent/v1/blobs/logs/${id}/1/main/stdout/${chunkName(0, 1)}`;
    const asked = await send('GET', path, { headers: { authorization: await host.credential() } });
    expect(asked.status).toBe(405);
    const asPerson = await send('GET', `/v1/sessions/${id}/logs?source=storage`, {
      headers: { authorization: await host.credential() },
    });
    expect(asPerson.status).toBe(401);
  });

  it('is not taken when it is not what it says', async () => {
    const invalid = { status: 400, code: 'archive_chunk_invalid' };
    expect(await putChunk(0, [at(1, 'abc')], { sha: '0'.repeat(64) })).toEqual(invalid);
    expect(await putChunk(0, [at(1, 'abc')], { name: chunkName(0, 4) })).toEqual(invalid);
    expect(await putChunk(0, [at(1, 'abc')], { body: text('no gzip') })).toEqual(invalid);
    const bomb = await gzip(new Uint8Array(32 * 1024 * 1024));
    expect(bomb.byteLength).toBeLessThan(chunkBodyBytes);
    expect(await putChunk(0, [at(1, 'abc')], { body: bomb })).toEqual(invalid);
    expect((await putChunk(0, [at(1, 'abc')], { body: new Uint8Array(chunkBodyBytes + 1) })).status).toBe(413);
    expect((await putChunk(0, [at(1, 'abc')], { name: 'end' })).status).toBe(400);
    expect((await read('stream=stdout')).status).toBe(410);
  });

  it('goes with the session, and nothing of it comes in any more', async () => {
    await putChunk(0, [at(1, 'x')]);
    expect((await call('DELETE', `/v1/sessions/${id}?force=true&purge=true`, { token })).status).toBeLessThan(300);
    expect((await (env as unknown as { LOGS: R2Bucket }).LOGS.list()).objects).toEqual([]);
    expect(await putChunk(1, [at(1, 'y')])).toEqual({ status: 410, code: 'archive_closed' });
  });

  it('goes with the next sweep where its store was out of reach when the session was removed', async () => {
    const bucket = (env as unknown as { LOGS: R2Bucket }).LOGS;
    const nowMs = Date.now();
    await putChunk(0, [at(1, 'x')]);
    const nobody = { url: 'http://127.0.0.1:9/logs', region: 'x', accessKeyId: 'x', secretAccessKey: 'x' };
    await removeArchive({ env, config: { logsS3: nobody } }, id, nowMs);
    expect((await bucket.list()).objects).toHaveLength(1);
    expect(await putChunk(1, [at(1, 'y')])).toEqual({ status: 410, code: 'archive_closed' });
    const of = { env, config: readConfig(env) };
    expect([await sweepArchives(of, nowMs), await sweepArchives(of, nowMs)]).toEqual([1, 0]);
    expect((await bucket.list()).objects).toEqual([]);
    // Its agent may come back for two weeks.
    expect(await putChunk(1, [at(1, 'y')])).toEqual({ status: 410, code: 'archive_closed' });
    expect([await sweepArchives(of, nowMs + 13 * dayMs), await sweepArchives(of, nowMs + 15 * dayMs)]).toEqual([0, 1]);
  });

  it('goes when it has had its time, and not before', async () => {
    const nowMs = Date.now();
    await putChunk(0, [at(1, 'x')]);
    await putEnd({ stdout: 1, stderr: 0 });
    expect(await sweepArchives({ env, config: readConfig(env) }, nowMs + 29 * dayMs)).toBe(0);
    expect((await read('stream=stdout')).status).toBe(200);
    expect(await sweepArchives({ env, config: readConfig(env) }, nowMs + 31 * dayMs)).toBe(1);
    expect((await read('stream=stdout')).status).toBe(410);
    expect(await sweepArchives({ env, config: readConfig(env) }, nowMs + 31 * dayMs)).toBe(0);
  });
});

describe('what people read of it', () => {
  /** Two chunks of stdout with a gap between them, one of stderr, and the end with a last gap. */
  async function handOver(): Promise<void> {
    await putChunk(0, [at(1000, 'one\ntw'), at(1010, 'o\n')]);
    await putChunk(20, [at(1030, 'WARNING: three\n'), at(1040, 'four')], { missing: 'spool-full' });
    await putChunk(0, [at(1020, 'bad\n')], { stream: 'stderr' });
    await putEnd({ stdout: 50, stderr: 4 }, { missing: { stdout: 'disk-full' } });
  }

  it('is every byte of any range, and breaks off where some are missing', async () => {
    await handOver();
    expect((await read('stream=stderr')).text).toBe('bad\n');
    expect((await read('stream=stderr&offset=2')).text).toBe('d\n');
    const response = await send('GET', `/v1/sessions/${id}/logs?source=storage&stream=stdout&offset=2`, { token });
    expect(response.headers.get('causeway-log-source')).toBe('storage');
    const reader = response.body!.getReader();
    let said = '';
    await expect(
      (async () => {
        for (let part = await reader.read(); !part.done; part = await reader.read())
          said += new TextDecoder().decode(part.value);
      })(),
    ).rejects.toThrow();
    expect(said).toBe('e\ntwo\n');
    // Asked on from there, the header tells where the bytes go on.
    const query = 'source=storage&stream=stdout&offset=8';
    const behind = await send('GET', `/v1/sessions/${id}/logs?${query}`, { token });
    expect(behind.headers.get('causeway-stdout-from')).toBe('20');
    await behind.body?.cancel();
  });

  it('is lines of both streams by time, with gaps in their place and the exit behind them', async () => {
    await handOver();
    const { text: body, source } = await read('', 'application/x-ndjson');
    expect(source).toBe('storage');
    expect(itemsOf(body)).toEqual([
      { kind: 'line', stream: 'stdout', offset: 0, next: 4, timeMs: 1000, text: 'one' },
      { kind: 'line', stream: 'stdout', offset: 4, next: 8, timeMs: 1000, text: 'two' },
      { kind: 'gap', stream: 'stdout', from: 8, to: 20, reason: 'spool-full' },
      { kind: 'line', stream: 'stderr', offset: 0, next: 4, timeMs: 1020, text: 'bad' },
      { kind: 'line', stream: 'stdout', offset: 20, next: 35, timeMs: 1030, level: 'warn', text: 'WARNING: three' },
      { kind: 'line', stream: 'stdout', offset: 35, next: 39, timeMs: 1040, text: 'four' },
      { kind: 'gap', stream: 'stdout', from: 39, to: 50, reason: 'disk-full' },
      { kind: 'exit', exitCode: 3, reason: 'exited', ends: { stdout: 50, stderr: 4 } },
    ]);
  });

  it('is searched, limited by time and counted from the end, as at the agent', async () => {
    await handOver();
    expect((await read('grep=%5Et')).text).toBe(
      'two\n[12 bytes of stdout are missing here: spool-full]\n[11 bytes of stdout are missing here: disk-full]\n',
    );
    expect((await read('grep=BAD&ignoreCase=true&stream=stderr')).text).toBe('bad\n');
    expect((await read('since=1970-01-01T00:00:01.020Z&until=1970-01-01T00:00:01.035Z&stream=stderr')).text).toBe(
      'bad\n',
    );
    expect((await read('tailLines=1&stream=stderr&timestamps=true')).text).toBe('1970-01-01T00:00:01.020Z bad\n');
    const last = itemsOf((await read('tailLines=2&grep=o&stream=stdout', 'application/x-ndjson')).text);
    expect(last.flatMap((item) => (item.kind === 'line' ? [item.text] : []))).toEqual(['two', 'four']);
    expect((await read('grep=(')).status).toBe(400);
    expect((await read('until=10m&follow=true')).status).toBe(400);
    expect((await read('since=2026-13-01')).status).toBe(400);
    expect((await read('until=2026-11-28T25:00')).status).toBe(400);
  });

  it('has lines as whole as at the agent where a time or a chunk cuts them', async () => {
    await putChunk(0, [at(1000, 'one\nbe')]);
    await putChunk(6, [at(1050, 'gun\n'), at(1060, 'three\n')]);
    await putEnd({ stdout: 16, stderr: 0 });
    expect((await read('until=1970-01-01T00:00:01.040Z')).text).toBe('one\nbegun\n');
    expect((await read('since=1970-01-01T00:00:01.050Z')).text).toBe('three\n');
  });

  it('says what was never handed over, and goes on behind the id of an event', async () => {
    await putChunk(0, [at(1, 'one\n')]);
    const first = await read('', 'text/event-stream');
    expect(first.text).toContain(
      `event: output\nid: 1.4.0\ndata: {"stream":"stdout","offset":0,"base64":"${btoa('one\n')}"}`,
    );
    expect(first.text).toContain('event: missing\nid: 1.4.0\n');
    await putChunk(4, [at(2, 'two\n')]);
    const headers = { accept: 'text/event-stream', 'last-event-id': '1.4.0' };
    const again = await send('GET', `/v1/sessions/${id}/logs?source=storage`, { token, headers });
    const said = await again.text();
    expect(said).not.toContain(btoa('one\n'));
    expect(said).toContain(btoa('two\n'));
    // Bytes alone can not say that more was written: they break off.
    await expect(read('stream=stdout')).rejects.toThrow();
    expect((await read('timestamps=true')).text).toContain('not handed over');
  });

  it('ends between two pieces of a chunk when the right to read is lost', async () => {
    await putChunk(0, [at(1, 'one\n'), at(2, 'two\n')]);
    const blobs = r2Blobs((env as unknown as { LOGS: R2Bucket }).LOGS);
    const archive = await findArchive(blobs, { sessionId: id, generation: 1, process: 'main' });
    let isAllowed = true;
    const allowed = () => Promise.resolve(isAllowed);
    const items = readLogs({ blobs, archive: archive!, pause: () => Promise.resolve(), allowed }, { stdout: 0 });
    expect((await items.next()).done).toBe(false);
    isAllowed = false;
    await expect(items.next()).rejects.toMatchObject({ code: 'auth_revoked' });
  });

  it('joins chunks that were cut anew after a death, without a byte twice', async () => {
    await putChunk(0, [at(1, '01234')]);
    await putChunk(0, [at(1, '0123456789')]);
    await putChunk(8, [at(2, '89ab\n')]);
    await putEnd({ stdout: 13, stderr: 0 });
    expect((await read('stream=stdout')).text).toBe('0123456789ab\n');
  });

  it('is refused where there is more of it than can be listed, and not cut off in silence', async () => {
    const [folder, process] = [`logs/${id}/1/`, { sessionId: id, generation: 1, process: 'main' }];
    const { LOGS } = env as unknown as { LOGS: R2Bucket };
    const endless: Blobs = { ...r2Blobs(LOGS), list: async () => ({ entries: [], folders: [folder], next: 'more' }) };
    await expect(findArchive(endless, process)).rejects.toMatchObject({ code: 'archive_too_large' });
  });

  it('is read without being asked for there when the agent is out of reach', async () => {
    await putChunk(0, [at(1, 'kept\n')]);
    await putEnd({ stdout: 5, stderr: 0 });
    await call('DELETE', `/v1/agents/${host.agentId}`, { token });
    const response = await send('GET', `/v1/sessions/${id}/logs?stream=stdout`, { token });
    expect([response.status, response.headers.get('causeway-log-source')]).toEqual([200, 'storage']);
    expect(await response.text()).toBe('kept\n');
    const there = await call('GET', `/v1/sessions/${id}/logs?stream=stdout&source=agent`, { token });
    expect(there).toMatchObject({ status: 503, body: { code: 'agent_unreachable' } });
    // What goes on behind a later placement waits for that.
    const headers = { accept: 'text/event-stream', 'last-event-id': '2.5.0' };
    const later = await call('GET', `/v1/sessions/${id}/logs?stream=stdout`, { token, headers });
    expect(later).toMatchObject({ status: 503, body: { code: 'agent_unreachable' } });
  });
});

it('is read of a session that lost its machine while it waits for the next', async () => {
  const drain = () =>
    bench.ledger.putAgent(1, {
      agentId: bench.agentId,
      name: 'bench',
      controlHub: 'bench-hub',
      approved: bigSlots,
      state: 'active',
      draining: true,
      approval: 1,
    });
  await drain();
  host = await placedHost({ restartable: {} });
  await putChunk(0, [at(1, 'kept\n')]);
  const other = `prc_${'1'.repeat(26)}`;
  await putChunk(0, [at(1, 'beside\n')], { process: other });
  await drain();
  await bench.tell(id, 1, { kind: 'ended', reason: 'lease-expired' });
  expect((await call('GET', `/v1/sessions/${id}`, { token })).body).toMatchObject({ state: 'PENDING' });
  const response = await send('GET', `/v1/sessions/${id}/logs?timestamps=true`, { token });
  expect([response.status, response.headers.get('causeway-log-source')]).toEqual([200, 'storage']);
  expect(await response.text()).toContain('kept');
  // Also where only something else came of the placement behind it.
  const { LOGS } = env as unknown as { LOGS: R2Bucket };
  await LOGS.put(`logs/${id}/2/main/end`, '{"ends":{"stdout":0,"stderr":0}}');
  expect((await read(`timestamps=true&process=${other}`)).text).toContain('beside');
  const there = await call('GET', `/v1/sessions/${id}/logs?source=agent`, { token });
  expect(there).toMatchObject({ status: 409, body: { code: 'session_not_running' } });
});

it('is shown to nobody of another project', async () => {
  await putChunk(0, [at(1, 'x')]);
  const { outsider } = await makeOutsider(token);
  const asked = await call('GET', `/v1/sessions/${id}/logs?source=storage`, { token: outsider });
  expect(asked).toMatchObject({ status: 404, body: { code: 'session_not_found' } });
});

async function makeOutsider(admin: string): Promise<{ outsider: string }> {
  const user = await call('POST', '/v1/users', { token: admin, body: { email: 'outsider@causeway.test' } });
  const made = await call<{ token: string }>('POST', `/v1/users/${String(user.body['id'])}/tokens`, {
    token: admin,
    body: { name: 'outsider' },
  });
  const project = await call('POST', '/v1/projects', { token: admin, body: { name: 'elsewhere' } });
  await call('PUT', `/v1/projects/${String(project.body['id'])}/members/${String(user.body['id'])}`, {
    token: admin,
    body: { role: 'project-admin' },
  });
  return { outsider: made.body.token };
}

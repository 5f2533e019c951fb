/** Uploaded keys of SSH through the front door, and what an agent is told of them when a stream is opened. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { SshKey } from '../../../schema/api/ssh-key.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { clientProtocol, limits } from '../../../schema/protocol/limits.ts';
import { makePerson } from '../accounts/people.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call, send } from '../client.ts';
import { BenchAgent } from '../scheduler/bench-agent.ts';
import { dialData, Peer } from '../tunnel/peers.ts';
import { keys, rsa2048 } from './keys.ts';

const { open, reset, data } = frameTypes;
const [first, second] = keys as [(typeof keys)[0], (typeof keys)[0]];

let token: string;
let userId: string;
beforeEach(async () => {
  passMs(1000);
  ({ token, userId } = await bootstrapped());
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const add = (publicKey: string, more: object = {}, by = token) =>
  call<SshKey & { code: string; detail: string }>('POST', '/v1/ssh-keys', { token: by, body: { publicKey, ...more } });
const list = async (by = token) => (await call<{ items: SshKey[] }>('GET', '/v1/ssh-keys', { token: by })).body.items;
const remove = (id: string, by = token) => call('DELETE', `/v1/ssh-keys/${id}`, { token: by });

/** An ed25519 key of its own for each `n`. */
function numbered(n: number): string {
  const body = new Uint8Array(32).fill(n);
  return `ssh-ed25519 ${btoa(`\0\0\0\x0bssh-ed25519\0\0\0\x20${String.fromCharCode(...body)}`)}`;
}

describe('an uploaded key', () => {
  it.each(keys)('$fingerprint is taken, and known as OpenSSH shows it', async ({ line, fingerprint }) => {
    const made = await add(`${line} me@work\n`);
    expect(made).toMatchObject({ status: 201, body: { name: 'me@work', fingerprint, type: line.split(' ')[0] } });
    expect(await list()).toEqual([made.body]);
  });

  it('leaves a record when it comes and when it goes, and is gone for nobody else', async () => {
    const other = (await makePerson(token, 'other')).token;
    const made = await add(first.line, { name: 'laptop' });
    expect((await add(first.line, {}, other)).status).toBe(201);
    expect((await remove(made.body.id, other)).body).toMatchObject({ code: 'ssh_key_not_found' });
    expect((await remove(made.body.id)).status).toBe(204);
    expect((await remove(made.body.id)).status).toBe(404);
    expect(await list()).toEqual([]);
    expect(await list(other)).toHaveLength(1);
    const { items } = (
      await call<{ items: { action: string; objectId: string; details: object }[] }>('GET', '/v1/audit?limit=20', {
        token,
      })
    ).body;
    expect(items.filter(({ objectId }) => objectId === made.body.id)).toMatchObject([
      { action: 'ssh-key.remove', details: { name: 'laptop', fingerprint: first.fingerprint } },
      { action: 'ssh-key.add', details: { name: 'laptop', fingerprint: first.fingerprint } },
    ]);
  });

  it('is taken once, and at most so many are', async () => {
    for (let n = 1; n <= limits.sshKeysPerUser; n++) expect((await add(numbered(n))).status).toBe(201);
    expect(await add(numbered(3))).toMatchObject({ status: 409, body: { code: 'ssh_key_taken' } });
    expect(await add(numbered(100))).toMatchObject({ status: 409, body: { code: 'ssh_key_limit' } });
    expect(await list()).toHaveLength(limits.sshKeysPerUser);
  });

  it('is made once by a request that is repeated', async () => {
    const ask = () =>
      call('POST', '/v1/ssh-keys', { token, body: { publicKey: first.line }, headers: { 'idempotency-key': 'k1' } });
    expect((await ask()).body).toEqual((await ask()).body);
  });

  it('that has expired is not shown, and does not keep the same key out', async () => {
    expect((await add(first.line, { ttlSeconds: 60 })).body.expiresAtMs).toBeGreaterThan(Date.now());
    vi.setSystemTime(Date.now() + 61_000);
    expect(await list()).toEqual([]);
    expect((await add(first.line)).status).toBe(201);
  });

  it('is no business of a token that is less than its user', async () => {
    const narrowed = await call<{ token: string }>('POST', '/v1/tokens', {
      token,
      body: { name: 'n', role: 'viewer' },
    });
    const by = narrowed.body.token;
    expect((await add(first.line, {}, by)).status).toBe(403);
    expect((await call('GET', '/v1/ssh-keys', { token: by })).status).toBe(403);
    const { id } = (await add(first.line)).body;
    expect((await remove(id, by)).status).toBe(403);
  });

  const [type, base64] = first.line.split(' ') as [string, string];
  it.each([
    ['RSA that is too short', rsa2048, /2048 bits.*from 3072/],
    ['DSA', `ssh-dss ${base64}`, /DSA is broken/],
    ['a certificate', `ssh-ed25519-cert-v01@openssh.com ${base64}`, /Certificates/],
    ['a private key', '-----BEGIN OPENSSH PRIVATE KEY-----', /known to others/],
    ['two keys', `${first.line}\n${second.line}`, /one key at a time/],
    ['options in front', `no-pty ${first.line}`, /begins with the type/],
    ['another type than it says', `ssh-rsa ${base64}`, /cut off/],
    ['a piece of one', `${type} ${base64.slice(0, -4)}`, /cut off/],
    ['bytes behind it', `${type} ${btoa(`${atob(base64)}x`)}`, /cut off/],
    ['base64 that no encoder makes', second.line.replace('xE=', 'xF='), /cut off/],
    ['a point in another form', second.line.replace('AAABBB', 'AAABBA'), /cut off/],
    ['words', 'hello there', /begins with the type/],
    ['a name of an object', 'constructor AAAA', /begins with the type/],
  ])('is not %s', async (_, line, why) => {
    expect(await add(line)).toMatchObject({
      status: 400,
      body: { code: 'ssh_key_invalid', detail: expect.stringMatching(why) as string },
    });
    expect(await list()).toEqual([]);
  });
});

describe('[S16] a stream to an SSH server', () => {
  let agent: Peer;
  let id: string;
  beforeEach(async () => {
    const bench = new BenchAgent(1);
    await bench.enrol();
    const body = { type: 'batch', image: 'busybox', command: ['true'] };
    id = (await call<{ id: string }>('POST', '/v1/sessions', { token, body })).body.id;
    const { dataHub, epoch, intents } = await bench.attach();
    await bench.acknowledge(intents.map(({ intentId }) => intentId));
    await bench.tell(id, 1, { kind: 'running', containerId: 'c1' });
    agent = await dialData(dataHub, { agentId: bench.agentId, purpose: 'interactive', epoch });
  });

  async function dial(by = token): Promise<Peer> {
    const headers = { upgrade: 'websocket', 'sec-websocket-protocol': clientProtocol };
    const response = await send('GET', `/v1/sessions/${id}/ssh`, { token: by, headers });
    return new Peer(response.webSocket!);
  }
  const opened = (n = 0) => agent.until('OPEN', () => agent.jsonOf(open)[n]);

  it('names the keys that its user uploaded, for as long as they last, and nobody else', async () => {
    await add(first.line);
    await add(second.line, { ttlSeconds: 3600 });
    await add(numbered(1), {}, (await makePerson(token, 'other')).token);
    const client = await dial();
    client.json(open, 1, { op: 'ssh' });
    // What comes at once behind OPEN stays behind it.
    client.data(1, 0, Uint8Array.of(7));
    const { value } = await opened();
    expect(value).toMatchObject({ open: { op: 'ssh' }, actorId: userId });
    const [forEver, forAnHour] = value['uploadedKeys'] as { publicKey: string; validForMs?: number }[];
    expect(forEver).toEqual({ publicKey: first.line });
    expect(forAnHour!.publicKey).toBe(second.line);
    expect(forAnHour!.validForMs).toBeGreaterThan(3_500_000);
    expect(forAnHour!.validForMs).toBeLessThanOrEqual(3_600_000);
    expect(value['uploadedKeys']).toHaveLength(2);
    expect(await agent.until('DATA', () => agent.frames.find(({ type }) => type === data))).toMatchObject({
      payload: Uint8Array.of(7),
    });
    client.socket.close(1000, 'done');
  });

  it('says nothing of keys where there are none, and is refused when it brings none either', async () => {
    const client = await dial();
    client.json(open, 1, { op: 'ssh' });
    expect((await client.until('RESET', () => client.jsonOf(reset)[0])).value['code']).toBe('ssh_key_not_found');
    client.json(open, 2, { op: 'ssh', publicKey: first.line });
    expect((await opened()).value).not.toHaveProperty('uploadedKeys');
    expect(agent.jsonOf(open)).toHaveLength(1);
    client.socket.close(1000, 'done');
  });

  it('can not bring keys in the name of the edge', async () => {
    const client = await dial();
    client.json(open, 1, { op: 'ssh', publicKey: first.line, uploadedKeys: [{ publicKey: second.line }] });
    expect((await client.until('RESET', () => client.jsonOf(reset)[0])).value['code']).toBe('tunnel_op_unknown');
    client.socket.close(1000, 'done');
  });

  it('[S11] ends within 3 s when a key is removed, and finds it gone when it comes again', async () => {
    const made = await add(first.line);
    await add(second.line);
    const client = await dial();
    client.json(open, 1, { op: 'ssh' });
    await opened();
    expect((await remove(made.body.id)).status).toBe(204);
    vi.setSystemTime(Date.now() + limits.accessCheckMs + 1);
    client.data(1, 0, Uint8Array.of(1));
    expect(await client.closed).toMatchObject({ code: 4409 });
    expect(agent.frames.filter(({ type }) => type === data)).toEqual([]);
    const again = await dial();
    again.json(open, 1, { op: 'ssh' });
    expect((await opened(1)).value['uploadedKeys']).toEqual([{ publicKey: second.line }]);
    again.socket.close(1000, 'done');
  });

  it('[S11] ends within 3 s when its token has expired', async () => {
    const short = await call<{ token: string }>('POST', '/v1/tokens', { token, body: { name: 's', ttlSeconds: 60 } });
    const client = await dial(short.body.token);
    client.json(open, 1, { op: 'ssh', publicKey: first.line });
    await opened();
    vi.setSystemTime(Date.now() + 61_000);
    client.data(1, 0, Uint8Array.of(1));
    expect(await client.closed).toMatchObject({ code: 4401 });
    expect(agent.frames.filter(({ type }) => type === data)).toEqual([]);
  });
});

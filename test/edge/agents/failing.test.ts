/** An address whose dials prove nothing is slowed down and refused; agents that prove themselves are not, behind the same address. */
import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { makeBadge } from '../../../edge/manager/agents/badge.ts';
import { readConfig } from '../../../edge/platform/config.ts';
import { badgeHeader } from '../../../schema/protocol/limits.ts';
import { bootstrapped, call, password, send } from '../client.ts';
import { tier } from '../../support/tier.ts';
import { capacity, flipped, Host, hostInfo, newJoinToken, upgrade } from './host.ts';

/** Of what one address may fail at once, and of what waits. */
const burst = 300;
const waitMs = 4_000;
const betweenMs = 200;

/** The edge's clock: it stands still but where a test moves it. */
let nowMs = 0;
let admin = '';
beforeEach(async () => {
  admin = (await bootstrapped()).token;
  nowMs = performance.now();
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  // Who waits, and for how long, is decided when he asks; the wait itself may be short.
  const real = setTimeout;
  vi.spyOn(globalThis, 'setTimeout').mockImplementation(((task: () => void, ms = 0) =>
    real(task, ms / 100)) as typeof setTimeout);
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});
afterEach(() => {
  vi.restoreAllMocks();
});

async function joined(): Promise<Host> {
  const host = await Host.make();
  const answer = await host.enrol((await newJoinToken(admin)).token);
  if (answer.status !== 200) throw new Error(answer.text);
  return host;
}

interface Answered {
  status: number;
  code?: string;
  retryAfter: string | null;
}

/** Dials from an address. */
async function dialFrom(address: string, authorization: string): Promise<Answered> {
  const headers = { ...upgrade, authorization, 'cf-connecting-ip': address };
  const response = await send('GET', '/agent/v1/tunnel?purpose=control', { headers });
  const retryAfter = response.headers.get('retry-after');
  if (response.status === 101) {
    response.webSocket?.accept();
    response.webSocket?.close(1000);
    return { status: 101, retryAfter };
  }
  return { status: response.status, code: ((await response.json()) as { code: string }).code, retryAfter };
}

const forged = `Causeway-Agent id=agt_1,nonce=a.b,signature=${'A'.repeat(86)}`;

/** Fails as often as an address may, and a little more. */
function exhaust(address: (count: number) => string, authorization: string): Promise<Answered[]> {
  const all = burst + waitMs / betweenMs + 20;
  return Promise.all(Array.from({ length: all }, (_, count) => dialFrom(address(count), authorization)));
}

describe('an address that fails', () => {
  it('is heard so often, then in turns; what comes on top is answered 429 with Retry-After, from its whole /64', async () => {
    const all = await exhaust((count) => `2001:db8:5:1::${count.toString(16)}`, forged);
    const refused = all.filter(({ status }) => status === 429);
    expect(all.filter(({ code }) => code === 'agent_signature_invalid')).toHaveLength(all.length - 20);
    expect(refused).toHaveLength(20);
    expect(new Set(refused.map(({ code, retryAfter }) => `${code} ${retryAfter}`))).toEqual(
      new Set(['request_rate_limited 4']),
    );
    expect(await dialFrom('2001:db8:5:2::1', forged)).toMatchObject({ status: 401 });
    nowMs += waitMs + betweenMs;
    expect(await dialFrom('2001:db8:5:1:2:3:4:5', forged), 'when time has passed').toMatchObject({ status: 401 });
  });
  it('keeps no agent out that was here before, and lets in turn those in that nobody knows yet; a name alone is nothing', async () => {
    const address = '198.51.100.3';
    const [known, unknown] = [await joined(), await joined()];
    expect(await dialFrom('203.0.113.9', await known.credential())).toMatchObject({ status: 101 });
    const good = await known.credential();
    const other = await unknown.credential();
    const signature = good.split('signature=')[1]!;
    const bad = good.replace(signature, flipped(signature, 3));
    await exhaust(() => address, bad);
    expect(await dialFrom(address, other)).toMatchObject({ status: 429 });
    expect(await dialFrom(address, good)).toMatchObject({ status: 101 });
    expect(await dialFrom(address, bad)).toMatchObject({ status: 429, code: 'request_rate_limited' });
    nowMs += waitMs / 2;
    expect(await dialFrom(address, other)).toMatchObject({ status: 101 });
  });
  it('has to wait for its challenges as well, but for agents that show what they were given', async () => {
    const address = '198.51.100.12';
    const host = await joined();
    const own = { publicKey: host.publicKey, hub: '0' };
    const badge = makeBadge(readConfig(env).keys, host.agentId, own);
    const challenged = async (from: string, shown: string) => {
      const headers = { 'cf-connecting-ip': from, [badgeHeader]: shown };
      const { status } = await call('POST', '/agent/v1/challenge', { headers, body: { agentId: host.agentId } });
      return status;
    };
    expect(await challenged(address, '')).toBe(200);
    await exhaust(() => address, forged);
    expect(await challenged(address, '')).toBe(429);
    expect(await challenged(address, `${badge}A`)).toBe(429);
    expect(await challenged(address, badge)).toBe(200);
    expect(await challenged('198.51.100.13', '')).toBe(200);
    nowMs += waitMs;
    expect(await challenged(address, ''), 'in its turn').toBe(200);
  });
  it('can not enrol, sign in or show tokens without end; a good token is no concern of it', async () => {
    const address = '198.51.100.6';
    await exhaust(() => address, 'Bearer x');
    const headers = { 'cf-connecting-ip': address };
    const { publicKey } = await Host.make();
    const { token } = await newJoinToken(admin);
    const enrol = { token, publicKey, capacity, host: hostInfo, agentVersion: '0.1.0' };
    const answers = await Promise.all([
      call('POST', '/agent/v1/enrol', { headers, body: enrol }),
      call('POST', '/v1/auth/login', { headers, body: { email: 'admin@causeway.test', password } }),
      call('GET', '/v1/whoami', { headers, token: 'cwt_wrong' }),
    ]);
    for (const answer of answers) expect(answer).toMatchObject({ status: 429, body: { code: 'request_rate_limited' } });
    expect((await call('GET', '/v1/whoami', { headers, token: admin })).status).toBe(200);
  });
});

it.runIf(tier === 'full')(
  'an address that asks without end takes turns, with nothing proved wrong; who watches is answered',
  async () => {
    const headers = { 'cf-connecting-ip': '198.51.100.9' };
    const statusOf = async (path: string, from = headers) => (await send('GET', path, { headers: from })).status;
    const [free, inTurn, tooMany] = [5_001, 999, 20];
    const answers: number[] = [];
    const paths = ['/nowhere', '/errors'];
    for (let left = free; left > 0; left--) answers.push(await statusOf(paths[left % 2]!));
    expect(new Set(answers)).toEqual(new Set([404, 200]));
    const crowd = Array.from({ length: inTurn + tooMany }, () => statusOf('/nowhere'));
    expect((await Promise.all(crowd)).filter((status) => status === 429)).toHaveLength(tooMany);
    expect(await statusOf('/healthz')).toBe(200);
    expect(await statusOf('/nowhere', { 'cf-connecting-ip': '198.51.100.10' })).toBe(404);
    expect((await call('GET', '/v1/whoami', { headers, token: admin })).status).toBe(200);
    nowMs += 4_000;
    expect(await statusOf('/nowhere')).toBe(404);
  },
);

it('an agent that asks without end takes turns, and is refused on top of that; another one is not touched', async () => {
  const [busy, calm] = [await joined(), await joined()];
  const authorization = await busy.credential();
  const askAs = (signed: string) => call('GET', '/agent/v1/upgrade', { headers: { authorization: signed } });
  // The first makes it known.
  expect((await askAs(authorization)).status).not.toBe(429);
  const letIn = 101 + 39;
  const all = await Promise.all(Array.from({ length: letIn + 5 }, () => askAs(authorization)));
  expect(all.filter(({ status }) => status !== 429 && status !== 401)).toHaveLength(letIn);
  const refused = all.filter(({ body }) => body['code'] === 'request_rate_limited');
  expect(refused.map(({ headers }) => headers.get('retry-after'))).toEqual(['4', '4', '4', '4', '4']);
  expect((await askAs(await calm.credential())).status).not.toBe(429);
});

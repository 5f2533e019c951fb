/** An upgrade is verified before a hub is touched: SPEC K1, K2, K4. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { env } from 'cloudflare:workers';
import { makeBadge, readBadge } from '../../../edge/manager/agents/badge.ts';
import { readConfig } from '../../../edge/platform/config.ts';
import { hubHeaders } from '../../../edge/tunnel/rpc.ts';
import { makeDataTicket, verifyDataTicket } from '../../../edge/tunnel/tickets.ts';
import { badgeHeader } from '../../../schema/protocol/limits.ts';
import { bootstrapped, call, send } from '../client.ts';
import { dial, flipped, Host, newJoinToken, upgrade } from './host.ts';

afterEach(() => {
  vi.useRealTimers();
});

async function joined(): Promise<{ host: Host; admin: string }> {
  const { token } = await bootstrapped();
  const host = await Host.make();
  const answer = await host.enrol((await newJoinToken(token)).token);
  if (answer.status !== 200) throw new Error(answer.text);
  return { host, admin: token };
}

describe('a control socket', () => {
  it('[K1] is opened to whoever signs the challenge with the enrolled key', async () => {
    const { host } = await joined();
    expect(await dial({ authorization: await host.credential() })).toEqual({ status: 101 });
  });
  it('[K1] is refused for every flipped bit of the signature', async () => {
    const { host } = await joined();
    const credential = await host.credential();
    const signature = credential.split('signature=')[1]!;
    for (let bit = 0; bit < 512; bit += 17)
      expect(await dial({ authorization: credential.replace(signature, flipped(signature, bit)) })).toEqual({
        status: 401,
        code: 'agent_signature_invalid',
      });
  });
  it('[K1] is refused when instance, agent, nonce or host is another than was signed', async () => {
    const { host, admin } = await joined();
    const other = await Host.make();
    await other.enrol((await newJoinToken(admin)).token);
    for (const parts of [{ instance: 'prod' }, { agentId: other.agentId }, { nonce: 'x' }, { host: 'evil.test' }])
      expect(await dial({ authorization: await host.credential(parts) })).toMatchObject({
        code: 'agent_signature_invalid',
      });
    const credential = await host.credential();
    expect(await dial({ authorization: credential.replace(host.agentId, other.agentId) })).toMatchObject({
      code: 'agent_signature_invalid',
    });
  });
  it('[K1] is refused after 30 s, and for a nonce that is not ours', async () => {
    const { host } = await joined();
    const credential = await host.credential();
    vi.setSystemTime(Date.now() + 30_001);
    expect(await dial({ authorization: credential })).toEqual({ status: 401, code: 'agent_challenge_expired' });
    const forged = credential.replace(/nonce=([0-9]+)/, (_, expiry: string) => `nonce=${Number(expiry) + 60_000}`);
    expect(await dial({ authorization: forged })).toEqual({ status: 401, code: 'agent_signature_invalid' });
  });
  it.each([
    ['Bearer x', 'auth_invalid'],
    ['Causeway-Agent', 'auth_invalid'],
    ['Causeway-Agent id=,nonce=,signature=', 'auth_invalid'],
    [`Causeway-Agent id=agt_1,nonce=a.b,signature=${'A'.repeat(86)}`, 'agent_signature_invalid'],
  ])('[K1] is refused for the credential %j', async (authorization, code) => {
    expect(await dial({ authorization })).toEqual({ status: 401, code });
  });
  it('[K4] is answered 426 without the subprotocol, with another one, and without an upgrade', async () => {
    const { host } = await joined();
    for (const headers of [
      { upgrade: 'websocket' },
      { upgrade: 'websocket', 'sec-websocket-protocol': 'causeway.client.v1' },
      { upgrade: 'websocket', 'sec-websocket-protocol': 'causeway.tunnel.v2, chat' },
      { 'sec-websocket-protocol': upgrade['sec-websocket-protocol'] },
    ] as Record<string, string>[]) {
      const authorization = await host.credential();
      const answer = await send('GET', '/agent/v1/tunnel?purpose=control', { headers: { ...headers, authorization } });
      expect(answer.status).toBe(426);
      await answer.body?.cancel();
    }
  });
  it('[K1] is opened without a look at the catalogue to whoever shows what it was given, and signs', async () => {
    const { host, admin } = await joined();
    const { keys } = readConfig(env);
    const own = { publicKey: host.publicKey, hub: '0' };
    const show = async (badge: string, signer = host) => ({
      authorization: (await signer.credential()).replace(signer.agentId, host.agentId),
      [badgeHeader]: badge,
    });
    // Nobody finds it in the catalogue any more.
    await env.DB.prepare('DELETE FROM agents WHERE id = ?').bind(host.agentId).run();
    const badge = makeBadge(keys, host.agentId, own);
    const others = { hmac: [{ version: 1, key: 'another-key'.padEnd(43, '1') }] };
    for (const forged of [
      makeBadge(others, host.agentId, own),
      makeBadge(keys, host.agentId.replace('agt_0', 'agt_1'), own),
      badge.replace('.0.', '.1.'),
      `${badge}A`,
      '',
    ])
      expect(await dial(await show(forged)), forged).toEqual({ status: 401, code: 'agent_signature_invalid' });
    const copy = await Host.make();
    await copy.enrol((await newJoinToken(admin)).token);
    expect(await dial(await show(badge, copy))).toEqual({ status: 401, code: 'agent_signature_invalid' });
    expect(await dial(await show(badge))).toEqual({ status: 101 });
  });
  it('[K1] gives what is to be shown at the next dial', async () => {
    const { host } = await joined();
    const headers = { ...upgrade, authorization: await host.credential() };
    const { headers: said, webSocket } = await send('GET', '/agent/v1/tunnel?purpose=control', { headers });
    webSocket?.accept();
    webSocket?.close(1000);
    expect(readBadge(readConfig(env).keys, host.agentId, said.get(badgeHeader))).toEqual({
      publicKey: host.publicKey,
      hub: expect.stringMatching(/^\d+$/),
    });
  });
  it('is refused for good to a revoked agent', async () => {
    const { host, admin } = await joined();
    expect((await call('DELETE', `/v1/agents/${host.agentId}`, { token: admin })).status).toBe(204);
    expect(await dial({ authorization: await host.credential() })).toEqual({ status: 403, code: 'agent_revoked' });
    const again = await host.enrol((await newJoinToken(admin)).token);
    expect(again).toMatchObject({ status: 403, body: { code: 'agent_revoked' } });
  });
  it('can not be had by claiming it in the header that the Worker itself uses', async () => {
    const { host } = await joined();
    const claim = JSON.stringify({ agentId: host.agentId, groupNumber: 1, purpose: 'control' });
    expect(await dial({ [hubHeaders.agent]: claim })).toEqual({ status: 401, code: 'auth_missing' });
  });
});

describe('a data socket', () => {
  const { keys } = readConfig(env);
  it('[K2] is opened by a ticket for this agent and hub', async () => {
    const { host } = await joined();
    const claim = { agentId: host.agentId, epoch: 7, hub: 'h1' };
    const headers = { 'x-causeway-agent': host.agentId, 'x-causeway-ticket': makeDataTicket(keys, claim) };
    // Genuine, and of no connection that the ledger has: one that is opened is in `connected.test.ts`.
    for (const purpose of ['bulk', 'interactive'])
      expect(await dial(headers, `purpose=${purpose}&hub=h1`)).toEqual({ status: 409, code: 'agent_epoch_stale' });
    expect(await dial(headers, 'purpose=bulk&hub=h2')).toEqual({ status: 401, code: 'auth_invalid' });
    expect(
      await dial({ ...headers, 'x-causeway-agent': host.agentId.replace('agt_0', 'agt_1') }, 'purpose=bulk&hub=h1'),
    ).toEqual({
      status: 401,
      code: 'auth_invalid',
    });
    expect(await dial({ 'x-causeway-agent': host.agentId }, 'purpose=bulk&hub=h1')).toEqual({
      status: 401,
      code: 'auth_missing',
    });
  });
  it('[K2] is all that a ticket opens', async () => {
    const { host } = await joined();
    const ticket = makeDataTicket(keys, { agentId: host.agentId, epoch: 7, hub: 'h1' });
    const headers = { 'x-causeway-agent': host.agentId, 'x-causeway-ticket': ticket };
    const plan = await call('GET', '/agent/v1/upgrade?purpose=bulk&hub=h1', { headers });
    expect(plan).toMatchObject({ status: 401, body: { code: 'auth_missing' } });
    const of = `/agent/v1/blobs/logs/ses_${'0'.repeat(26)}_1_1/1/prc_${'0'.repeat(26)}/end?purpose=bulk&hub=h1`;
    expect(await call('PUT', of, { headers, body: {} })).toMatchObject({ status: 401, body: { code: 'auth_missing' } });
  });
  it('[K2] is not opened by a ticket with another epoch, another key or a tail', () => {
    const claim = { agentId: 'agt_x', epoch: 7, hub: 'h1' };
    const ticket = makeDataTicket(keys, claim);
    expect(verifyDataTicket(keys, ticket, claim)).toBe(7);
    expect(verifyDataTicket(keys, ticket.replace(/^7/, '8'), claim)).toBeUndefined();
    expect(verifyDataTicket(keys, `${ticket}A`, claim)).toBeUndefined();
    expect(verifyDataTicket(keys, ticket.replace('7.1.', '7.2.'), claim)).toBeUndefined();
    const others = { hmac: [{ version: 1, key: 'another-key'.padEnd(43, '1') }] };
    expect(verifyDataTicket(others, ticket, claim)).toBeUndefined();
    expect(verifyDataTicket({ hmac: [{ ...others.hmac[0]!, version: 2 }, ...keys.hmac] }, ticket, claim)).toBe(7);
  });
});

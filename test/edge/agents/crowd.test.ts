/** While many agents dial at once, those that come on top are told when to come, and people are answered. */
import { expect, it } from 'vitest';
import { bootstrapped, call } from '../client.ts';
import { dial, Host, newJoinToken } from './host.ts';

/** Each dials as often as an agent may at once: more than the doorway lets in and has wait. */
const hosts = 2;
const dialsOfEach = 90;
const asks = 80;

it('sends challenges away with a moment of their own while the doorway is crowded, and not after that', async () => {
  const admin = (await bootstrapped()).token;
  const credentials: string[] = [];
  let known = '';
  for (let left = hosts; left > 0; left--) {
    const host = await Host.make();
    expect((await host.enrol((await newJoinToken(admin)).token)).status).toBe(200);
    credentials.push(...(await Promise.all(Array.from({ length: dialsOfEach }, () => host.credential()))));
    known = host.agentId;
  }

  const arriving = credentials.map((authorization) => dial({ authorization }));
  await Promise.race(arriving);
  const asked = await Promise.all(Array.from({ length: asks }, (_, number) => ask(known, number)));
  expect((await call('GET', '/v1/whoami', { token: admin })).status).toBe(200);
  expect((await Promise.all(arriving)).map(({ status }) => status)).toEqual(credentials.map(() => 101));

  // As many as can be served soon are not sent away.
  const away = asked.map(({ status }, number) => ({ status, number })).filter(({ status }) => status !== 200);
  expect(new Set(away.map(({ number }) => number % 2))).toEqual(new Set([0, 1]));
  for (const { number } of away) {
    const { status, body, headers } = asked[number]!;
    expect({ status, code: body.code }).toEqual({ status: 503, code: 'edge_overloaded' });
    expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(Number(headers.get('retry-after'))).toBeLessThanOrEqual(60);
  }
  expect((await ask(known, away[0]!.number)).status, 'when all are in').toBe(200);
});

/** Of an agent that says who it is in a header, or, as those of before do, in the body alone. */
function ask(known: string, number: number) {
  const agentId = known.replace(/...(?=_\d+$)/, String(number % 1000).padStart(3, '0'));
  const headers: Record<string, string> = number % 2 === 0 ? { 'x-causeway-agent': agentId } : {};
  return call<{ code: string }>('POST', '/agent/v1/challenge', { body: { agentId }, headers });
}

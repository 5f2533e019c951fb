/** Whatever is sent to any route, the answer is never a failure of ours: no 5xx but for what is out of reach. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { declaredErrors } from '../../../edge/http/openapi.ts';
import type { ErrorCode } from '../../../schema/errors.ts';
import { slices } from '../../../edge/slices.ts';
import { bootstrapped, bootstrapSecret, call, send } from '../client.ts';

const routes = slices.flatMap((each) => each.routes).map(({ spec }) => spec);
/** Text with what breaks parsers: controls, surrogates, SQL, paths, ids that could be ours. */
const nasty = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    "' OR 1=1 --",
    '../../etc/passwd',
    '\u0000',
    '%00',
    '\ud800',
    '$ne',
    '{{7*7}}',
    'a'.repeat(5000),
    '-1',
    '1e999',
    'NaN',
  ),
  fc.constantFrom(
    `ses_${'0'.repeat(26)}_1_1`,
    `ses_${'0'.repeat(26)}_999999999_999999999`,
    `usr_${'0'.repeat(26)}`,
    `agt_${'0'.repeat(26)}_7`,
  ),
);
const keys = fc.oneof(
  nasty,
  fc.constantFrom(
    'name',
    'email',
    'password',
    'project',
    'role',
    'ttlSeconds',
    'resourceGroup',
    'type',
    'image',
    'env',
    'resources',
    'cpu',
    'token',
    'publicKey',
    'host',
    '__proto__',
    'constructor',
    'toString',
  ),
);
const json = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    nasty,
    fc.double(),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(keys, tie('value'), { maxKeys: 5 }),
  ),
})).value;
const anyRequest = fc.record({
  route: fc.constantFrom(...routes.filter(({ path }) => path !== '/internal/drain')),
  ids: fc.array(nasty, { minLength: 2, maxLength: 2 }),
  query: fc.dictionary(keys, nasty, { maxKeys: 3 }),
  body: json,
  raw: fc.option(nasty),
});

async function freshToken(token: string): Promise<string> {
  const { status, body } = await call<{ token: string }>('POST', '/v1/tokens', {
    token,
    body: { name: 'to sign out' },
  });
  expect(status).toBe(201);
  return body.token;
}

it('answers every request that it can not understand with a refusal', async () => {
  const { token } = await bootstrapped();
  const seen = new Map<number, number>();
  /** Refusals that OpenAPI does not know of. */
  const untold = new Set<string>();
  await fc.assert(
    fc.asyncProperty(anyRequest, async ({ route, ids, query, body, raw }) => {
      let used = 0;
      const path = route.path.replaceAll(
        /\{\w+\}/g,
        () => encodeURIComponent((ids[used++] ?? '').toWellFormed()) || 'x',
      );
      const search = new URLSearchParams(
        Object.entries(query).map(([name, value]) => [name.toWellFormed(), value.toWellFormed()]),
      );
      // Signed out, nothing would be looked at any more: a token of its own for that.
      const own = route.path === '/v1/auth/logout' ? await freshToken(token) : token;
      const hasBody = route.method !== 'get' && route.method !== 'delete';
      const response = await send(route.method.toUpperCase(), `${path}?${search.toString()}`, {
        token: route.permission === 'bootstrap' ? bootstrapSecret : own,
        // A request to upgrade is always a GET.
        headers: { 'content-type': 'application/json', ...(route.upgrade ? { upgrade: 'websocket' } : {}) },
        ...(hasBody ? { body: raw ?? JSON.stringify(body) ?? 'null' } : {}),
      });
      seen.set(response.status, (seen.get(response.status) ?? 0) + 1);
      response.webSocket?.accept();
      response.webSocket?.close();
      const text = response.status === 101 ? '' : await response.text();
      if (response.headers.get('content-type') === 'application/problem+json') {
        const { code } = JSON.parse(text) as { code: ErrorCode };
        // A path that the ids make another address has its own refusals.
        if (!code.startsWith('route_') && !declaredErrors(route).has(code))
          untold.add(`${route.method} ${route.path}: ${code}`);
      }
      expect(
        response.status >= 500 && response.status !== 503,
        `${route.method} ${path}: ${response.status} ${text}`,
      ).toBe(false);
    }),
    { numRuns: 400, seed: 20261023 },
  );
  expect([...untold]).toEqual([]);
  expect(seen.get(400) ?? 0).toBeGreaterThan(50);
}, 60_000);

/** What every route does, proved through real ones: ids, traces, bad input, unknown addresses, and that nothing leaks. */
import { beforeEach, describe, expect, it } from 'vitest';
import { bootstrapped, call, origin, send } from '../client.ts';

let token = '';
beforeEach(async () => {
  token = (await bootstrapped()).token;
});
const json = { 'content-type': 'application/json' };

describe('every answer', () => {
  it('carries a fresh request id, is not stored, and is not sniffed', async () => {
    const [first, second] = [await call('GET', '/v1/whoami', { token }), await call('GET', '/v1/nothing')];
    for (const { headers } of [first, second]) {
      expect(headers.get('x-request-id')).toMatch(/^req_[0-9a-z]{26}$/);
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
    expect(first.headers.get('x-request-id')).not.toBe(second.headers.get('x-request-id'));
  });
  it('is problem+json with a code of the table when it refuses', async () => {
    const refused = await call('GET', '/v1/whoami');
    expect(refused.headers.get('content-type')).toBe('application/problem+json');
    expect(refused.headers.get('www-authenticate')).toMatch(/^Bearer/);
    expect(refused.body).toEqual({
      type: '/errors/auth_missing',
      title: 'Authentication is required',
      status: 401,
      code: 'auth_missing',
    });
  });
});

describe('an address that is not there', () => {
  it.each([
    ['GET', '/v1/nothing', 404, 'route_not_found'],
    ['GET', '/v1/whoami/', 404, 'route_not_found'],
    ['GET', '/v1/%2e%2e/whoami', 404, 'route_not_found'],
    ['GET', '/v1/%ff', 404, 'route_not_found'],
    ['PUT', '/v1/whoami', 405, 'route_method_not_allowed'],
    ['OPTIONS', '/v1/tokens', 405, 'route_method_not_allowed'],
    ['GET', '/v1/auth/login', 405, 'route_method_not_allowed'],
  ])('%s %s is answered %i %s', async (method, path, status, code) => {
    expect(await call(method, path, { token })).toMatchObject({ status, body: { code } });
  });
  it('says which methods it takes', async () => {
    expect((await call('PUT', '/v1/tokens', { token })).headers.get('allow')).toBe('POST, GET');
  });
});

describe('a body', () => {
  const post = (body: string, headers: Record<string, string> = json) =>
    call('POST', '/v1/projects', { token, body, headers });
  it.each([
    ['', 'request_body_malformed'],
    ['{', 'request_body_malformed'],
    ['{"name":"a"} x', 'request_body_malformed'],
    ["{'name':'a'}", 'request_body_malformed'],
    ['['.repeat(100_000), 'request_body_malformed'],
    ['null', 'request_body_invalid'],
    ['[]', 'request_body_invalid'],
    ['"text"', 'request_body_invalid'],
    ['{}', 'request_body_invalid'],
    ['{"name":7}', 'request_body_invalid'],
    ['{"name":"a","surprise":1}', 'request_body_invalid'],
    ['{"name":"a","__proto__":{"x":1}}', 'request_body_invalid'],
    ['{"name":"A b"}', 'request_body_invalid'],
    [String.raw`{"name":"a\u0000"}`, 'request_body_invalid'],
    [JSON.stringify({ name: 'n'.repeat(300) }), 'request_body_invalid'],
  ])('body %# is refused as %s', async (body, code) => {
    expect(await post(body)).toMatchObject({ status: 400, body: { code } });
  });
  it('names each issue by its path', async () => {
    const { body } = await post('{"name":7,"domain":true}');
    expect(body['errors']).toMatchObject([{ path: 'name' }, { path: 'domain' }]);
  });
  it('of another type is refused', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/jsonp',
    ])
      expect(await post('{"name":"a"}', { 'content-type': type })).toMatchObject({
        status: 415,
        body: { code: 'request_type_unsupported' },
      });
    expect((await post('{"name":"typed"}', { 'content-type': 'Application/JSON; charset=utf-8' })).status).toBe(201);
  });
  it('that is not UTF-8 is refused', async () => {
    const response = await send('POST', '/v1/projects', { token, headers: json });
    expect(response.status).toBe(400);
    const { exports } = await import('cloudflare:workers');
    const broken = await exports.default.fetch(
      new Request(`${origin}/v1/projects`, {
        method: 'POST',
        headers: { ...json, authorization: `Bearer ${token}` },
        body: Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d),
      }),
    );
    expect(await broken.json()).toMatchObject({ code: 'request_body_malformed' });
  });
  it('beyond its limit is refused, announced or not', async () => {
    const large = JSON.stringify({ name: 'a'.repeat(300 * 1024) });
    expect(await post(large)).toMatchObject({ status: 413, body: { code: 'request_body_too_large' } });
    const { exports } = await import('cloudflare:workers');
    const chunk = new TextEncoder().encode(large.slice(0, 64 * 1024));
    let left = 16;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (left-- > 0) controller.enqueue(chunk);
        else controller.close();
      },
    });
    const streamed = await exports.default.fetch(
      new Request(`${origin}/v1/projects`, {
        method: 'POST',
        headers: { ...json, authorization: `Bearer ${token}` },
        body: endless,
      }),
    );
    expect(streamed.status).toBe(413);
    await streamed.body?.cancel();
    const login = JSON.stringify({ email: 'a@b', password: 'x'.repeat(5000) });
    expect((await call('POST', '/v1/auth/login', { body: login, headers: json })).status).toBe(413);
  });
});

describe('parameters', () => {
  it.each([
    ['/v1/tokens?limit=0', 'request_query_invalid'],
    ['/v1/tokens?limit=201', 'request_query_invalid'],
    ['/v1/tokens?limit=1.5', 'request_query_invalid'],
    ['/v1/tokens?limit=ten', 'request_query_invalid'],
    ['/v1/tokens?limit=1&limit=2', 'request_query_invalid'],
    ['/v1/tokens?surprise=1', 'request_query_invalid'],
    ['/v1/tokens?cursor=%00', 'request_query_invalid'],
    ['/v1/tokens?cursor=***', 'request_query_invalid'],
    [`/v1/tokens?cursor=${'a'.repeat(600)}`, 'request_query_invalid'],
    ['/v1/projects/prj_x/members', 'request_path_invalid'],
    ['/v1/projects/..%2f/members', 'request_path_invalid'],
    [`/v1/projects/${'p'.repeat(300)}/members`, 'request_path_invalid'],
  ])('query or path %# is refused: %s', async (path, code) => {
    expect(await call('GET', path, { token })).toMatchObject({ status: 400, body: { code } });
  });
});

describe('a credential', () => {
  it.each([
    ['Basic YTpi', 'auth_invalid'],
    ['Bearer', 'auth_invalid'],
    ['Bearer x', 'auth_invalid'],
    [`Bearer cwt_${'A'.repeat(51)}`, 'auth_invalid'],
    [`Bearer ${'x'.repeat(10_000)}`, 'auth_invalid'],
    ["Bearer ' OR 1=1 --", 'auth_invalid'],
    ['Causeway-Agent id=a,nonce=b,signature=c', 'auth_invalid'],
  ])('%s is refused', async (authorization, code) => {
    expect(await call('GET', '/v1/whoami', { headers: { authorization } })).toMatchObject({
      status: 401,
      body: { code },
    });
  });
  it('is checked before anything that the request says', async () => {
    expect(await call('POST', '/v1/projects', { body: '{' })).toMatchObject({ status: 401 });
  });
});

describe('the Idempotency-Key', () => {
  it.each(['', ' ', 'a b', 'ä', 'k'.repeat(256)])('%j is refused', async (key) => {
    const answer = await call('POST', '/v1/projects', {
      token,
      body: { name: 'a' },
      headers: { 'idempotency-key': key },
    });
    expect(answer).toMatchObject({ status: 400, body: { code: 'idempotency_key_invalid' } });
  });
});

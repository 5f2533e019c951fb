/** Requests that mean harm, each with its answer. What concerns one feature alone is tested beside it. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readJson } from '../../../edge/http/body.ts';
import { faultOfJson } from '../../../edge/http/strict-json.ts';
import { enterLogin, isPassword } from '../../../edge/manager/accounts/password.ts';
import { systemClock } from '../../../edge/platform/clock.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call, origin, password, send } from '../client.ts';

let token = '';
beforeEach(async () => {
  passMs(1000);
  token = (await bootstrapped()).token;
});
afterEach(() => {
  vi.restoreAllMocks();
});
const json = { 'content-type': 'application/json' };

describe('a body that trickles in', () => {
  it('is given up when its time is over', async () => {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode('{"name":')),
    });
    const request = new Request(origin, { method: 'POST', body, headers: json });
    await expect(readJson(request, 1000, 20)).rejects.toMatchObject({ code: 'request_body_slow' });
  });
});

describe('JSON that two readers would read differently', () => {
  it.each([
    '{"name":"a","name":"b"}',
    '{"domain":"default","name":"a","domain":"other"}',
    String.raw`{"name":"a","n\u0061me":"b"}`,
    '{"name" : "a", "name"\n:"b"}',
  ])('%s is refused', async (body) => {
    const refused = await call('POST', '/v1/projects', { token, body, headers: json });
    expect(refused).toMatchObject({ status: 400, body: { code: 'request_body_malformed' } });
  });
  it.each([
    ['{"a":{"a":1},"b":{"a":2}}', undefined],
    ['[{"a":1},{"a":1}]', undefined],
    [String.raw`{"a":"\"a\":1","b":["a","a"]}`, undefined],
    [String.raw`{"a\\":1,"a":2}`, undefined],
    ['{"a":{"b":1,"b":2}}', 'repeated'],
    ['[[[{"x":1,"x":1}]]]', 'repeated'],
    [`${'['.repeat(64)}${']'.repeat(64)}`, undefined],
    [`${'['.repeat(65)}${']'.repeat(65)}`, 'deep'],
    ['"text: \\"a\\""', undefined],
  ])('%s: %s', (text, fault) => {
    expect(faultOfJson(text)).toBe(fault);
  });
});

describe('texts that look like others', () => {
  it.each([
    'аdmin@causeway.test',
    'admin@cаuseway.test',
    'admin\u200b@causeway.test',
    'ａdmin@causeway.test',
    'admin@causeway。test',
    'admin@causeway.test\u202e',
  ])('no user is called %j', async (email) => {
    expect((await call('POST', '/v1/users', { token, body: { email } })).status).toBe(400);
  });
  it.each(['раypal', 'name\u0301', 'ﬁle', 'a\u200db', 'A'])('no project is called %j', async (name) => {
    expect((await call('POST', '/v1/projects', { token, body: { name } })).status).toBe(400);
  });
  it.each(['a\u202eb', 'a\nb', 'a\u0000', 'a\u200bb', '\ud800'])('no token is called %j', async (name) => {
    expect((await call('POST', '/v1/tokens', { token, body: { name } })).status).toBe(400);
  });
  it('words of any language name a token', async () => {
    const name = 'Prüfstand 試験 ✓';
    expect(await call('POST', '/v1/tokens', { token, body: { name } })).toMatchObject({ status: 201, body: { name } });
  });
});

describe('an unknown user', () => {
  it('costs a whole hash, like a known one with the wrong password', async () => {
    for (const hash of [undefined, null]) {
      passMs(1000);
      const checked = isPassword('anything', hash);
      // While a hash is made, nobody else is let in: it was begun.
      expect(enterLogin(systemClock)).toBe(1);
      expect(await checked).toBe(false);
    }
  });
  it('is answered like a known one, headers included', async () => {
    const answers = [];
    for (const email of ['admin@causeway.test', 'nobody@causeway.test']) {
      passMs(1000);
      const { status, text, headers } = await call('POST', '/v1/auth/login', { body: { email, password: 'wrong' } });
      const { 'x-request-id': _, ...others } = Object.fromEntries(headers);
      answers.push({ status, text, others });
    }
    expect(answers[0]).toEqual(answers[1]);
  });
});

describe('a token in an address', () => {
  it.each(['/v1/whoami?token=', '/v1/whoami?access_token=', '/v1/sessions?cursor=', '/v1/users/', '/?', '/metrics?t='])(
    'is refused at %s, alone or beside a right one',
    async (path) => {
      for (const as of [{}, { token }])
        expect(await call('GET', path + token, as)).toMatchObject({
          status: 400,
          body: { code: 'request_token_in_url' },
        });
    },
  );
  it.each([
    ['cwj_0123456789abcdefghjk', 400, 'request_token_in_url'],
    ['CWJ_0123456789ABCDEFGHJK', 400, 'request_token_in_url'],
    ['cwt_', 400, 'request_path_invalid'],
    ['notes-on-cwj_tokens', 400, 'request_path_invalid'],
  ])('is what has the shape of one: %s', async (text, status, code) => {
    expect(await call('GET', `/v1/users/${text}`, { token })).toMatchObject({ status, body: { code } });
  });
});

describe('another origin', () => {
  const headers = { origin: 'https://evil.test', 'access-control-request-method': 'POST' };
  it('is told nothing that a browser would let it read or send', async () => {
    for (const [method, path] of [
      ['OPTIONS', '/v1/tokens'],
      ['OPTIONS', '/v1/auth/login'],
      ['GET', '/v1/whoami'],
      ['GET', '/openapi.json'],
    ] as const) {
      const answer = await call(method, path, { token, headers });
      const cors = [...answer.headers.keys()].filter((name) => name.startsWith('access-control-'));
      expect(cors, `${method} ${path}`).toEqual([]);
      if (method === 'OPTIONS') expect(answer.status).toBe(405);
    }
  });
  it('can post no form: a body is JSON by its type, or refused', async () => {
    const body = JSON.stringify({ email: 'admin@causeway.test', password });
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', ''])
      expect(
        (await call('POST', '/v1/auth/login', { body, headers: { ...headers, 'content-type': type } })).status,
        type,
      ).toBe(415);
  });
});

describe('pages', () => {
  it.each(['/', '/errors', '/errors/session_not_found'])('%s runs, loads, frames and stores nothing', async (path) => {
    const answer = await call('GET', path);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    const policy = answer.headers.get('content-security-policy') ?? '';
    for (const part of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"])
      expect(policy).toContain(part);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'cache-control': 'no-store',
    });
    expect(answer.text).not.toMatch(/<script|style=|onerror/);
  });
  it('tell of every error what it is and what to do; of others that there is none', async () => {
    const refused = await call('GET', '/v1/nothing');
    const page = await call('GET', String(refused.body['type']));
    expect(page.status).toBe(200);
    expect(page.text).toMatch(/HTTP 404[^]*What to do: /);
    for (const code of ['nothing', 'constructor', '__proto__', '%3Cscript%3E']) {
      const none = await call('GET', `/errors/${code}`);
      expect(none.status, code).toBe(400);
      expect(none.text).not.toContain('<script');
    }
  });
});

describe('private answers', () => {
  it('are stored nowhere, refusals and streams included', async () => {
    for (const path of [
      '/v1/whoami',
      '/v1/tokens',
      '/v1/audit',
      '/v1/nothing',
      '/v1/sessions/ses_x/logs',
      '/v1/events',
    ]) {
      const response = await send('GET', path, { token });
      await response.body?.cancel();
      expect(response.headers.get('cache-control'), path).toMatch(/no-store/);
    }
  });
  it('are no other resource when their address is dressed up', async () => {
    for (const path of ['/v1/whoami/x.css', '/v1/whoami;.js', '/v1/whoami%2fx.css', '/v1//whoami'])
      expect((await call('GET', path, { token })).status, path).toBe(404);
  });
});

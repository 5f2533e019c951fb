import { expect, it } from 'vitest';
import { findProxy } from '../../wire/proxy.ts';
import { Way } from '../../wire/way.ts';

const proxy = 'http://proxy.example:3128';
const nameFor = (url: string, env: Record<string, string>) => findProxy(env, new URL(url))?.name;

it('takes the variable of the scheme, lower case first, and none else', () => {
  expect(nameFor('https://a.example', { HTTPS_PROXY: proxy })).toBe(proxy);
  expect(nameFor('wss://a.example', { HTTPS_PROXY: proxy })).toBe(proxy);
  expect(nameFor('http://a.example', { HTTPS_PROXY: proxy })).toBeUndefined();
  expect(nameFor('ws://a.example', { HTTP_PROXY: proxy })).toBe(proxy);
  expect(nameFor('https://a.example', { HTTPS_PROXY: 'http://upper', https_proxy: 'http://lower' })).toBe(
    'http://lower',
  );
  expect(nameFor('https://a.example', { HTTPS_PROXY: '' })).toBeUndefined();
  expect(nameFor('https://a.example', { HTTPS_PROXY: 'bare:8080' })).toBe('http://bare:8080');
});

it.each([
  ['*', 'a.example', true],
  ['a.example', 'a.example', true],
  ['a.example', 'b.a.example', true],
  ['.a.example', 'b.a.example', true],
  ['*.a.example', 'b.a.example', true],
  ['a.example', 'ba.example', false],
  ['x, a.example ,y', 'A.example', true],
  ['a.example:8443', 'a.example:8443', true],
  ['a.example:8443', 'a.example', false],
  ['a.example:443', 'a.example', true],
  ['10.0.0.0/8', '10.1.2.3', true],
  ['10.0.0.0/8', '11.1.2.3', false],
  ['10.0.0.0/99', '10.1.2.3', false],
  ['10.1.2.3', '10.1.2.3', true],
  ['fd00::/8', '[fd00::1]', true],
  ['fd00::1', '[fd00::1]', true],
  ['2.3', '10.1.2.3', false],
  ['', 'a.example', false],
])('NO_PROXY=%s and https://%s: past the proxy is %s', (list, host, past) => {
  for (const name of ['NO_PROXY', 'no_proxy'])
    expect(nameFor(`https://${host}`, { HTTPS_PROXY: proxy, [name]: list }) === undefined).toBe(past);
});

it('never asks a proxy for this very machine', () => {
  for (const host of ['localhost', '127.0.0.1', '127.8.8.8', '[::1]', 'x.localhost'])
    expect(nameFor(`https://${host}:8787`, { HTTPS_PROXY: proxy }), host).toBeUndefined();
  expect(nameFor('https://127.evil.example', { HTTPS_PROXY: proxy })).toBe(proxy);
});

it('keeps credentials for the proxy alone: no name, no description and no refusal shows them', () => {
  const env = { HTTPS_PROXY: 'http://me%40work:se%3Acret%2F@[fd00::2]:3128' };
  const found = findProxy(env, new URL('https://a.example'));
  expect(found?.authorization).toBe(`Basic ${Buffer.from('me@work:se:cret/').toString('base64')}`);
  expect(found).toMatchObject({ host: 'fd00::2', port: 3128, name: 'http://[fd00::2]:3128' });
  expect(new Way(env).describe(new URL('https://a.example'))).toEqual({
    proxy: 'http://[fd00::2]:3128',
    trust: 'authority',
  });
  for (const wrong of ['socks5://me:secret@proxy:1080', 'http://me:secret@', 'http://me:%zz@proxy'])
    expect(() => findProxy({ HTTPS_PROXY: wrong }, new URL('https://a.example'))).toThrow(
      expect.objectContaining({ code: 'proxy_invalid', message: expect.not.stringContaining('secret') }),
    );
});

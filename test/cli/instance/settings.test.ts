import { expect, it } from 'vitest';

import { readSettings } from '../../../cli/instance/settings.ts';

it('takes loopback, port 8787 and the XDG data directory when nothing is set', () => {
  expect(readSettings({ XDG_DATA_HOME: '/data' })).toEqual({
    home: '/data/causeway',
    host: '127.0.0.1',
    port: 8787,
    url: 'http://127.0.0.1:8787',
    isLoopback: true,
    tls: { kind: 'off' },
    publicUrl: undefined,
    engineSocket: undefined,
    upstash: undefined,
    pythonImage: undefined,
  });
});

it('reaches an edge on every address by loopback, and knows that it is exposed', () => {
  expect(readSettings({ HOST: '0.0.0.0', PORT: '9000' })).toMatchObject({
    url: 'https://127.0.0.1:9000',
    isLoopback: false,
    tls: { kind: 'own', names: [] },
    publicUrl: expect.stringMatching(/^https:\/\/.+:9000$/),
  });
  expect(readSettings({ HOST: '::1' })).toMatchObject({ url: 'http://[::1]:8787', isLoopback: true });
});

it('serves TLS when others reach it, and as it is told', () => {
  const names = { CAUSEWAY_HOSTNAME: 'CP.example, fd00::7' };
  expect(readSettings({ HOST: '10.0.0.7', ...names })).toMatchObject({
    url: 'https://10.0.0.7:8787',
    publicUrl: 'https://cp.example:8787',
    tls: { kind: 'own', names: ['cp.example', 'fd00::7', '10.0.0.7'] },
  });
  expect(readSettings({ HOST: '10.0.0.7', CAUSEWAY_TLS: 'off' })).toMatchObject({
    url: 'http://10.0.0.7:8787',
    publicUrl: 'http://10.0.0.7:8787',
    tls: { kind: 'off' },
  });
  expect(readSettings({ CAUSEWAY_TLS: 'on' })).toMatchObject({ url: 'https://127.0.0.1:8787', publicUrl: undefined });
  expect(readSettings({ CAUSEWAY_TLS_CERT: '/a.pem', CAUSEWAY_TLS_KEY: '/a.key' })).toMatchObject({
    url: 'https://127.0.0.1:8787',
    tls: { kind: 'files', certificate: '/a.pem', key: '/a.key' },
  });
});

const s3Keys = { CAUSEWAY_LOGS_S3_ACCESS_KEY_ID: 'k', CAUSEWAY_LOGS_S3_SECRET_ACCESS_KEY: 's' };

it.each([
  ['PORT', { PORT: '0' }],
  ['PORT', { PORT: 'http' }],
  ['HOST', { HOST: 'a b' }],
  ['CAUSEWAY_TLS', { CAUSEWAY_TLS: 'maybe' }],
  ['CAUSEWAY_TLS_CERT', { CAUSEWAY_TLS_CERT: '/a.pem' }],
  ['CAUSEWAY_HOSTNAME', { CAUSEWAY_HOSTNAME: 'a b/c' }],
  ['DOCKER_HOST', { DOCKER_HOST: 'tcp://10.0.0.1:2375' }],
  ['DOCKER_HOST', { DOCKER_HOST: 'ssh://root@host' }],
  ['UPSTASH_REDIS_REST_URL', { UPSTASH_REDIS_REST_URL: 'https://redis.test' }],
  ['UPSTASH_REDIS_REST_URL', { UPSTASH_REDIS_REST_URL: 'redis', UPSTASH_REDIS_REST_TOKEN: 't' }],
  ['CAUSEWAY_LOGS_S3_ACCESS_KEY_ID', { CAUSEWAY_LOGS_S3_URL: 'https://s3.test/logs' }],
  ['CAUSEWAY_LOGS_S3_URL', { CAUSEWAY_LOGS_S3_ACCESS_KEY_ID: 'k', CAUSEWAY_LOGS_S3_SECRET_ACCESS_KEY: 's' }],
  ['CAUSEWAY_LOGS_S3_URL', { ...s3Keys, CAUSEWAY_LOGS_S3_URL: 's3://logs' }],
  ['CAUSEWAY_LOGS_S3_URL', { ...s3Keys, CAUSEWAY_LOGS_S3_URL: 'https://s3.test/logs/' }],
  ['CAUSEWAY_LOGS_S3_URL', { ...s3Keys, CAUSEWAY_LOGS_S3_URL: 'https://s3.test/logs?x=1' }],
])('refuses a wrong %s by its name: %o', (name, env) => {
  expect(() => readSettings(env)).toThrow(new RegExp(`^${name}=`));
});

it('takes a bucket of S3', () => {
  expect(readSettings({}).logsS3).toBeUndefined();
  expect(readSettings({ ...s3Keys, CAUSEWAY_LOGS_S3_URL: 'https://s3.test/logs' }).logsS3).toEqual({
    url: 'https://s3.test/logs',
    region: undefined,
    accessKeyId: 'k',
    secretAccessKey: 's',
  });
});

it('takes the socket of DOCKER_HOST and a whole Upstash configuration', () => {
  const env = {
    DOCKER_HOST: 'unix:///run/other.sock',
    UPSTASH_REDIS_REST_URL: 'https://redis.test',
    UPSTASH_REDIS_REST_TOKEN: 't',
  };
  expect(readSettings(env)).toMatchObject({
    engineSocket: '/run/other.sock',
    upstash: { url: 'https://redis.test', token: 't' },
  });
});

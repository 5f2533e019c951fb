/** Uploaded keys at the agent's SSH server: of every kind, for as long as the edge says; the client is ssh2's own. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Client, type PublicKeyAuthContext, utils } from 'ssh2';
import { SshConnections } from '../../../agent-daemon/ssh/connections.ts';
import { parseSignInKey } from '../../../agent-daemon/ssh/sign-in-key.ts';
import { until } from '../../support/wait.ts';
import { LiveSession } from '../live-session.ts';
import { ManualTimers } from '../ports.ts';
import { connectTo, dial, exec, key, run, type SaidKeys } from './dialled.ts';

let live: LiveSession;
let ssh: SshConnections;
const clients: Client[] = [];
const connect = (privateKey: string, said: SaidKeys) => connectTo(ssh, clients, privateKey, said);

beforeEach(async () => {
  live = await LiveSession.start();
  ssh = new SshConnections(live.of);
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await live.stop();
});

const make = (type: 'rsa' | 'ecdsa', bits: number) => {
  const { private: privateKey, public: line } = utils.generateKeyPairSync(type, { bits } as never);
  return { privateKey, publicKey: line.split(' ').slice(0, 2).join(' ') };
};

it('lets nobody stay who says nothing', async () => {
  const timers = new ManualTimers();
  const { stream, done } = dial(new SshConnections({ ...live.of, timers }));
  await until(() => stream.info !== undefined && timers.size > 0, { what: 'the connection' });
  timers.fire();
  await done;
});

describe('[S16] an uploaded key', () => {
  it.each([
    ['rsa', 3072],
    ['ecdsa', 256],
    ['ecdsa', 384],
    ['ecdsa', 521],
  ] as const)('of %s with %d bits signs in beside the one of the stream, and without one', async (type, bits) => {
    const { privateKey, publicKey } = make(type, bits);
    const own = key.public.split(' ').slice(0, 2).join(' ');
    const uploadedKeys = [{ publicKey }];
    const { client } = await connect(privateKey, { uploadedKeys });
    expect(await run(await exec(client, 'echo in'))).toMatchObject({ stdout: 'in\n' });
    await connect(key.private, { publicKey: own, uploadedKeys });
    await expect(connect(key.private, { uploadedKeys })).rejects.toThrow('authentication methods failed');
  });

  it('ends with its connection when its time is over, and lets nobody in any more', async () => {
    const { privateKey, publicKey } = make('ecdsa', 256);
    const { client, done } = await connect(privateKey, { uploadedKeys: [{ publicKey, validForMs: 1500 }] });
    await exec(client, 'trap "echo hup > was; exit" HUP; echo up; while :; do sleep 0.05; done');
    await done;
    await until(() => existsSync(join(live.dir.path, 'was')), { what: 'the hang-up' });
    const late = { uploadedKeys: [{ publicKey, validForMs: 0 }] };
    await expect(connect(privateKey, late)).rejects.toThrow('authentication methods failed');
  });

  it('ends no connection that another key has signed in on', async () => {
    const { publicKey } = make('ecdsa', 256);
    const own = key.public.split(' ').slice(0, 2).join(' ');
    const { client } = await connect(key.private, { publicKey: own, uploadedKeys: [{ publicKey, validForMs: 100 }] });
    expect(await run(await exec(client, 'sleep 0.3; echo on'))).toMatchObject({ stdout: 'on\n' });
  });
});

const string = (bytes: Buffer | string): Buffer => {
  const content = Buffer.from(bytes as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.byteLength);
  return Buffer.concat([length, content]);
};
const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest();
const asked = Buffer.from('session id and request');

/** As a token in hardware signs: its application, flags and a counter are part of what is signed. */
function signedInHardware(algo: string, privateKey: KeyObject, flags: number, application = 'ssh:') {
  const tail = Buffer.from([flags, 0, 0, 1, 2]);
  const message = Buffer.concat([sha256(application), tail, sha256(asked)]);
  const isEcdsa = algo.startsWith('sk-ecdsa');
  if (!isEcdsa) return Buffer.concat([sign(null, message, privateKey), tail]);
  const both = sign('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  // As numbers: a zero in front of a high bit, and none that is not needed.
  const number = (bytes: Buffer) => {
    const short = bytes.subarray(bytes.findIndex((byte) => byte !== 0));
    return string(short[0]! >= 0x80 ? Buffer.concat([Buffer.alloc(1), short]) : short);
  };
  return Buffer.concat([number(both.subarray(0, 32)), number(both.subarray(32)), tail]);
}

describe.each(['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'])('a key of type %s', (algo) => {
  const isEcdsa = algo.startsWith('sk-ecdsa');
  const { publicKey, privateKey } = isEcdsa
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('ed25519');
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const [first, second] = [Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')];
  const point = Buffer.concat([Buffer.from([4]), first, second]);
  const body = isEcdsa ? [string('nistp256'), string(point)] : [string(first)];
  const blob = Buffer.concat([string(algo), ...body, string('ssh:')]);
  const parsed = parseSignInKey(utils, `${algo} ${blob.toString('base64')}`)!;
  const attempt = (signature?: Buffer, signed = asked) =>
    ({ key: { algo, data: blob }, ...(signature ? { signature, blob: signed } : {}) }) as PublicKeyAuthContext;

  it('is asked for a signature, and taken with one that somebody touched it for', () => {
    expect(parsed.accepts(attempt())).toBe(true);
    for (let n = 0; n < 50; n++) expect(parsed.accepts(attempt(signedInHardware(algo, privateKey, 1)))).toBe(true);
  });

  it('is refused without a touch, for another application, for another request, and cut short', () => {
    const signature = signedInHardware(algo, privateKey, 1);
    expect(parsed.accepts(attempt(signedInHardware(algo, privateKey, 4)))).toBe(false);
    expect(parsed.accepts(attempt(signedInHardware(algo, privateKey, 1, 'ssh:other')))).toBe(false);
    expect(parsed.accepts(attempt(signature, Buffer.from('another request')))).toBe(false);
    for (const end of [0, 1, 5, 6, signature.byteLength - 1])
      expect(parsed.accepts(attempt(signature.subarray(0, end)))).toBe(false);
    const other = { key: { algo, data: Buffer.concat([blob, string('')]) } } as PublicKeyAuthContext;
    expect(parsed.accepts(other)).toBe(false);
  });
});

it('takes no signature of RSA by SHA-1', () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 3072 });
  const jwk = publicKey.export({ format: 'jwk' });
  const [e, n] = [Buffer.from(jwk.e!, 'base64url'), Buffer.from(jwk.n!, 'base64url')];
  const data = Buffer.concat([string('ssh-rsa'), string(e), string(Buffer.concat([Buffer.alloc(1), n]))]);
  const parsed = parseSignInKey(utils, `ssh-rsa ${data.toString('base64')}`)!;
  const by = (hash: string, hashAlgo?: string) =>
    parsed.accepts({
      key: { algo: 'ssh-rsa', data },
      signature: sign(hash, asked, privateKey),
      blob: asked,
      ...(hashAlgo === undefined ? {} : { hashAlgo }),
    } as PublicKeyAuthContext);
  expect(by('sha256', 'sha256')).toBe(true);
  expect(by('sha512', 'sha512')).toBe(true);
  expect(by('sha1')).toBe(false);
});

/** The connection under everything we say: who it takes for the control plane, and how it gets there. */
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:https';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, expect, it } from 'vitest';
import { ensureMaterial, readMaterial, type TlsMaterial } from '../../edge/serve/tls/material.ts';
import { connectTo } from '../../wire/connect.ts';
import { fetchBy } from '../../wire/http.ts';
import { pinOf } from '../../wire/pins.ts';
import { Way } from '../../wire/way.ts';
import { startConnectProxy } from '../support/connect-proxy.ts';
import { tmpDir, type TmpDir } from '../support/tmp.ts';

const open: { close(): unknown }[] = [];
const folders: TmpDir[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
  for (const each of folders.splice(0)) each.remove();
});

function folder(): string {
  const made = tmpDir('tls');
  folders.push(made);
  return made.path;
}

const names = ['cp.example', '127.0.0.1'];
const material = (at: string) => ensureMaterial(at, names, Date.now());
const authorityPin = (at: string) => pinOf(new X509Certificate(readFileSync(join(at, 'ca.pem'))));

const strangersPin = () => material(folder()).pin;

interface Serving {
  url: URL;
  /** Requests that arrived. */
  requests: string[];
}

/** An HTTPS server that echoes bodies; `chain` instead of the material's own. */
async function serve({ privateKey, certificateChain }: TlsMaterial, chain = certificateChain): Promise<Serving> {
  const requests: string[] = [];
  const server = createServer({ key: privateKey, cert: chain }, (request, answer) => {
    requests.push(`${request.method} ${request.url} ${request.headers.host}`);
    request.pipe(answer.writeHead(200, { 'x-cookie': ['a', 'b'] }));
  });
  return { url: await listening(server), requests };
}

async function listening(server: Server): Promise<URL> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  open.push({ close: () => (server.closeAllConnections(), server.close()) });
  return new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}/there?x=1`);
}

const ask = async (url: URL, way: Way) => {
  const answer = await fetchBy(way)(url, { method: 'POST', body: 'hello', signal: AbortSignal.timeout(20_000) });
  return answer.text();
};
const refusal = (code: string, words: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(words), hint: expect.stringMatching(/\w/) });

it('takes a server by the pin of its own key, and by that of its authority', async () => {
  const at = folder();
  const made = material(at);
  const { url, requests } = await serve(made);
  expect(await ask(url, new Way({}, [made.pin]))).toBe('hello');
  expect(await ask(url, new Way({}, [`sha256:${'0'.repeat(64)}`, authorityPin(at)]))).toBe('hello');
  expect(requests).toEqual(Array(2).fill(`POST /there?x=1 ${url.host}`));
});

it('keeps taking it when the certificate was made anew: for the same key, or for another of the same authority', async () => {
  const at = folder();
  const before = material(at);
  const ways = { key: new Way({}, [before.pin]), authority: new Way({}, [authorityPin(at)]) };
  const renewed = ensureMaterial(at, [...names, 'new.example'], Date.now());
  expect(renewed.certificateChain).not.toBe(before.certificateChain);
  expect(renewed.pin).toBe(before.pin);
  const same = await serve(renewed);
  expect(await ask(same.url, ways.key)).toBe('hello');
  expect(await ask(same.url, ways.authority)).toBe('hello');
  unlinkSync(join(at, 'server.key'));
  const other = await serve(material(at));
  expect(await ask(other.url, ways.authority)).toBe('hello');
  await expect(ask(other.url, ways.key)).rejects.toThrow(/is not the control plane that was pinned/);
});

it('refuses another key in words before one byte of a request leaves', async () => {
  const made = material(folder());
  const { url, requests } = await serve(material(folder()));
  const pinned = refusal(
    'tls_pin_mismatch',
    new RegExp(`${url.host} is not the control plane.*${made.pin}.*has the key`),
  );
  await expect(ask(url, new Way({}, [made.pin]))).rejects.toThrow(pinned);
  expect(requests).toEqual([]);
});

it('does not take a stranger who sends the pinned authority along, nor a name that it did not sign for', async () => {
  const at = folder();
  const genuine = material(at);
  const stranger = material(folder());
  const leaf = stranger.certificateChain.slice(0, stranger.certificateChain.indexOf('-----BEGIN', 1));
  const forged = await serve(stranger, `${leaf}${readFileSync(join(at, 'ca.pem'), 'utf8')}`);
  const way = new Way({}, [authorityPin(at), genuine.pin]);
  await expect(ask(forged.url, way)).rejects.toThrow(refusal('tls_pin_mismatch', /has the key/));
  unlinkSync(join(at, 'server.pem'));
  const named = await serve(ensureMaterial(at, ['other.example'], Date.now()));
  await expect(ask(named.url, new Way({}, [authorityPin(at)]))).rejects.toThrow(
    refusal('tls_pin_mismatch', /its certificate is not for 127\.0\.0\.1 \(DNS:other\.example\)/),
  );
  expect([...forged.requests, ...named.requests]).toEqual([]);
});

it('believes the authorities of SSL_CERT_FILE, and without it nobody who signed our own', async () => {
  const at = folder();
  const { url, requests } = await serve(material(at));
  const file = join(at, 'ca.pem');
  expect(await ask(url, new Way({ SSL_CERT_FILE: file }))).toBe('hello');
  await expect(ask(url, new Way({}))).rejects.toThrow(refusal('tls_untrusted', /of nobody that this machine believes/));
  const strange = folder();
  material(strange);
  await expect(ask(url, new Way({ SSL_CERT_FILE: join(strange, 'ca.pem') }))).rejects.toThrow(/of nobody/);
  const wrong = new URL(url);
  wrong.hostname = 'localhost';
  await expect(ask(wrong, new Way({ SSL_CERT_FILE: file }))).rejects.toThrow(
    refusal('tls_name_mismatch', /other names/),
  );
  writeFileSync(file, 'nothing');
  for (const bad of [file, join(at, 'absent.pem')])
    await expect(ask(url, new Way({ SSL_CERT_FILE: bad }))).rejects.toThrow(
      refusal('tls_ca_file_invalid', /SSL_CERT_FILE/),
    );
  expect(requests).toHaveLength(1);
});

it('says that a server speaks no TLS, and gives up when it is told to', async () => {
  const plain = createHttpServer((_, answer) => answer.end());
  await new Promise<void>((resolve) => void plain.listen(0, '127.0.0.1', resolve));
  open.push({ close: () => (plain.closeAllConnections(), plain.close()) });
  const url = new URL(`https://127.0.0.1:${(plain.address() as AddressInfo).port}`);
  await expect(ask(url, new Way({}, [`sha256:${'0'.repeat(64)}`]))).rejects.toThrow(
    refusal('tls_absent', /does not speak TLS/),
  );
  const silent = new AbortController();
  const server = await serve(material(folder()));
  const waiting = connectTo(server.url, new Way({}, []), { signal: silent.signal });
  silent.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
});

/** The server of `url` under a name that only the proxy of the test knows: loopback is never asked of a proxy. */
function named(url: URL, protocol = 'https:'): URL {
  return new URL(`${protocol}//cp.example:${url.port}${url.pathname}${url.search}`);
}
const hosts = { 'cp.example': '127.0.0.1' };

it('goes through a proxy as a tunnel, with credentials, and proves the server behind it', async () => {
  const at = folder();
  const made = material(at);
  const { url, requests } = await serve(made);
  await using proxy = await startConnectProxy({ credentials: 'me:se/cret', hosts });
  const env = { HTTPS_PROXY: `http://me:se%2Fcret@127.0.0.1:${proxy.port}` };
  const far = named(url);
  expect(await ask(far, new Way(env, [made.pin]))).toBe('hello');
  expect(await ask(far, new Way({ ...env, SSL_CERT_FILE: join(at, 'ca.pem') }))).toBe('hello');
  await expect(ask(far, new Way(env, [strangersPin()]))).rejects.toThrow(
    refusal('tls_pin_mismatch', /is not the control plane/),
  );
  expect(proxy.asked).toEqual([1, 2, 3].map(() => ({ target: far.host, status: 200 })));
  expect(requests).toHaveLength(2);
  await expect(ask(far, new Way({ ...env, NO_PROXY: 'cp.example' }, [made.pin]))).rejects.toThrow(
    /ENOTFOUND|EAI_AGAIN/,
  );
});

it('says in words what a proxy wants, without its secrets', async () => {
  const { url } = await serve(material(folder()));
  await using wanting = await startConnectProxy({ credentials: 'me:right', hosts });
  await using refusing = await startConnectProxy({ status: 403 });
  const through = (at: string) => ask(named(url), new Way({ https_proxy: at }, []));
  await expect(through(`http://127.0.0.1:${wanting.port}`)).rejects.toThrow(
    refusal('proxy_auth_required', /wants a user name and a password \(407\)/),
  );
  const wrong = await through(`http://me:wrong-secret@127.0.0.1:${wanting.port}`).catch((error: unknown) => error);
  expect(wrong).toEqual(refusal('proxy_auth_required', /does not take the user name and password of https_proxy/));
  expect(String(wrong)).not.toContain('wrong-secret');
  await expect(through(`http://127.0.0.1:${refusing.port}`)).rejects.toThrow(
    expect.objectContaining({ code: 'proxy_refused', final: false, message: expect.stringContaining('HTTP 403') }),
  );
  await refusing.stop();
  await expect(through(`http://127.0.0.1:${refusing.port}`)).rejects.toThrow(
    expect.objectContaining({ code: 'proxy_unreachable', message: expect.stringContaining('ECONNREFUSED') }),
  );
});

it('takes a proxy that itself speaks TLS, by the authorities of the environment', async () => {
  const at = folder();
  const made = material(at);
  const { url } = await serve(made);
  await using proxy = await startConnectProxy({ hosts });
  const front = createTlsServer({ key: made.privateKey, cert: made.certificateChain }, (socket) => {
    const inner = connectTcp(proxy.port, '127.0.0.1');
    socket
      .on('error', () => inner.destroy())
      .pipe(inner.on('error', () => socket.destroy()))
      .pipe(socket);
  });
  await new Promise<void>((resolve) => void front.listen(0, '127.0.0.1', resolve));
  open.push(front);
  const env = { HTTPS_PROXY: `https://127.0.0.1:${(front.address() as AddressInfo).port}` };
  expect(await ask(named(url), new Way({ ...env, SSL_CERT_FILE: join(at, 'ca.pem') }, [made.pin]))).toBe('hello');
  await expect(ask(named(url), new Way(env, [made.pin]))).rejects.toThrow(refusal('proxy_unreachable', /SELF_SIGNED/));
});

it('reads into the buffer that it is given, also on a connection that a proxy has opened', async () => {
  const made = material(folder());
  const { url } = await serve(made);
  const plain = createHttpServer((request, answer) => void request.pipe(answer));
  await new Promise<void>((resolve) => void plain.listen(0, '127.0.0.1', resolve));
  open.push({ close: () => (plain.closeAllConnections(), plain.close()) });
  await using proxy = await startConnectProxy({ hosts });
  const through = `http://127.0.0.1:${proxy.port}`;
  const way = new Way({ HTTPS_PROXY: through, HTTP_PROXY: through }, [made.pin]);
  const plainUrl = new URL(`http://127.0.0.1:${(plain.address() as AddressInfo).port}`);
  for (const target of [named(url, 'wss:'), named(plainUrl, 'ws:'), url, plainUrl]) {
    let said = '';
    const callback = (count: number, buffer: Uint8Array) => {
      said += Buffer.from(buffer.subarray(0, count)).toString('latin1');
      return true;
    };
    const socket = await connectTo(target, way, { onread: { buffer: Buffer.alloc(64 * 1024), callback } });
    socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello');
    await expect.poll(() => said, { timeout: 20_000 }).toMatch(/200 OK[^]*hello/);
    socket.destroy();
  }
  expect(proxy.asked).toHaveLength(2);
});

it('reads files that somebody else looks after, and refuses what can not be served with, in words', () => {
  const at = folder();
  const made = material(at);
  const [certificate, key] = [join(at, 'server.pem'), join(at, 'server.key')];
  expect(readMaterial(certificate, key, Date.now())).toMatchObject({ pin: made.pin, public: false });
  expect(() => readMaterial(certificate, join(at, 'ca.key'), Date.now())).toThrow(/is not the key of the first/);
  expect(() => readMaterial(certificate, certificate, Date.now())).toThrow(/holds no private key/);
  expect(() => readMaterial(key, key, Date.now())).toThrow(/holds no certificate/);
  expect(() => readMaterial(join(at, 'none'), key, Date.now())).toThrow(/can not be read: ENOENT/);
  expect(() => readMaterial(certificate, key, made.endsAtMs + 1)).toThrow(/ended on/);
});

it('makes keys for their owner alone, keeps what is good, and renews what is about to end', () => {
  const at = folder();
  const nowMs = Date.now();
  const made = material(at);
  for (const file of ['ca.key', 'server.key']) expect(statSync(join(at, file)).mode & 0o777).toBe(0o600);
  expect(material(at).certificateChain).toBe(made.certificateChain);
  const later = ensureMaterial(at, names, nowMs + (made.endsAtMs - nowMs) * 0.6);
  expect(later.endsAtMs).toBeGreaterThan(made.endsAtMs);
  expect(later.pin).toBe(made.pin);
  const leaf = new X509Certificate(later.certificateChain);
  expect(leaf.checkHost('cp.example')).toBe('cp.example');
  expect(leaf.checkIP('127.0.0.1')).toBe('127.0.0.1');
  expect(leaf.ca).toBe(false);
  expect(leaf.verify(new X509Certificate(readFileSync(join(at, 'ca.pem'))).publicKey)).toBe(true);
  writeFileSync(join(at, 'server.key'), 'broken');
  expect(() => material(at)).toThrow(/server.key is damaged/);
});

/**
 * The key and certificates that the edge serves with. Made in a folder when there are none: an authority that lives long
 * (`ca.pem`), and a server certificate that is made anew, for the same key, when its end or its names ask for it: whoever
 * pinned the key keeps going. Or read from files that somebody else looks after. Keys are 0600 and never printed.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';

import { isFor, pinOf } from '../../../wire/pins.ts';
import { findText, replaceFile } from '../files.ts';
import { makeAuthority, makeServerCertificate } from './certificate.ts';

const dayMs = 86_400_000;
const authorityDays = 20 * 365;
/** What browsers take from an authority that a person installed. */
const serverDays = 820;
/** A fresh certificate must be good for clients whose clock is somewhat behind. */
const skewMs = dayMs;

export interface TlsMaterial {
  /** PEM. Secret. */
  privateKey: string;
  /** PEM: the server's certificate, then what leads to its authority. */
  certificateChain: string;
  /** Pin of the server's key. */
  pin: string;
  /** Names and addresses of the certificate. */
  names: string[];
  endsAtMs: number;
  /** True when everybody's programs believe it: then nobody needs the pin. */
  public: boolean;
}

/** Worded for the one who started the edge. */
export class TlsRefused extends Error {}

/** Names and addresses by which this machine may be reached; `given` first. Addresses of bridges for containers are not. */
export function namesOfMachine(given: readonly string[]): string[] {
  const own = Object.entries(networkInterfaces())
    .filter(([device]) => !/^(docker|br-|veth|virbr|cni)/.test(device))
    .flatMap(([, addresses = []]) => addresses)
    .filter(({ internal, scopeid }) => !internal && !scopeid)
    .map(({ address }) => address);
  return [
    ...new Set([
      ...given.map((each) => each.toLowerCase()),
      hostname().toLowerCase(),
      'localhost',
      ...own,
      '127.0.0.1',
      '::1',
    ]),
  ].filter((name) => name !== '');
}

/** The material of `folder` for a server of these names, made or renewed where that is needed. Idempotent over crashes. */
export function ensureMaterial(folder: string, names: readonly string[], nowMs: number): TlsMaterial {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const authorityKey = ensureKey(join(folder, 'ca.key'));
  const serverKey = ensureKey(join(folder, 'server.key'));
  const authority = ensureAuthority(join(folder, 'ca.pem'), authorityKey, nowMs);
  const file = join(folder, 'server.pem');
  const known = findCertificate(file);
  const isGood = known !== undefined && isUsable(known, { authority, serverKey, names, nowMs });
  if (!isGood) {
    const made = makeServerCertificate({
      key: serverKey,
      names,
      issuer: commonNameOf(authority),
      issuerKey: authorityKey,
      fromMs: nowMs - skewMs,
      toMs: Math.min(nowMs + serverDays * dayMs, authority.validToDate.getTime()),
    });
    replaceFile(file, `${made}${authority.toString()}`, 0o644);
  }
  return describe(pemOf(serverKey), readFileSync(file, 'utf8'), false);
}

/** Material that somebody else looks after. @throws TlsRefused when it can not be served with */
export function readMaterial(certificateFile: string, keyFile: string, nowMs: number): TlsMaterial {
  const chain = read(certificateFile);
  const key = read(keyFile);
  let material: TlsMaterial;
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(chain);
    material = describe(key, chain, isPublic(chain));
  } catch (error) {
    throw new TlsRefused(`${certificateFile} holds no certificate in PEM: ${(error as Error).message}`);
  }
  let fits: boolean;
  try {
    fits = leaf.checkPrivateKey(createPrivateKey(key));
  } catch (error) {
    throw new TlsRefused(`${keyFile} holds no private key in PEM without a password: ${(error as Error).message}`);
  }
  if (!fits) throw new TlsRefused(`${keyFile} is not the key of the first certificate in ${certificateFile}`);
  if (material.endsAtMs <= nowMs) throw new TlsRefused(`${certificateFile} ended on ${leaf.validTo}: renew it`);
  return material;
}

function describe(privateKey: string, certificateChain: string, everybodys: boolean): TlsMaterial {
  const leaf = new X509Certificate(certificateChain);
  const names = (leaf.subjectAltName ?? '').split(', ').map((each) => each.replace(/^(DNS|IP Address):/, ''));
  const endsAtMs = leaf.validToDate.getTime();
  return { privateKey, certificateChain, pin: pinOf(leaf), names, endsAtMs, public: everybodys };
}

/** True when a certificate of the chain is signed by an authority that Node brings. */
function isPublic(chain: string): boolean {
  const blocks = chain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const roots = rootCertificates.map((pem) => new X509Certificate(pem));
  return blocks
    .map((pem) => new X509Certificate(pem))
    .some((link) => roots.some((root) => link.checkIssued(root) && link.verify(root.publicKey)));
}

interface Wanted {
  authority: X509Certificate;
  serverKey: KeyObject;
  names: readonly string[];
  nowMs: number;
}

/** Good for at least half of its life, for all names, of this key and authority. */
function isUsable(known: X509Certificate, { authority, serverKey, names, nowMs }: Wanted): boolean {
  const [fromMs, toMs] = [known.validFromDate.getTime(), known.validToDate.getTime()];
  return (
    fromMs <= nowMs &&
    nowMs < (fromMs + toMs) / 2 &&
    known.checkPrivateKey(serverKey) &&
    known.verify(authority.publicKey) &&
    names.every((name) => isFor(known, name))
  );
}

function ensureAuthority(file: string, key: KeyObject, nowMs: number): X509Certificate {
  const known = findCertificate(file);
  if (known?.checkPrivateKey(key) === true && known.validToDate.getTime() > nowMs + serverDays * dayMs) return known;
  const life = { fromMs: nowMs - skewMs, toMs: nowMs + authorityDays * dayMs };
  replaceFile(file, makeAuthority(`Causeway on ${hostname()}`.slice(0, 64), key, life), 0o644);
  return new X509Certificate(readFileSync(file));
}

function commonNameOf({ subject }: X509Certificate): string {
  return subject.replace(/^CN=/, '');
}

const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }) as string;

function ensureKey(file: string): KeyObject {
  const text = findText(file);
  if (text !== undefined) {
    try {
      return createPrivateKey(text);
    } catch {
      throw new TlsRefused(`${file} is damaged: restore it, or move its folder away and have all machines pin anew`);
    }
  }
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  replaceFile(file, pemOf(privateKey), 0o600);
  return privateKey;
}

function findCertificate(file: string): X509Certificate | undefined {
  const text = findText(file);
  try {
    return text === undefined ? undefined : new X509Certificate(text);
  } catch {
    return undefined; // made anew
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new TlsRefused(`${file} can not be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}

/**
 * X.509 certificates (RFC 5280) of exactly two kinds: an authority of ours, and the server's that it signs; ECDSA P-256. Only
 * what these two need is written here, and nothing is parsed: reading certificates is Node's. A package for this would bring
 * twenty others and a change of the global `Reflect` for two hundred bytes of structure.
 */
import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';

const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Tag, length, content. */
function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const size = content.byteLength;
  if (size < 0x80) return Buffer.concat([Buffer.from([tag, size]), content]);
  const length = size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

const sequence = (...parts: Uint8Array[]): Buffer => der(tags.sequence, ...parts);
const octets = (content: Uint8Array): Buffer => der(tags.octetString, content);
const yes = der(tags.boolean, Buffer.from([0xff]));

/** An object identifier; every number after the first two is below 2^21. */
function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const number of rest)
    bytes.push(
      ...(number >= 1 << 14 ? [0x80 | (number >> 14)] : []),
      ...(number >= 1 << 7 ? [0x80 | ((number >> 7) & 0x7f)] : []),
      number & 0x7f,
    );
  return der(tags.oid, Buffer.from(bytes));
}

const oids = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
} as const;

const name = (commonName: string): Buffer =>
  sequence(der(tags.set, sequence(oid(oids.commonName), der(tags.utf8String, Buffer.from(commonName)))));

/** Until 2049 as UTCTime, later as GeneralizedTime, as RFC 5280 wants it. */
function time(atMs: number): Buffer {
  const text = `${new Date(atMs).toISOString().slice(0, 19).replace(/[-:T]/g, '')}Z`;
  const early = Number(text.slice(0, 4)) < 2050;
  return der(early ? tags.utcTime : tags.generalizedTime, Buffer.from(early ? text.slice(2) : text));
}

function extension(id: string, value: Uint8Array, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [yes] : []), octets(value));
}

/** One or two bits of key usage, the highest first. */
function keyUsage(bits: number, unused: number): Buffer {
  return extension(oids.keyUsage, der(tags.bitString, Buffer.from([unused, bits])), true);
}

/** SHA-1 of the key, by which certificates name each other (RFC 5280 4.2.1.2): a name, not a proof. */
function keyId(key: KeyObject): Buffer {
  const spki = key.export({ type: 'spki', format: 'der' });
  return createHash('sha1').update(spki).digest();
}

/** The four or sixteen bytes of an address. */
function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  // The URL parser writes every IPv6 address in one way: at most one `::`, no dotted part.
  const [head = '', tail = ''] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((each) => Number.parseInt(each, 16));
  const [front, back] = [groups(head), groups(tail)];
  const all = [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** dNSName [2] and iPAddress [7]. */
const altName = (text: string): Buffer =>
  isIP(text) === 0 ? der(0x82, Buffer.from(text)) : der(0x87, addressBytes(text));

interface Signing {
  subject: string;
  key: KeyObject;
  issuer: string;
  issuerKey: KeyObject;
  fromMs: number;
  toMs: number;
  extensions: Buffer[];
}

function signed({ subject, key, issuer, issuerKey, fromMs, toMs, extensions }: Signing): string {
  const algorithm = sequence(oid(oids.ecdsaWithSha256));
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40; // positive, and never shorter
  const body = sequence(
    der(0xa0, der(tags.integer, Buffer.from([2]))), // version 3
    der(tags.integer, serial),
    algorithm,
    name(issuer),
    sequence(time(fromMs), time(toMs)),
    name(subject),
    createPublicKey(key).export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  );
  const signature = sign('sha256', body, issuerKey);
  const whole = sequence(body, algorithm, der(tags.bitString, Buffer.from([0]), signature));
  const lines = whole.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

export interface Lifetime {
  fromMs: number;
  toMs: number;
}

/** A certificate (PEM) by which `key` signs servers' certificates, and nothing else. */
export function makeAuthority(subject: string, key: KeyObject, life: Lifetime): string {
  const extensions = [
    extension(oids.basicConstraints, sequence(yes, der(tags.integer, Buffer.from([0]))), true), // an authority, of leaves only
    keyUsage(0b0000_0110, 1), // keyCertSign, cRLSign
    extension(oids.subjectKeyId, octets(keyId(createPublicKey(key)))),
  ];
  return signed({ subject, key, issuer: subject, issuerKey: key, ...life, extensions });
}

export interface Server extends Lifetime {
  key: KeyObject;
  /** Names and addresses, the main one first. */
  names: readonly string[];
  issuer: string;
  issuerKey: KeyObject;
}

/** A certificate (PEM) of a server with these names and addresses, signed by the authority. */
export function makeServerCertificate({ key, names, issuer, issuerKey, ...life }: Server): string {
  const extensions = [
    extension(oids.basicConstraints, sequence(), true),
    keyUsage(0b1000_0000, 7), // digitalSignature
    extension(oids.extendedKeyUsage, sequence(oid(oids.serverAuth))),
    extension(oids.subjectAltName, sequence(...names.map(altName))),
    extension(oids.subjectKeyId, octets(keyId(createPublicKey(key)))),
    extension(oids.authorityKeyId, sequence(der(0x80, keyId(createPublicKey(issuerKey))))),
  ];
  return signed({ subject: (names[0] ?? 'causeway').slice(0, 64), key, issuer, issuerKey, ...life, extensions });
}

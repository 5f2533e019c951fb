/**
 * The line of a public key (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"), taken apart strictly: one key, of a type that agents
 * can check signatures of, exactly as long as it says. Pure.
 */
import { toBase64 } from '../../platform/base64.ts';

export interface PublicKey {
  type: string;
  /** Type and base64: what is kept. */
  text: string;
  /** What is hashed for its fingerprint. */
  blob: Uint8Array<ArrayBuffer>;
  comment: string;
}
/** `why`: words for the person who sent it. */
export type ParsedKey = { ok: true; key: PublicKey } | { ok: false; why: string };

/** Moduli of RSA in bits. Smaller ones are no longer safe (NIST SP 800-57, beyond 2030), larger ones only cost time. */
const rsaBits = { least: 3072, most: 8192 } as const;
/** Bytes of a point on a curve, not compressed. */
const points = { nistp256: 65, nistp384: 97, nistp521: 133 } as const;

/** What follows the type (RFC 4253 section 6.6, RFC 5656, RFC 8709, OpenSSH's PROTOCOL.u2f); answers what is wrong, if anything. */
const bodies: Record<string, (reader: Reader) => string | undefined> = {
  'ssh-ed25519': ed25519,
  'ssh-rsa': rsa,
  'ecdsa-sha2-nistp256': (reader) => ecdsa(reader, 'nistp256'),
  'ecdsa-sha2-nistp384': (reader) => ecdsa(reader, 'nistp384'),
  'ecdsa-sha2-nistp521': (reader) => ecdsa(reader, 'nistp521'),
  'sk-ssh-ed25519@openssh.com': (reader) => ed25519(reader) ?? application(reader),
  'sk-ecdsa-sha2-nistp256@openssh.com': (reader) => ecdsa(reader, 'nistp256') ?? application(reader),
};

const broken = 'It is cut off, or was changed on the way.';

/** Parses the one line that `text` is. */
export function parsePublicKey(text: string): ParsedKey {
  const line = text.trim();
  const refuse = (why: string): ParsedKey => ({ ok: false, why });
  if (/-----BEGIN|PRIVATE KEY/.test(line))
    return refuse(
      'This is no line of a file .pub. If it was a private key, it is known to others now: make another one.',
    );
  if (/[\r\n]/.test(line)) return refuse('Send one key at a time, on one line.');
  const [type = '', base64 = '', ...words] = line.split(/[ \t]+/);
  if (type.includes('-cert-v01@')) return refuse('Certificates are not taken: send the key that it was made for.');
  if (type === 'ssh-dss') return refuse('DSA is broken: make a key by ssh-keygen -t ed25519.');
  const body = Object.hasOwn(bodies, type) ? bodies[type] : undefined;
  if (!body) return refuse('A line of a file .pub begins with the type of the key, as in: ssh-ed25519 AAAA...');
  const blob = fromBase64(base64);
  if (!blob) return refuse(broken);
  const reader = new Reader(blob);
  if (reader.text() !== type) return refuse(broken);
  const wrong = body(reader) ?? (reader.isAtEnd ? undefined : broken);
  if (wrong !== undefined) return refuse(wrong);
  return { ok: true, key: { type, text: `${type} ${base64}`, blob, comment: words.join(' ') } };
}

function ed25519(reader: Reader): string | undefined {
  return reader.bytes()?.byteLength === 32 ? undefined : broken;
}

function ecdsa(reader: Reader, curve: keyof typeof points): string | undefined {
  if (reader.text() !== curve) return broken;
  const point = reader.bytes();
  return point?.byteLength === points[curve] && point[0] === 4 ? undefined : broken;
}

function application(reader: Reader): string | undefined {
  const name = reader.text();
  return name !== undefined && name.startsWith('ssh:') && name.length <= 255 ? undefined : broken;
}

function rsa(reader: Reader): string | undefined {
  const [exponent, modulus] = [reader.bits(), reader.bits()];
  if (exponent === undefined || modulus === undefined) return broken;
  if (exponent.bits < 2 || exponent.bits > 32 || !exponent.isOdd || !modulus.isOdd) return broken;
  if (modulus.bits < rsaBits.least)
    return `It has ${modulus.bits} bits, and RSA is taken from ${rsaBits.least} bits on: make a key by ssh-keygen -t ed25519.`;
  return modulus.bits > rsaBits.most ? `RSA is taken up to ${rsaBits.most} bits.` : undefined;
}

/** Strings of RFC 4251 section 5, one behind the other. */
class Reader {
  readonly #blob: Uint8Array;
  #at = 0;

  constructor(blob: Uint8Array) {
    this.#blob = blob;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#blob.byteLength;
  }

  bytes(): Uint8Array | undefined {
    const left = this.#blob.byteLength - this.#at;
    if (left < 4) return undefined;
    const { buffer, byteOffset } = this.#blob;
    const length = new DataView(buffer, byteOffset + this.#at, 4).getUint32(0);
    if (length > left - 4) return undefined;
    this.#at += 4 + length;
    return this.#blob.subarray(this.#at - length, this.#at);
  }

  text(): string | undefined {
    const bytes = this.bytes();
    if (bytes === undefined || bytes.some((byte) => byte < 0x20 || byte > 0x7e)) return undefined;
    return String.fromCharCode(...bytes);
  }

  /** Of a positive number in its one right form. */
  bits(): { bits: number; isOdd: boolean } | undefined {
    const bytes = this.bytes();
    const [first = 0, second = 0] = bytes ?? [];
    // A zero stands in front exactly where the next bit would make it negative.
    if (bytes === undefined || bytes.byteLength === 0 || first >= 0x80 || (first === 0 && second < 0x80))
      return undefined;
    return { bits: bytes.byteLength * 8 - Math.clz32(first) + 24, isOdd: (bytes.at(-1)! & 1) === 1 };
  }
}

/** The bytes of `text`, or undefined when it is not exactly what an encoder makes. */
function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (text === '' || text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return toBase64(bytes) === text ? bytes : undefined;
}

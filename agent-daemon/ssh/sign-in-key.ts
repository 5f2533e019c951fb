/**
 * A public key that may sign in, and the check of its signatures: by ssh2 where it can, and for keys in hardware (`sk-`,
 * OpenSSH's PROTOCOL.u2f) here, since ssh2 1.17.0 does not know them. SHA-1 is not taken.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { AuthContext } from 'ssh2';

type Attempt = Extract<AuthContext, { method: 'publickey' }>;

export interface SignInKey {
  /** True for a question whether the key would do, and for a signature by it. */
  accepts(attempt: Attempt): boolean;
}

/** Somebody touched the key; without it a stolen machine could sign alone. */
const userPresent = 0x01;
/** Flags and counter, behind the signature proper. */
const tailBytes = 5;
const scalarBytes = 32;

/** The key of `text` (type, a space, base64), or undefined when it is none. */
export function parseSignInKey(utils: typeof import('ssh2').utils, text: string): SignInKey | undefined {
  const [type = '', base64 = ''] = text.split(' ');
  const blob = Buffer.from(base64, 'base64');
  const verifies = type.startsWith('sk-') ? inHardware(type, blob) : bySsh2(utils, text);
  if (verifies === undefined) return undefined;
  return {
    accepts: (attempt) => {
      if (attempt.key.algo !== type || !attempt.key.data.equals(blob)) return false;
      const { signature, blob: signed, hashAlgo } = attempt;
      // Without a signature it only asks whether the key would do.
      if (signature === undefined || signed === undefined) return true;
      return verifies(signed, signature, hashAlgo);
    },
  };
}

type Verifies = (signed: Buffer, signature: Buffer, hashAlgo: string | undefined) => boolean;

function bySsh2(utils: typeof import('ssh2').utils, text: string): Verifies | undefined {
  const key = utils.parseKey(text);
  if (key instanceof Error) return undefined;
  // Of RSA a signature without the name of a hash is one by SHA-1.
  return (signed, signature, hashAlgo) =>
    (key.type !== 'ssh-rsa' || hashAlgo !== undefined) && key.verify(signed, signature, hashAlgo) === true;
}

function inHardware(type: string, blob: Buffer): Verifies | undefined {
  const parts = strings(blob);
  const isEcdsa = type.startsWith('sk-ecdsa-');
  // Type, curve of ECDSA, key, application.
  const [key, application] = parts.slice(isEcdsa ? 2 : 1);
  if (key === undefined || application === undefined) return undefined;
  const made = isEcdsa ? ecdsaKey(key) : ed25519Key(key);
  if (made === undefined) return undefined;
  const applicationHash = sha256(application);
  return (signed, signature) => {
    const proper = signature.subarray(0, -tailBytes);
    const tail = signature.subarray(-tailBytes);
    if (signature.byteLength <= tailBytes || (tail[0]! & userPresent) === 0) return false;
    const message = Buffer.concat([applicationHash, tail, sha256(signed)]);
    if (!isEcdsa) return verify(null, message, made, proper);
    const scalars = ecdsaSignature(proper);
    return scalars !== undefined && verify('sha256', message, { key: made, dsaEncoding: 'ieee-p1363' }, scalars);
  };
}

function ed25519Key(x: Buffer): KeyObject | undefined {
  return keyOf({ kty: 'OKP', crv: 'Ed25519', x: x.toString('base64url') });
}

function ecdsaKey(point: Buffer): KeyObject | undefined {
  if (point.byteLength !== 1 + 2 * scalarBytes || point[0] !== 4) return undefined;
  const [x, y] = [point.subarray(1, 1 + scalarBytes), point.subarray(1 + scalarBytes)];
  return keyOf({ kty: 'EC', crv: 'P-256', x: x.toString('base64url'), y: y.toString('base64url') });
}

/** Undefined for a point that is on no curve. */
function keyOf(key: import('node:crypto').JsonWebKey): KeyObject | undefined {
  try {
    return createPublicKey({ key, format: 'jwk' });
  } catch {
    return undefined;
  }
}

/** Two numbers of RFC 4251 as two of equal length. */
function ecdsaSignature(bytes: Buffer): Buffer | undefined {
  const numbers = strings(bytes).map((each) => each.subarray(each.findIndex((byte) => byte !== 0)));
  if (numbers.length !== 2 || numbers.some(({ byteLength }) => byteLength > scalarBytes)) return undefined;
  return Buffer.concat(numbers.map((each) => Buffer.concat([Buffer.alloc(scalarBytes - each.byteLength), each])));
}

/** Strings of RFC 4251, one behind the other; none when they do not come out even. */
function strings(bytes: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.byteLength;) {
    if (bytes.byteLength - at < 4) return [];
    const end = at + 4 + bytes.readUInt32BE(at);
    if (end > bytes.byteLength) return [];
    found.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return found;
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

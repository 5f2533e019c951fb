/**
 * Strict Ed25519 (RFC 8032): WebCrypto verifies the equation, this file refuses beforehand what implementations differ
 * about: points that are not in canonical form or of small order, and an S that is not below the group's order.
 */
import { fromBase64Url } from '../../platform/base64.ts';

const keyBytes = 32;
const signatureBytes = 64;
/** p = 2^255 - 19 and L = 2^252 + 27742317777372353535851937790883648493, both little endian. */
const fieldPrime = fromHex('edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f');
const groupOrder = fromHex('edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010');
/** The y of the eight points of small order, without the sign of x. */
const smallOrder = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
].map(fromHex);

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

/** a < b, little endian, of equal length. */
function isBelow(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = a.length - 1; at >= 0; at--) if (a[at] !== b[at]) return a[at]! < b[at]!;
  return false;
}

function isStrictPoint(point: Uint8Array): boolean {
  const y = point.slice();
  y[31]! &= 0x7f;
  return isBelow(y, fieldPrime) && !smallOrder.some((each) => each.every((byte, at) => byte === y[at]));
}

function fromText(text: string, bytes: number): Uint8Array<ArrayBuffer> | undefined {
  const decoded = fromBase64Url(text);
  return decoded?.length === bytes ? decoded : undefined;
}

/** True for a public key (raw, base64url) that an agent may have. */
export function isStrictPublicKey(publicKey: string): boolean {
  const point = fromText(publicKey, keyBytes);
  return point !== undefined && isStrictPoint(point);
}

/** True when `signature` (base64url, 64 bytes) of `message` was made with the key. Never throws for bad input. */
export async function isStrictSignature(publicKey: string, signature: string, message: string): Promise<boolean> {
  const point = fromText(publicKey, keyBytes);
  const proof = fromText(signature, signatureBytes);
  if (!point || !proof) return false;
  if (!isStrictPoint(point) || !isStrictPoint(proof.subarray(0, 32)) || !isBelow(proof.subarray(32), groupOrder))
    return false;
  try {
    const key = await crypto.subtle.importKey('raw', point, { name: 'Ed25519' }, false, ['verify']);
    return await crypto.subtle.verify('Ed25519', key, proof, new TextEncoder().encode(message));
  } catch {
    return false; // not a point of the curve
  }
}

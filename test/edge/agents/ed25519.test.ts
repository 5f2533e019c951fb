import { describe, expect, it } from 'vitest';
import { isStrictPublicKey, isStrictSignature } from '../../../edge/manager/agents/ed25519.ts';
import { toBase64Url } from '../../../edge/platform/base64.ts';

const text = (hex: string) => toBase64Url(Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16)));
const group = 2n ** 252n + 27742317777372353535851937790883648493n;

/** RFC 8032 section 7.1, test 2: the message is one byte, "r". */
const key = text('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c');
const r = '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da';
const s = '085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00';

function littleEndian(value: bigint): string {
  return (value.toString(16).padStart(64, '0').match(/../g) ?? []).toReversed().join('');
}
function fromLittleEndian(hex: string): bigint {
  return BigInt(`0x${(hex.match(/../g) ?? []).toReversed().join('')}`);
}

describe('a strict Ed25519 signature', () => {
  it('is the one of RFC 8032', async () => {
    expect(await isStrictSignature(key, text(r + s), 'r')).toBe(true);
    expect(await isStrictSignature(key, text(r + s), 's')).toBe(false);
  });
  it('has an S below the order of the group: the same signature with S + L is refused', async () => {
    expect(await isStrictSignature(key, text(r + littleEndian(fromLittleEndian(s) + group)), 'r')).toBe(false);
  });
  it('is not made with a point of small order, for which anything can be signed', async () => {
    const smallOrder = [
      '0100000000000000000000000000000000000000000000000000000000000000',
      '0100000000000000000000000000000000000000000000000000000000000080',
      'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      '0000000000000000000000000000000000000000000000000000000000000000',
      '0000000000000000000000000000000000000000000000000000000000000080',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
      // not in canonical form: y = p, p + 1
      'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    ];
    for (const point of smallOrder) {
      expect(isStrictPublicKey(text(point))).toBe(false);
      // R = identity, S = 0 satisfies the equation for A of order 1 and any message.
      const identity = '0100000000000000000000000000000000000000000000000000000000000000';
      expect(await isStrictSignature(text(point), text(identity + '00'.repeat(32)), 'any')).toBe(false);
      expect(await isStrictSignature(key, text(point + s), 'r')).toBe(false);
    }
  });
  it('is exactly 64 bytes in base64url without padding', async () => {
    const good = text(r + s);
    for (const broken of [
      '',
      good.slice(0, -1),
      `${good}A`,
      `${good}==`,
      good.replace(/.$/, '*'),
      `${good.slice(0, -1)}B`,
    ])
      expect(await isStrictSignature(key, broken, 'r')).toBe(false);
    expect(await isStrictSignature('not a key', good, 'r')).toBe(false);
  });
});

/** scrypt in slices is the runtime's own, byte for byte, and lets others pass. */
import { scryptSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { scryptInSlices } from '../../../edge/platform/scrypt.ts';

const text = (bytes: string) => new TextEncoder().encode(bytes);
const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
const noPause = () => Promise.resolve();

describe('scrypt in slices', () => {
  // RFC 7914, section 12: the vectors with p = 1.
  it.each([
    [
      '',
      '',
      { logN: 4, r: 1 },
      '77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906',
    ],
    [
      'pleaseletmein',
      'SodiumChloride',
      { logN: 14, r: 8 },
      '7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887',
    ],
  ])('makes of %j with %j what the RFC says', async (password, salt, cost, expected) => {
    expect(hex(await scryptInSlices(password, text(salt), cost, 64, noPause))).toBe(expected);
  });

  it.each([
    [1, 1, 16],
    [5, 2, 32],
    [10, 8, 33],
    [11, 3, 100],
  ])('is what the runtime makes, N = 2^%i, r = %i, %i bytes', async (logN, r, length) => {
    for (let n = 0; n < 5; n += 1) {
      const salt = crypto.getRandomValues(new Uint8Array(n * 7));
      const password = `pass wörd ${'x'.repeat(n * 40)}`;
      const made = await scryptInSlices(password, salt, { logN, r }, length, noPause);
      expect(hex(made)).toBe(hex(new Uint8Array(scryptSync(password, salt, length, { N: 2 ** logN, r, p: 1 }))));
    }
  });

  it('pauses every five hundred blocks or so', async () => {
    let pauses = 0;
    const pause = () => Promise.resolve(void (pauses += 1));
    await scryptInSlices('p', text('s'), { logN: 14, r: 8 }, 32, pause);
    expect(pauses).toBeGreaterThanOrEqual(60);
  });
});

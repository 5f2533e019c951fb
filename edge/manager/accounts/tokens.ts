/**
 * API tokens: `cwt_`, 256 random bits, and 48 bits of a keyed check, so that a made-up token is refused without a look into
 * D1. Only a token's keyed hash is stored.
 */
import type { Random } from '../../../schema/ports.ts';
import { toBase64Url } from '../../platform/base64.ts';
import type { Keys } from '../../platform/config.ts';
import { equalTexts, keyedHash, keyedHashes } from '../../platform/keys.ts';

const pattern = /^cwt_[A-Za-z0-9_-]{51}$/;
const checkLength = 8;

export interface FreshToken {
  /** Shown once. */
  text: string;
  prefix: string;
  hash: string;
}

/** The end of a keyed hash, as a check. */
const toCheck = (hash: string) => hash.slice(-checkLength);

export function makeToken(keys: Keys, random: Random): FreshToken {
  const body = `cwt_${toBase64Url(random.bytes(32))}`;
  const text = body + toCheck(keyedHash(keys, 'token-check', body));
  return { text, prefix: text.slice(0, 10), hash: keyedHash(keys, 'token', text) };
}

/** True for a token that was made with one of our keys (it may have been revoked since, or its user removed). */
export function isTokenText(keys: Keys, text: string): boolean {
  if (!pattern.test(text)) return false;
  const body = text.slice(0, -checkLength);
  return keyedHashes(keys, 'token-check', body).some((hash) => equalTexts(toCheck(hash), text.slice(-checkLength)));
}

/** Under which hashes a token may be stored. */
export function tokenHashes(keys: Keys, text: string): string[] {
  return keyedHashes(keys, 'token', text);
}

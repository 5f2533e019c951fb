/**
 * Keyed hashes. Each purpose has a key of its own, derived from the root keys of CAUSEWAY_KEYS, so that a token's hash can
 * never pass for a ticket. Synchronous (`node:crypto`): a cached check of a credential must not cost a turn of the loop.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Keys } from './config.ts';

/** What keys are for. A purpose is never renamed. */
export type KeyPurpose = 'token' | 'token-check' | 'join-token' | 'agent-challenge' | 'agent-badge' | 'data-ticket';

const derived = new WeakMap<Keys, Map<string, Uint8Array>>();

function keyOf(keys: Keys, version: number, purpose: KeyPurpose): Uint8Array | undefined {
  const cache = derived.get(keys) ?? new Map<string, Uint8Array>();
  derived.set(keys, cache);
  const name = `${version} ${purpose}`;
  const known = cache.get(name);
  if (known) return known;
  const root = keys.hmac.find((each) => each.version === version);
  if (!root) return undefined;
  const key = new Uint8Array(createHmac('sha256', root.key).update(`causeway ${purpose}`).digest());
  cache.set(name, key);
  return key;
}

function digest(key: Uint8Array, text: string): string {
  return createHmac('sha256', key).update(text).digest('base64url');
}

/** `<version>.<hmac>` of `text` with the newest key of `purpose`. */
export function keyedHash(keys: Keys, purpose: KeyPurpose, text: string): string {
  const version = keys.hmac[0]!.version;
  return `${version}.${digest(keyOf(keys, version, purpose)!, text)}`;
}

/** The hashes of `text` under every key that still verifies, newest first. For look-ups by hash. */
export function keyedHashes(keys: Keys, purpose: KeyPurpose, text: string): string[] {
  return keys.hmac.map(({ version }) => `${version}.${digest(keyOf(keys, version, purpose)!, text)}`);
}

/** True when `hash` is what {@link keyedHash} makes of `text` under a key that still verifies. Constant time. */
export function isKeyedHash(keys: Keys, purpose: KeyPurpose, text: string, hash: string): boolean {
  const key = keyOf(keys, Number(/^([0-9]{1,9})\./.exec(hash)?.[1] ?? 0), purpose);
  if (!key) return false;
  return equalTexts(hash.slice(hash.indexOf('.') + 1), digest(key, text));
}

/** Compares two ASCII texts in a time that tells only whether their lengths are equal. */
export function equalTexts(a: string, b: string): boolean {
  const encoder = new TextEncoder();
  const left = encoder.encode(a);
  const right = encoder.encode(b);
  return left.length === right.length && timingSafeEqual(left, right);
}

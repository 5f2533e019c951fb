/**
 * Passwords: scrypt N=2^14, r=8, p=1, in slices between which others are served. One hash takes some 60 ms of workerd's
 * only thread, so sign-ins are let in one at a time and at most twice a second per instance.
 */
import { timingSafeEqual } from 'node:crypto';
import { Refusal } from '../../../schema/errors.ts';
import type { Clock, Random } from '../../../schema/ports.ts';
import { fromBase64Url, toBase64Url } from '../../platform/base64.ts';
import { systemClock, systemTimers } from '../../platform/clock.ts';
import { scryptInSlices } from '../../platform/scrypt.ts';

const logN = 14;
const r = 8;
/** Two sign-ins a second. */
const spacingMs = 500;

/** A hash whose caller went away between two slices is never finished: it bars nobody for longer than this. */
const abandonedMs = 5_000;
/** How long the making of a user's first hash waits for its turn, asking again and again. */
const patienceMs = 20_000;
const askAgainMs = 20;

let lastEntryMs = Number.NEGATIVE_INFINITY;
/** The hash that is being made: each needs 16 MiB, so there is one at a time. */
let current: { sinceMs: number } | undefined;

function isBusy(nowMs: number): boolean {
  return current !== undefined && nowMs - current.sinceMs < abandonedMs;
}

/** Lets one sign-in pass. Undefined: go on. A number: refused, for so many seconds. */
export function enterLogin(clock: Clock): number | undefined {
  const nowMs = clock.bootMs();
  if (isBusy(nowMs) || nowMs - lastEntryMs < spacingMs) return 1;
  lastEntryMs = nowMs;
  return undefined;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void systemTimers.after(ms, resolve));
}

/** @throws Refusal `edge_overloaded` when others hash without end */
async function derive(password: string, salt: Uint8Array, cost: number): Promise<Uint8Array> {
  // Requests can not wait for each other's promises in a Worker: each looks for itself.
  for (let waitedMs = 0; isBusy(systemClock.bootMs()); waitedMs += askAgainMs) {
    if (waitedMs >= patienceMs)
      throw new Refusal('edge_overloaded', 'Many passwords are being set.', { retryAfterSeconds: 1 });
    await pause(askAgainMs);
  }
  const mine = { sinceMs: systemClock.bootMs() };
  current = mine;
  try {
    return await scryptInSlices(password.normalize('NFC'), salt, { logN: cost, r }, 32, () => pause(0));
  } finally {
    if (current === mine) current = undefined;
  }
}

/** `scrypt$<log2 N>$<salt>$<hash>` */
export async function hashPassword(password: string, random: Random): Promise<string> {
  const salt = random.bytes(16);
  return `scrypt$${logN}$${toBase64Url(salt)}$${toBase64Url(await derive(password, salt, logN))}`;
}

/** Has the cost of a real one and fits no password. */
const noOnesHash = `scrypt$${logN}$${'A'.repeat(22)}$${'A'.repeat(43)}`;

/** True when `password` made `hash`. Without a hash it takes as long and is false, so that unknown users can not be told. */
export async function isPassword(password: string, hash: string | null | undefined): Promise<boolean> {
  const [, cost, saltText = '', expectedText = ''] = (hash ?? noOnesHash).split('$');
  const salt = fromBase64Url(saltText);
  const expected = fromBase64Url(expectedText);
  if (!salt || expected?.length !== 32) throw new Error('a stored password hash is broken');
  const made = await derive(password, salt, Number(cost));
  return timingSafeEqual(made, expected) && hash != null;
}

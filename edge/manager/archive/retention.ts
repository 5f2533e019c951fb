/** How long output lies in object storage: so many days from the last that came of a session, or until it is removed. */
import type { Config } from '../../platform/config.ts';
import { blobsOf, type BlobsOf } from '../../platform/blobs.ts';
import { type Blobs, BlobsUnavailable } from '../../platform/blobs-port.ts';
import { sessionPrefix } from './keys.ts';
import { expiredArchives, forgetArchives, purgeArchive } from './store.ts';

const dayMs = 86_400_000;
/** The year 9999: for ever. */
const neverMs = 253_402_300_799_000;
/** What an agent still sends of a removed session is refused for so long; its spools are gone by then. */
const purgedMs = 14 * dayMs;
/** Sessions of one sweep: each is two requests or more to object storage, of which one invocation may make 1,000. */
const sweepSessions = 300;

/** Until when what comes now is kept. */
export function expiryMs({ logDays }: Pick<Config, 'logDays'>, nowMs: number): number {
  return logDays === 0 ? neverMs : nowMs + logDays * dayMs;
}

/** Removes everything of a session, and lets nothing of it in any more: now, or with a sweep when its store is out of reach. */
export async function removeArchive(of: BlobsOf, sessionId: string, nowMs: number): Promise<void> {
  const blobs = blobsOf(of);
  if (!blobs) return;
  await purgeArchive(of.env.DB, sessionId, nowMs);
  try {
    await deleteAll(blobs, sessionId);
  } catch (error) {
    if (error instanceof BlobsUnavailable) return;
    throw error;
  }
  await forgetArchives(of.env.DB, [sessionId], { nowMs, purgedMs });
}

/** Removes what has had its time, some of it. Returns of how many sessions. */
export async function sweepArchives(of: BlobsOf, nowMs: number): Promise<number> {
  const blobs = blobsOf(of);
  if (!blobs) return 0;
  const expired = await expiredArchives(of.env.DB, nowMs, sweepSessions);
  for (const sessionId of expired) await deleteAll(blobs, sessionId);
  // Only now: a death in between finds them again.
  if (expired.length > 0) await forgetArchives(of.env.DB, expired, { nowMs, purgedMs });
  return expired.length;
}

async function deleteAll(blobs: Blobs, sessionId: string): Promise<void> {
  for (;;) {
    const { entries, next } = await blobs.list(sessionPrefix(sessionId), { notes: false });
    await blobs.remove(entries.map(({ key }) => key));
    if (next === undefined) return;
  }
}

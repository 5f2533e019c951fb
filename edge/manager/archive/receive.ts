/**
 * Takes what agents hand over, from exactly the agent on which that generation of the session was placed. Written once:
 * the same again is harmless, anything else under a name that is there is refused.
 */
import { chunkBodyBytes, decodeChunk, HandOverEnd } from '../../../schema/log/chunk.ts';
import type { StreamName } from '../../../schema/log/tail.ts';
import { Refusal } from '../../../schema/errors.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import type { AgentActor, Ctx } from '../../http/context.ts';
import { blobsOf } from '../../platform/blobs.ts';
import type { Blobs } from '../../platform/blobs-port.ts';
import { readBytes } from '../../platform/bounded.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { sha256Of, unzipped } from './bodies.ts';
import { type ArchivedProcess, chunkKey, endKey, type StoredChunk, toNotes } from './keys.ts';
import { expiryMs } from './retention.ts';
import { findPlacements, keepArchive } from './store.ts';

export interface ReceivedChunk {
  stream: StreamName;
  range: { from: number; to: number };
  /** Of the uncompressed chunk, hexadecimal. */
  sha256: string;
  missing: StoredChunk['missing'];
}

/** Stores one chunk. @throws Refusal */
export async function receiveChunk(
  ctx: Ctx<AgentActor>,
  process: ArchivedProcess,
  chunk: ReceivedChunk,
  body: ReadableStream<Uint8Array> | null,
): Promise<void> {
  const blobs = await mayPut(ctx, process);
  const bytes = body && (await readBytes(body, chunkBodyBytes));
  if (!bytes) throw new Refusal('archive_chunk_invalid', 'It is empty, or larger than a chunk may be.');
  const times = await judge(bytes, chunk);
  const key = chunkKey(process, chunk.stream, chunk.range);
  await createOnce(blobs, key, bytes, toNotes({ ...times, missing: chunk.missing }, chunk.sha256));
}

/** Stores that what is there is all. @throws Refusal */
export async function receiveEnd(ctx: Ctx<AgentActor>, process: ArchivedProcess, end: HandOverEnd): Promise<void> {
  const blobs = await mayPut(ctx, process);
  const bytes = new TextEncoder().encode(JSON.stringify(end));
  await createOnce(blobs, endKey(process), bytes, { sha256: await sha256Of(bytes) });
}

async function createOnce(blobs: Blobs, key: string, bytes: Uint8Array, notes: Record<string, string>): Promise<void> {
  if (await blobs.create(key, bytes, notes)) return;
  const known = await blobs.notesOf(key);
  if (known?.['sha256'] !== notes['sha256']) throw new Refusal('archive_chunk_conflict');
}

/** When its bytes were written. @throws Refusal when it is not what its name says */
async function judge(
  body: Uint8Array,
  { range, sha256 }: ReceivedChunk,
): Promise<Pick<StoredChunk, 'firstMs' | 'lastMs'>> {
  try {
    const raw = await unzipped(new Blob([body]).stream());
    const records = decodeChunk(raw);
    const bytes = records.reduce((sum, record) => sum + record.bytes.byteLength, 0);
    if (bytes === range.to - range.from && (await sha256Of(raw)) === sha256)
      return { firstMs: records[0]!.timeMs, lastMs: records.at(-1)!.timeMs };
  } catch {
    // Refused below: whatever is wrong with it, nothing of it is kept.
  }
  throw new Refusal('archive_chunk_invalid');
}

/** The place to put it, for whom it is. @throws Refusal `session_not_found`, `archive_closed` */
async function mayPut(ctx: Ctx<AgentActor>, { sessionId, generation }: ArchivedProcess): Promise<Blobs> {
  const { agentId, groupNumber } = ctx.actor;
  // An agent's sessions are in its ledger; a guessed number would make an object.
  if (parseSessionId(sessionId)?.groupNumber !== groupNumber) throw new Refusal('session_not_found');
  const history =
    (await ledgerObject(ctx.env, groupNumber).history(sessionId)) ?? (await findPlacements(ctx.env.DB, sessionId));
  const wasHere = history?.some((row) => row.generation === generation && row.agentId === agentId) ?? false;
  if (!wasHere) throw new Refusal('session_not_found', 'This generation of the session was not placed on this agent.');
  const blobs = blobsOf(ctx);
  if (!blobs) throw new Refusal('archive_closed', 'This control plane has no bucket for output.');
  if (!(await keepArchive(ctx.env.DB, sessionId, expiryMs(ctx.config, ctx.clock.nowMs()))))
    throw new Refusal('archive_closed', 'The session was removed with its output.');
  return blobs;
}

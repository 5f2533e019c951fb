/** What lies in object storage of a process: the listing is the index. */
import { Refusal } from '../../../schema/errors.ts';
import { HandOverEnd } from '../../../schema/log/chunk.ts';
import { type StreamName, streamNames } from '../../../schema/log/tail.ts';
import type { Blobs } from '../../platform/blobs-port.ts';
import {
  type ArchivedProcess,
  endKey,
  generationOf,
  processPrefix,
  sessionPrefix,
  type StoredChunk,
  toChunk,
} from './keys.ts';

export interface Archive extends ArchivedProcess {
  chunks: Record<StreamName, StoredChunk[]>;
  /** Undefined when its machine did not come to the end. */
  end: HandOverEnd | undefined;
}

/** Lists of one process at most: 50,000 chunks are 100 GB of output, or three months of a session that runs. */
const maxPages = 50;
const maxEndBytes = 4096;
/** Placements that are looked through for one process: of most, each holds its main process. */
const maxGenerations = 20;

/**
 * What there is of a process at `generation`, or at the newest before in which there is anything of it; undefined: nothing.
 * @throws Refusal `archive_too_large`
 */
export async function findArchive(
  blobs: Blobs,
  { sessionId, generation, process }: ArchivedProcess,
): Promise<Archive | undefined> {
  const { folders } = await blobs.list(sessionPrefix(sessionId), { delimiter: '/' });
  const generations = folders.map(generationOf).filter((each) => each !== undefined && each <= generation);
  for (const each of generations
    .map(Number)
    .toSorted((a, b) => b - a)
    .slice(0, maxGenerations)) {
    const found = await readArchive(blobs, { sessionId, generation: each, process });
    if (found) return found;
  }
  return undefined;
}

async function readArchive(blobs: Blobs, process: ArchivedProcess): Promise<Archive | undefined> {
  const chunks: Record<StreamName, StoredChunk[]> = { stdout: [], stderr: [] };
  let hasEnd = false;
  let cursor: string | undefined;
  for (let pages = 0; ; pages++) {
    // Silence would pass for all there is, and what comes last in the list is the newest.
    if (pages >= maxPages) throw new Refusal('archive_too_large');
    const { entries, next } = await blobs.list(processPrefix(process), { cursor });
    for (const entry of entries) {
      hasEnd ||= entry.key === endKey(process);
      const found = toChunk(entry);
      if (found) chunks[found.stream].push(found.chunk);
    }
    cursor = next;
    if (next === undefined) break;
  }
  if (!hasEnd && chunks.stdout.length + chunks.stderr.length === 0) return undefined;
  for (const stream of streamNames) chunks[stream] = inOrder(chunks[stream]);
  return { ...process, chunks, end: hasEnd ? await readEnd(blobs, process) : undefined };
}

/** Without those that hold nothing that one before does not: a chunk may have been cut anew after a death. */
function inOrder(chunks: readonly StoredChunk[]): StoredChunk[] {
  const kept: StoredChunk[] = [];
  for (const chunk of [...chunks].sort((a, b) => a.start - b.start || b.end - a.end))
    if (chunk.end > (kept.at(-1)?.end ?? 0)) kept.push(chunk);
  return kept;
}

async function readEnd(blobs: Blobs, process: ArchivedProcess): Promise<HandOverEnd | undefined> {
  const bytes = await blobs.read(endKey(process), maxEndBytes);
  return bytes && HandOverEnd.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data;
}

/** Where a stream ends, as far as is known. */
export function endOf({ chunks, end }: Archive, stream: StreamName): number {
  return Math.max(chunks[stream].at(-1)?.end ?? 0, end?.ends[stream] ?? 0);
}

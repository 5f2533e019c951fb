/** Where output lies in object storage: `logs/<session>/<generation>/<process>/...`. Pure; the only place that knows. */
import { chunkName, missingReasons, parseChunkName } from '../../../schema/log/chunk.ts';
import { type StreamName, streamNames } from '../../../schema/log/tail.ts';
import type { BlobEntry } from '../../platform/blobs-port.ts';

export interface ArchivedProcess {
  sessionId: string;
  generation: number;
  /** `main`, or the id of a process. */
  process: string;
}

/** Bytes [start, end) of a stream in object storage. */
export interface StoredChunk {
  key: string;
  start: number;
  end: number;
  /** When the first and the last of them were written, Unix ms. */
  firstMs: number;
  lastMs: number;
  /** Why the bytes before it are missing, if they are. */
  missing: (typeof missingReasons)[number] | undefined;
}

export const sessionPrefix = (sessionId: string) => `logs/${sessionId}/`;

export function processPrefix({ sessionId, generation, process }: ArchivedProcess): string {
  return `${sessionPrefix(sessionId)}${generation}/${process}/`;
}

export const endKey = (process: ArchivedProcess) => `${processPrefix(process)}end`;

export function chunkKey(process: ArchivedProcess, stream: StreamName, range: { from: number; to: number }): string {
  return `${processPrefix(process)}${stream}/${chunkName(range.from, range.to)}`;
}

/** The generation that a listed folder is of; undefined for none of ours. */
export function generationOf(folder: string): number | undefined {
  const digits = /\/([1-9][0-9]{0,8})\/$/.exec(folder)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** What is noted beside a chunk. */
export function toNotes(chunk: Omit<StoredChunk, 'key' | 'start' | 'end'>, sha256: string): Record<string, string> {
  const { firstMs, lastMs, missing } = chunk;
  return {
    first: String(firstMs),
    last: String(lastMs),
    sha256,
    ...(missing === undefined ? {} : { missing }),
  };
}

/** A listed object as a chunk of its stream; undefined for anything else. */
export function toChunk({ key, notes }: BlobEntry): { stream: StreamName; chunk: StoredChunk } | undefined {
  const [streamText, name] = key.split('/').slice(-2);
  const stream = streamNames.find((each) => each === streamText);
  const range = parseChunkName(name ?? '');
  if (stream === undefined || range === undefined) return undefined;
  const missing = missingReasons.find((each) => each === notes['missing']);
  const chunk = {
    key,
    start: range.from,
    end: range.to,
    firstMs: Number(notes['first']),
    lastMs: Number(notes['last']),
    missing,
  };
  return { stream, chunk };
}

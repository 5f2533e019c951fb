/** Bodies of chunks, from gzip to records. What comes is never trusted to be as large as it says. */
import { readBytes } from '../../platform/bounded.ts';
import { chunkRawBytes, decodeChunk, type TimedBytes } from '../../../schema/log/chunk.ts';

/** Takes gzip off. @throws Error for what is damaged or too large */
export async function unzipped(body: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  // The types of the platform and of the language differ in what a chunk may be.
  const unzip = new DecompressionStream('gzip') as unknown as ReadableWritablePair<Uint8Array, Uint8Array>;
  const raw = await readBytes(body.pipeThrough(unzip), chunkRawBytes);
  if (raw === undefined) throw new Error('a chunk is larger than it may be');
  return raw;
}

/** @throws Error for what is damaged or too large */
export async function readChunkBody(bytes: Uint8Array): Promise<TimedBytes[]> {
  return decodeChunk(await unzipped(new Blob([bytes]).stream()));
}

/** Hexadecimal. */
export async function sha256Of(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Bodies of chunks, from gzip to records. What comes is never trusted to be as large as it says. */
import { chunkRawBytes, decodeChunk, type TimedBytes } from '../../../schema/log/chunk.ts';

/** At most `limitBytes` of a stream; undefined when there are more. */
export async function readBytes(body: ReadableStream<Uint8Array>, limitBytes: number): Promise<Uint8Array | undefined> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of body) {
    total += part.byteLength;
    if (total > limitBytes) return undefined;
    parts.push(part);
  }
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

/** Takes gzip off. @throws Error for what is damaged or too large */
export async function unzipped(body: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  // The types of the platform and of the language differ in what a chunk may be.
  const unzip = new DecompressionStream('gzip') as unknown as ReadableWritablePair<Uint8Array, Uint8Array>;
  const raw = await readBytes(body.pipeThrough(unzip), chunkRawBytes);
  if (raw === undefined) throw new Error('a chunk is larger than it may be');
  return raw;
}

export async function readChunkBody(body: ReadableStream<Uint8Array>): Promise<TimedBytes[]> {
  return decodeChunk(await unzipped(body));
}

/** Hexadecimal. */
export async function sha256Of(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

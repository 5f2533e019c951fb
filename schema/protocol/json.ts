/**
 * JSON inside frames: one value spread over frames of one type and stream with MORE (SPEC rule F6), strict UTF-8, bounded
 * size and depth. What comes out is `unknown`: the caller parses it with its zod schema.
 */
import { frameFlags, FrameError, frameTypes, type Frame, type FrameType } from './frame.ts';
import { limits } from './limits.ts';

// Of every runtime we run on, though not of the plain language: declared here because schema/ knows no platform.
declare const TextEncoder: new () => { encode(text: string): Uint8Array };
declare const TextDecoder: new (label: string, options: { fatal: boolean }) => { decode(bytes: Uint8Array): string };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Types whose payload is JSON and may be spread over frames. */
export function isJsonType(type: FrameType): boolean {
  return (
    type === frameTypes.message || type === frameTypes.open || type === frameTypes.opened || type === frameTypes.reset
  );
}

/** Frames that carry `value` on `stream`. @throws FrameError when it is over 1 MiB as JSON. */
export function jsonFrames(type: FrameType, stream: number, value: unknown): Frame[] {
  const bytes = encoder.encode(JSON.stringify(value));
  if (bytes.byteLength > limits.jsonBytes) throw new FrameError('F6', 'JSON over 1 MiB');
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.byteLength; at += limits.payloadBytes) {
    const more = at + limits.payloadBytes < bytes.byteLength;
    frames.push({
      type,
      flags: more ? frameFlags.more : 0,
      stream,
      offset: 0,
      payload: bytes.subarray(at, at + limits.payloadBytes),
    });
  }
  return frames;
}

/** JSON of one DATA payload (control channel). @throws FrameError for broken UTF-8 or JSON, or too deep. */
export function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw new FrameError('F6', 'not UTF-8');
  }
  if (depthOf(text) > limits.jsonDepth) throw new FrameError('F6', 'JSON nested too deep');
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new FrameError('F6', 'not JSON');
  }
}

/** UTF-8 bytes of `value` as JSON. */
export function jsonBytes(value: unknown): Uint8Array {
  return encoder.encode(JSON.stringify(value));
}

/** Deepest nesting of brackets outside strings. Exact for valid JSON; for anything else JSON.parse refuses later. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (quoted) {
      if (code === 0x5c) at++;
      else if (code === 0x22) quoted = false;
    } else if (code === 0x22) quoted = true;
    else if (code === 0x5b || code === 0x7b) deepest = Math.max(deepest, ++depth);
    else if (code === 0x5d || code === 0x7d) depth--;
  }
  return deepest;
}

/**
 * Joins the frames of JSON values of one socket. Holds at most 1 MiB over all values that are still incomplete: a peer
 * that begins many and ends none is cut off, not remembered.
 */
export class JsonJoiner {
  readonly #parts = new Map<string, Uint8Array[]>();
  #heldBytes = 0;

  /** The whole value when `frame` completes one, else undefined (also for the JSON value `undefined`, which is none). */
  join(frame: Frame): { value: unknown } | undefined {
    const key = `${frame.type} ${frame.stream}`;
    const before = this.#parts.get(key);
    const more = (frame.flags & frameFlags.more) !== 0;
    if (!before && !more) return { value: parseJson(frame.payload) };
    if (this.#heldBytes + frame.payload.byteLength > limits.jsonBytes) throw new FrameError('F6', 'JSON over 1 MiB');
    if (more && frame.payload.byteLength === 0) throw new FrameError('F6', 'empty part of JSON');
    if (more) {
      this.#heldBytes += frame.payload.byteLength;
      // A copy: the frame is a view into a message that must not be kept for its sake.
      this.#parts.set(key, [...(before ?? []), frame.payload.slice()]);
      return undefined;
    }
    this.#parts.delete(key);
    const parts = [...(before ?? []), frame.payload];
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.byteLength;
    }
    this.#heldBytes -= whole.byteLength - frame.payload.byteLength;
    return { value: parseJson(whole) };
  }

  /** Forgets what is incomplete on `stream`. */
  drop(stream: number): void {
    for (const [key, parts] of this.#parts)
      if (key.endsWith(` ${stream}`)) {
        this.#parts.delete(key);
        for (const part of parts) this.#heldBytes -= part.byteLength;
      }
  }
}

/**
 * The output of a kernel, which is what its program wrote with records of its runner between (agent-daemon/kernels/SPEC.md,
 * rules R4-R6). Read by the agent, the edge and the CLI alike, from any offset. It believes nothing: whatever is not exactly
 * a record is output.
 */
import { z } from 'zod';

// Every runtime has them; the library of the language does not.
declare const TextEncoder: new () => { encode(text: string): Uint8Array };
declare const TextDecoder: new () => { decode(bytes: Uint8Array): string };

const text = z.string();
const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);
const count = z.int().nonnegative();
/** By media type; what is not text, in base64. */
const Media = z.record(z.string().max(256), z.string());

export const KernelRecord = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready'), id: z.null(), language: text.max(32), version: text.max(64) }),
  z.strictObject({ kind: z.literal('result'), id, data: Media }),
  z.strictObject({ kind: z.literal('display'), id, data: Media }),
  z.strictObject({ kind: z.literal('error'), id, name: text, message: text, traceback: text }),
  z.strictObject({ kind: z.literal('input'), id, prompt: text, password: z.boolean() }),
  z.strictObject({ kind: z.literal('completion'), id, matches: z.array(text).max(1024), replaces: count }),
  z.strictObject({ kind: z.literal('finished'), id, exitCode: z.int().min(0).max(255) }),
  z.strictObject({ kind: z.literal('mark'), id }),
]);
export type KernelRecord = z.infer<typeof KernelRecord>;

/** Bytes of the program, or a record; each covers [offset, end) of the log. */
export type KernelItem =
  | { kind: 'bytes'; offset: number; end: number; bytes: Uint8Array }
  | { kind: 'record'; offset: number; end: number; record: KernelRecord };

/** Payload of a part at most: with its head it is below PIPE_BUF. */
const partBytes = 4096;
/** A record above this is output. */
const maxRecordBytes = 32 * 1024 * 1024;
const separator = 0x1e;
const colon = 0x3a;
const decoder = new TextDecoder();

interface Part {
  isLast: boolean;
  payload: Uint8Array;
  /** Of all of it. */
  sizeBytes: number;
}

/** With all its bytes, for when it is none after all. */
interface HeldPart extends Part {
  kind: 'part';
  offset: number;
  bytes: Uint8Array;
}

export class KernelLogReader {
  readonly #head: Uint8Array;
  #next: number;
  /** Begins with a separator: perhaps a part of which the rest did not come yet. */
  #tail = new Uint8Array(0);
  /** Parts of a record of which the last did not come yet, and what came between them, in order. */
  #open: (KernelItem | HeldPart)[] = [];
  #openBytes = 0;

  /** Reads one stream of the kernel `kernelId` from `offset` on. */
  constructor(kernelId: string, offset: number) {
    this.#head = new TextEncoder().encode(`\x1e${kernelId} `);
    this.#next = offset;
  }

  /** All before this offset was returned: whoever goes on reads from here. */
  get position(): number {
    return this.#open[0]?.offset ?? this.#next - this.#tail.byteLength;
  }

  /** Takes the bytes at `offset` and returns what is complete now. Behind a hole it begins anew. Items share the buffer. */
  push(offset: number, bytes: Uint8Array): KernelItem[] {
    const before = offset === this.#next ? [] : this.skip(offset);
    const start = offset - this.#tail.byteLength;
    const all = this.#tail.byteLength === 0 ? bytes : concat([this.#tail, bytes]);
    this.#tail = new Uint8Array(0);
    this.#next = offset + bytes.byteLength;
    return [...before, ...this.#read(start, all)];
  }

  /** The bytes before `offset` are missing. */
  skip(offset: number): KernelItem[] {
    const items = this.flush();
    this.#next = offset;
    return items;
  }

  /** Nothing will follow: what could have become a record is output. */
  flush(): KernelItem[] {
    const items = this.#giveUp();
    if (this.#tail.byteLength > 0) items.push(toBytes(this.#next - this.#tail.byteLength, this.#tail));
    this.#tail = new Uint8Array(0);
    return items;
  }

  #read(start: number, all: Uint8Array): KernelItem[] {
    const items: KernelItem[] = [];
    let from = 0;
    for (let at = all.indexOf(separator); at >= 0;) {
      const part = this.#partAt(all, at);
      if (part === undefined) {
        at = all.indexOf(separator, at + 1);
        continue;
      }
      if (at > from) items.push(...this.#put(toBytes(start + from, all.subarray(from, at))));
      if (part === 'more') {
        this.#tail = copy(all.subarray(at));
        return items;
      }
      from = at + part.sizeBytes;
      items.push(...this.#join({ kind: 'part', ...part, offset: start + at, bytes: all.subarray(at, from) }));
      at = all.indexOf(separator, from);
    }
    if (from < all.byteLength) items.push(...this.#put(toBytes(start + from, all.subarray(from))));
    return items;
  }

  /** The part that begins at the separator at `at`; `more`: perhaps, when more has come; undefined: none does. */
  #partAt(all: Uint8Array, at: number): Part | 'more' | undefined {
    const head = this.#head;
    for (let index = 0; index < head.byteLength; index++) {
      if (at + index >= all.byteLength) return 'more';
      if (all[at + index] !== head[index]) return undefined;
    }
    const from = at + head.byteLength;
    const end = all.subarray(from, from + 6).indexOf(colon);
    if (end < 0) return all.byteLength < from + 6 ? 'more' : undefined;
    const found = /^([+.])(0|[1-9]\d{0,3})$/.exec(String.fromCharCode(...all.subarray(from, from + end)));
    if (found === null || Number(found[2]) > partBytes) return undefined;
    const body = from + end + 1;
    const length = Number(found[2]);
    if (body + length > all.byteLength) return 'more';
    const payload = all.subarray(body, body + length);
    return { isLast: found[1] === '.', payload, sizeBytes: body + length - at };
  }

  /** What comes between the parts of a record waits for its end, so that whoever goes on anywhere has each byte once. */
  #put(item: KernelItem): KernelItem[] {
    if (this.#open.length === 0) return [item];
    return this.#hold(item.kind === 'bytes' ? { ...item, bytes: copy(item.bytes) } : item, item.end - item.offset);
  }

  #hold(item: KernelItem | HeldPart, sizeBytes: number): KernelItem[] {
    this.#open.push(item);
    this.#openBytes += sizeBytes;
    return this.#openBytes > maxRecordBytes ? this.#giveUp() : [];
  }

  #join(part: HeldPart): KernelItem[] {
    if (!part.isLast) {
      const bytes = copy(part.bytes);
      return this.#hold({ ...part, bytes, payload: bytes.subarray(-part.payload.byteLength) }, part.sizeBytes);
    }
    const all = [...this.#open, part];
    const record = parse(all.flatMap((each) => (each.kind === 'part' ? [each.payload] : [])));
    this.#open = all;
    if (record === undefined) return this.#giveUp();
    const between = all.flatMap((each) => (each.kind === 'part' ? [] : [each]));
    // A record stands where it ends.
    const offset = between.length > 0 ? part.offset : (all[0] ?? part).offset;
    this.#open = [];
    this.#openBytes = 0;
    return [...between, { kind: 'record', offset, end: part.offset + part.sizeBytes, record }];
  }

  #giveUp(): KernelItem[] {
    const items = this.#open.map((each) => (each.kind === 'part' ? toBytes(each.offset, each.bytes) : each));
    this.#open = [];
    this.#openBytes = 0;
    return items;
  }
}

/** Of what is only lent; a Buffer's own `slice` copies nothing. */
function copy(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

function toBytes(offset: number, bytes: Uint8Array): KernelItem {
  return { kind: 'bytes', offset, end: offset + bytes.byteLength, bytes };
}

function parse(payloads: readonly Uint8Array[]): KernelRecord | undefined {
  try {
    return KernelRecord.safeParse(JSON.parse(decoder.decode(concat(payloads)))).data;
  } catch {
    return undefined;
  }
}

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.byteLength;
  }
  return all;
}

/** Messages of Jupyter as records (SPEC rule S17), made and read by tests in the way of Jupyter's own clients. */
import { randomUUID } from 'node:crypto';

export interface JupyterMessage {
  channel: string;
  header: Record<string, unknown>;
  parent: Record<string, unknown>;
  metadata: Record<string, unknown>;
  content: Record<string, unknown>;
  buffers: Buffer[];
}

/** A record with its u32. */
export function toJupyterRecord(channel: string, parts: readonly Uint8Array[]): Buffer {
  const all = [Buffer.from(channel), ...parts];
  const offsets = [8 * (all.length + 2)];
  for (const part of all) offsets.push((offsets.at(-1) ?? 0) + part.byteLength);
  const head = Buffer.alloc(4 + 8 * (offsets.length + 1));
  head.writeUInt32BE(offsets.at(-1) ?? 0, 0);
  head.writeBigUInt64LE(BigInt(offsets.length), 4);
  offsets.forEach((offset, i) => head.writeBigUInt64LE(BigInt(offset), 12 + 8 * i));
  return Buffer.concat([head, ...all]);
}

/** What a client asks, with the id by which its answers name it. */
export function request(
  type: string,
  content: object,
  {
    channel = 'shell',
    buffers = [],
    id = randomUUID(),
  }: { channel?: string; buffers?: Uint8Array[]; id?: string } = {},
): { id: string; record: Buffer } {
  const header = {
    msg_id: id,
    session: 'test',
    username: 'test',
    date: '2026-01-01T00:00:00.000000Z',
    msg_type: type,
    version: '5.3',
  };
  const parts = [header, {}, {}, content].map((part) => Buffer.from(JSON.stringify(part)));
  return { id, record: toJupyterRecord(channel, [...parts, ...buffers]) };
}

export function executeRequest(code: string, more: { id?: string } = {}): { id: string; record: Buffer } {
  const content = {
    code,
    silent: false,
    store_history: false,
    user_expressions: {},
    allow_stdin: true,
    stop_on_error: true,
  };
  return request('execute_request', content, more);
}

/** Reads whole records; what is no record is an error. */
export class MessageReader {
  readonly messages: JupyterMessage[] = [];
  /** Bytes of all records, and of the largest. */
  bytes = 0;
  #pieces: Buffer[] = [];
  #held = 0;

  push(bytes: Uint8Array): void {
    this.bytes += bytes.byteLength;
    this.#pieces.push(Buffer.from(bytes));
    this.#held += bytes.byteLength;
    for (let size = this.#size(); size !== undefined && this.#held >= size; size = this.#size()) {
      const all = Buffer.concat(this.#pieces);
      this.messages.push(parseJupyterMessage(all.subarray(4, size)));
      this.#pieces = [all.subarray(size)];
      this.#held = all.byteLength - size;
    }
  }

  /** Bytes behind the last whole record. */
  get rest(): number {
    return this.#held;
  }

  #size(): number | undefined {
    if (this.#held < 4) return undefined;
    const [first] = this.#pieces;
    if (first !== undefined && first.byteLength < 4) this.#pieces = [Buffer.concat(this.#pieces)];
    return 4 + (this.#pieces[0]?.readUInt32BE(0) ?? 0);
  }
}

/** Reads a message without the u32 of its record. */
export function parseJupyterMessage(bytes: Buffer): JupyterMessage {
  const count = Number(bytes.readBigUInt64LE(0));
  const offsets = Array.from({ length: count }, (_, i) => Number(bytes.readBigUInt64LE(8 * (i + 1))));
  const part = (i: number) => bytes.subarray(offsets[i], offsets[i + 1]);
  const json = (i: number) => JSON.parse(part(i).toString()) as Record<string, unknown>;
  if (offsets[0] !== 8 * (count + 1) || offsets.at(-1) !== bytes.byteLength) throw new Error('no message');
  return {
    channel: part(0).toString(),
    header: json(1),
    parent: json(2),
    metadata: json(3),
    content: json(4),
    buffers: Array.from({ length: count - 6 }, (_, i) => Buffer.from(part(5 + i))),
  };
}

/** What was printed in answer to a request, or by anybody. */
export function printed(messages: readonly JupyterMessage[], id?: string): string {
  return messages
    .filter(({ header, parent }) => header['msg_type'] === 'stream' && (id === undefined || parent['msg_id'] === id))
    .map(({ content }) => String(content['text']))
    .join('');
}

/** True when a request is done: answered, and the kernel idle again. */
export function isDone(messages: readonly JupyterMessage[], id: string): boolean {
  const mine = messages.filter(({ parent }) => parent['msg_id'] === id);
  const isIdle = mine.some(({ channel, content }) => channel === 'iopub' && content['execution_state'] === 'idle');
  return isIdle && mine.some(({ channel }) => channel === 'shell');
}

/** What the bridge itself says. */
export function notes(messages: readonly JupyterMessage[]): Record<string, unknown>[] {
  return messages.filter(({ channel }) => channel === 'causeway').map(({ content }) => content);
}

/** Reads a log in large pieces that belong to whoever reads: records that are there together come as one. */
import { maxRecordBytes } from '../output/record.ts';
import type { OutputItem, StreamReader } from '../output/stream-reader.ts';

type Bytes = Extract<OutputItem, { kind: 'bytes' }>;
type Gap = Extract<OutputItem, { kind: 'gap' }>;

/** Bytes of the stream from `offset` on, in a buffer of their own. */
export interface Piece {
  kind: 'bytes';
  offset: number;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Records are added to a piece until it has so much. */
const enoughBytes = 512 * 1024;

export class PieceReader {
  readonly #reader: StreamReader;
  /** What ended a piece. */
  #gap: Gap | undefined;

  constructor(reader: StreamReader) {
    this.#reader = reader;
  }

  /** The next piece or gap, or undefined when nothing more is stored now. */
  async next(): Promise<Piece | Gap | undefined> {
    const gap = this.#gap;
    this.#gap = undefined;
    if (gap !== undefined) return gap;
    const first = await this.#reader.next();
    return first?.kind === 'bytes' ? this.#gather(first) : first;
  }

  async #gather(first: Bytes): Promise<Piece> {
    const { offset } = first;
    // The log ends behind a whole record.
    const { end } = this.#reader.log;
    const room = Buffer.allocUnsafeSlow(Math.min(end - offset, enoughBytes + maxRecordBytes));
    let length = 0;
    for (let item: OutputItem | undefined = first; item !== undefined;) {
      if (item.kind === 'gap') {
        this.#gap = item;
        break;
      }
      room.set(item.bytes, length);
      length += item.bytes.byteLength;
      item = length < enoughBytes && offset + length < end ? await this.#reader.next() : undefined;
    }
    return { kind: 'bytes', offset, bytes: room.subarray(0, length) };
  }
}

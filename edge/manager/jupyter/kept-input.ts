/** What a client said and its agent has not kept yet: sent again after a cut, in the order in which it came. */
import { channels } from '../../../schema/protocol/frame.ts';
import type { Stream } from '../../../schema/protocol/stream.ts';

export class KeptInput {
  readonly #maxBytes: number;
  #records: { offset: number; bytes: Uint8Array }[] = [];
  /** Where the first one begins that is held, and where the next one will. */
  #from = 0;
  #to = 0;
  #stream: Stream | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get heldBytes(): number {
    return this.#to - this.#from;
  }

  /** Takes one record, and sends it where there is a stream; false when too much waits. */
  push(bytes: Uint8Array): boolean {
    if (this.heldBytes > 0 && this.heldBytes + bytes.byteLength > this.#maxBytes) return false;
    this.#records.push({ offset: this.#to, bytes });
    this.#to += bytes.byteLength;
    this.#send(bytes);
    return true;
  }

  /** Sends what is held, and all that comes, on a stream whose agent has everything before `offset`. */
  sendOn(stream: Stream, offset: number): void {
    this.taken(offset);
    this.#stream = stream;
    stream.seek(channels.input, this.#from);
    for (const { bytes } of this.#records) this.#send(bytes);
  }

  /** The stream is gone: what comes is held. */
  cut(): void {
    this.#stream = undefined;
  }

  /** Everything before `offset` is kept elsewhere. */
  taken(offset: number): void {
    let gone = 0;
    for (const record of this.#records) {
      if (record.offset + record.bytes.byteLength > offset) break;
      gone++;
    }
    this.#records.splice(0, gone);
    this.#from = this.#records[0]?.offset ?? this.#to;
  }

  /** What is queued is bounded by what is held: nobody has to wait here. */
  #send(bytes: Uint8Array): void {
    this.#stream?.write(channels.input, bytes).catch(() => undefined);
  }
}

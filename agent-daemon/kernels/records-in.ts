/**
 * The records that one client sends, from pieces of any size. A small one is put together in memory, a larger one in a file
 * without a name, so that what a client began and does not end costs no memory.
 */
import { Refusal } from '../../schema/errors.ts';
import { maxMessageBytes } from '../../schema/protocol/channels.ts';
import { type Disk, type DiskFile, writeFully } from '../disk.ts';
import type { RecordBytes } from './input-journal.ts';
import { isForKernel } from './records.ts';

const lengthBytes = 4;
/** The least message: its offsets and the name of its channel. */
const leastBytes = 60;
const memoryBytes = 256 * 1024;

export class RecordsIn {
  readonly #path: string;
  readonly #disk: Disk;
  readonly #head = Buffer.alloc(lengthBytes);
  /** Bytes of the record that came, its length among them; and all that it has, once that came. */
  #have = 0;
  #size = 0;
  #bytes: Buffer | undefined;
  #file: DiskFile | undefined;

  /** `path`: where a larger record may be put together. */
  constructor(path: string, disk: Disk) {
    this.#path = path;
    this.#disk = disk;
  }

  /** The records that `bytes` ends. A record's file is open until the next is asked for. @throws Refusal */
  async *push(bytes: Uint8Array): AsyncGenerator<RecordBytes, void, void> {
    for (let at = 0; at < bytes.byteLength;) {
      if (this.#have < lengthBytes) {
        this.#head[this.#have++] = bytes[at++] ?? 0;
        if (this.#have === lengthBytes) await this.#begin();
        continue;
      }
      const part = bytes.subarray(at, at + this.#size - this.#have);
      if (this.#bytes === undefined) await writeFully(this.#file as DiskFile, part, this.#have);
      else this.#bytes.set(part, this.#have);
      this.#have += part.byteLength;
      at += part.byteLength;
      if (this.#have === this.#size) yield* this.#take();
    }
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #begin(): Promise<void> {
    const length = this.#head.readUInt32BE(0);
    if (length > maxMessageBytes) throw new Refusal('kernel_message_too_large', `It has ${length} bytes.`);
    if (length < leastBytes) throw new Refusal('kernel_message_invalid', `A message of ${length} bytes is none.`);
    this.#size = lengthBytes + length;
    if (this.#size <= memoryBytes) {
      this.#bytes = Buffer.alloc(this.#size);
      this.#bytes.set(this.#head);
      return;
    }
    this.#file = await this.#disk.open(this.#path, 'w+', 0o600);
    await this.#disk.unlink(this.#path);
    await writeFully(this.#file, this.#head, 0);
  }

  async *#take(): AsyncGenerator<RecordBytes, void, void> {
    const bytes = this.#bytes;
    const file = this.#file;
    const sizeBytes = this.#size;
    this.#bytes = undefined;
    this.#have = 0;
    if (bytes === undefined) yield { sizeBytes, file: file as DiskFile };
    else if (isForKernel(bytes)) yield { sizeBytes, bytes };
    else throw new Refusal('kernel_message_invalid');
    await this.close();
  }
}

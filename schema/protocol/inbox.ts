/**
 * What came on a stream and waits to be read. It holds little more memory than the bytes themselves, however small the
 * frames were cut: pieces of a channel that follow each other are joined, and views into large messages are copied. Pure.
 */
import { type Channel, channels } from './frame.ts';
import { limits } from './limits.ts';

/** Bytes of one channel as they come out of a stream; or, with `end` and no bytes, that no more will come. */
export interface StreamItem {
  channel: Channel;
  /** Bytes of the channel before these. */
  offset: number;
  bytes: Uint8Array;
  end: boolean;
}

/** An item whose buffer is ours and has room behind its bytes. */
interface Waiting extends StreamItem {
  buffer: Uint8Array | undefined;
}

/** Control messages are not joined: each is one object. So their number is limited. */
const maxControl = 1024;
const firstBufferBytes = 512;

export class Inbox {
  #items: Waiting[] = [];
  #head = 0;
  #control = 0;

  /** False when the item can not be held. `messageBytes`: size of the buffer that `item.bytes` is a view into. */
  put(item: StreamItem, messageBytes: number): boolean {
    if (item.channel === channels.control && !item.end) {
      if (this.#control >= maxControl) return false;
      this.#control++;
      this.#items.push({ ...item, bytes: item.bytes.slice(), buffer: undefined });
      return true;
    }
    if (item.end || item.bytes.byteLength * 2 >= messageBytes) this.#items.push({ ...item, buffer: undefined });
    else if (!this.#join(item)) this.#own(item);
    return true;
  }

  take(): StreamItem | undefined {
    const item = this.#items[this.#head];
    if (!item) return undefined;
    this.#head++;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head >= 1024) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    if (item.channel === channels.control && !item.end) this.#control--;
    return { channel: item.channel, offset: item.offset, bytes: item.bytes, end: item.end };
  }

  #own(item: StreamItem): void {
    const length = item.bytes.byteLength;
    const buffer = new Uint8Array(length >= firstBufferBytes ? length : firstBufferBytes);
    buffer.set(item.bytes);
    this.#items.push({ ...item, bytes: buffer.subarray(0, length), buffer });
  }

  /** Adds the bytes to the last item when they follow it. */
  #join(item: StreamItem): boolean {
    const last = this.#items.at(-1);
    if (this.#head === this.#items.length || !last?.buffer || last.channel !== item.channel) return false;
    const before = last.bytes.byteLength;
    const total = before + item.bytes.byteLength;
    if (last.offset + before !== item.offset || total > limits.payloadBytes) return false;
    if (total > last.buffer.byteLength) {
      const larger = new Uint8Array(Math.min(limits.payloadBytes, Math.max(total, last.buffer.byteLength * 2)));
      larger.set(last.bytes);
      last.buffer = larger;
    }
    last.buffer.set(item.bytes, before);
    last.bytes = last.buffer.subarray(0, total);
    return true;
  }
}

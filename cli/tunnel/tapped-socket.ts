/**
 * The connection under a client socket: one of `wire/connect.ts` that reads into one buffer again and again. A fresh buffer for
 * each read makes the collector mark the whole heap every few megabytes, which took half of the receiver's time. `ws` does
 * the handshake and everything else on it as on any stream; binary messages go past it, straight to `tap`.
 */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { BinaryTap } from '../../schema/protocol/binary-tap.ts';
import { connectTo } from '../../wire/connect.ts';
import type { Way } from '../../wire/way.ts';

const readBytes = 256 * 1024;
/** Head of an HTTP answer; a longer one is left to the parser of HTTP, which refuses it. */
const maxHeadBytes = 16 * 1024;
const endOfHead = '\r\n\r\n';

export interface TapOptions {
  maxBytes: number;
  /** Gets the bytes of binary messages, valid during the call, `last` with those that end one. */
  binary: (piece: Uint8Array, last: boolean) => void;
}

type Done = (error?: Error | null) => void;

export class TappedSocket extends Duplex {
  readonly #socket: Socket;
  readonly #tap: BinaryTap;
  /** The head of the HTTP answer so far; behind it either frames come or the body of a refusal. */
  #head = Buffer.alloc(0);
  #phase: 'head' | 'frames' | 'body' = 'head';
  /** False while the reader of what is not tapped has enough. */
  #flows = true;

  /** Connects by `way`; messages over `maxBytes` are left to `ws`. @throws WayError, or what the network says */
  static async open(url: URL, way: Way, options: TapOptions, signal: AbortSignal): Promise<TappedSocket> {
    let tapped: TappedSocket | undefined;
    const onread = {
      buffer: Buffer.allocUnsafeSlow(readBytes),
      // Nobody may speak before our request: such bytes are dropped, and the handshake fails.
      callback: (count: number, buffer: Uint8Array) => tapped === undefined || tapped.#read(buffer.subarray(0, count)),
    };
    const socket = await connectTo(url, way, { onread, signal });
    tapped = new TappedSocket(socket, options);
    return tapped;
  }

  private constructor(socket: Socket, { maxBytes, binary }: TapOptions) {
    super({ allowHalfOpen: false });
    this.#tap = new BinaryTap(maxBytes, { binary, rest: (bytes) => this.#leave(bytes) });
    this.#socket = socket;
    this.#socket.on('timeout', () => this.emit('timeout'));
    this.#socket.on('error', (error) => this.destroy(error));
    this.#socket.on('end', () => this.push(null));
    this.#socket.on('close', () => this.destroy());
  }

  setTimeout(timeoutMs: number, onTimeout?: () => void): this {
    this.#socket.setTimeout(timeoutMs);
    if (onTimeout) this.once('timeout', onTimeout);
    return this;
  }

  setNoDelay(noDelay?: boolean): this {
    this.#socket.setNoDelay(noDelay);
    return this;
  }

  setKeepAlive(enable?: boolean, initialDelay?: number): this {
    this.#socket.setKeepAlive(enable, initialDelay);
    return this;
  }

  ref(): this {
    this.#socket.ref();
    return this;
  }

  unref(): this {
    this.#socket.unref();
    return this;
  }

  override _read(): void {
    if (this.#flows) return;
    this.#flows = true;
    this.#socket.resume();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: Done): void {
    this.#socket.write(chunk, done);
  }

  override _writev(chunks: { chunk: Uint8Array; encoding: BufferEncoding }[], done: Done): void {
    this.#socket.cork();
    for (const [index, { chunk }] of chunks.entries())
      this.#socket.write(chunk, index === chunks.length - 1 ? done : undefined);
    this.#socket.uncork();
  }

  override _final(done: Done): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#socket.destroy();
    done(error);
  }

  /** False when the reader has enough. */
  #read(bytes: Uint8Array): boolean {
    this.#take(bytes);
    return this.#flows;
  }

  #take(bytes: Uint8Array): void {
    if (this.#phase === 'frames') this.#tap.push(bytes);
    else if (this.#phase === 'body') this.#leave(bytes);
    else this.#takeHead(bytes);
  }

  #takeHead(bytes: Uint8Array): void {
    this.#head = Buffer.concat([this.#head, bytes]);
    const end = this.#head.indexOf(endOfHead);
    if (end < 0 && this.#head.byteLength < maxHeadBytes) return;
    const head = this.#head;
    this.#head = Buffer.alloc(0);
    this.#phase = end >= 0 && head.toString('latin1', 0, 16).startsWith('HTTP/1.1 101 ') ? 'frames' : 'body';
    const headBytes = this.#phase === 'frames' ? end + endOfHead.length : head.byteLength;
    this.#leave(head.subarray(0, headBytes));
    this.#take(head.subarray(headBytes));
  }

  /** Gives a copy to whoever reads the stream. */
  #leave(bytes: Uint8Array): void {
    if (bytes.byteLength > 0) this.#flows = this.push(Buffer.from(bytes)) && this.#flows;
  }
}

/**
 * Finds the binary messages in what a WebSocket server sends (RFC 6455 section 5.2) and gives their bytes on as they come,
 * so that a receiver can read into one buffer again and again. All else (texts, pings, closes, fragments, whatever breaks
 * a rule) is left to the WebSocket library, byte for byte. Pure.
 */
export interface TapPorts {
  /** Bytes of a binary message, valid during the call; `last` ends it. */
  binary(piece: Uint8Array, last: boolean): void;
  /** Bytes that are the library's, valid during the call. */
  rest(bytes: Uint8Array): void;
}

/** FIN without reserved bits, opcode 2. */
const wholeBinary = 0x82;
const maxHeaderBytes = 10;
const nothing = new Uint8Array(0);

export class BinaryTap {
  readonly #ports: TapPorts;
  readonly #maxBytes: number;
  readonly #header = new Uint8Array(maxHeaderBytes);
  readonly #view = new DataView(this.#header.buffer);
  #headerBytes = 0;
  #inPayload = false;
  /** Payload of the current frame that is missing; a number that is not safe was refused by its length. */
  #left = 0;
  #isBinary = false;

  /** @param maxBytes of a message; a larger one is left to the library, which refuses it */
  constructor(maxBytes: number, ports: TapPorts) {
    this.#maxBytes = maxBytes;
    this.#ports = ports;
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength;) at += this.#inPayload ? this.#payload(bytes, at) : this.#head(bytes, at);
  }

  #head(bytes: Uint8Array, at: number): number {
    const part = bytes.subarray(at, at + this.#headerNeeds() - this.#headerBytes);
    this.#header.set(part, this.#headerBytes);
    this.#headerBytes += part.byteLength;
    if (this.#headerBytes < this.#headerNeeds()) return part.byteLength;
    this.#left = this.#length();
    const masked = ((this.#header[1] ?? 0) & 0x80) !== 0;
    this.#isBinary = this.#header[0] === wholeBinary && !masked && this.#left <= this.#maxBytes;
    if (!this.#isBinary) {
      this.#ports.rest(this.#header.subarray(0, this.#headerBytes));
      // A server must not mask: the library ends the connection here, whatever follows.
    } else if (this.#left === 0) this.#ports.binary(nothing, true);
    this.#headerBytes = 0;
    this.#inPayload = this.#left > 0;
    return part.byteLength;
  }

  /** Bytes of the header, as far as its first two tell. */
  #headerNeeds(): number {
    if (this.#headerBytes < 2) return 2;
    const short = (this.#header[1] ?? 0) & 0x7f;
    return short === 126 ? 4 : short === 127 ? 10 : 2;
  }

  #length(): number {
    const short = (this.#header[1] ?? 0) & 0x7f;
    if (short === 126) return this.#view.getUint16(2);
    return short === 127 ? this.#view.getUint32(2) * 2 ** 32 + this.#view.getUint32(6) : short;
  }

  #payload(bytes: Uint8Array, at: number): number {
    const part = bytes.subarray(at, at + this.#left);
    this.#left -= part.byteLength;
    this.#inPayload = this.#left > 0;
    if (this.#isBinary) this.#ports.binary(part, this.#left === 0);
    else this.#ports.rest(part);
    return part.byteLength;
  }
}

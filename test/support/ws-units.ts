/** WebSocket frames (RFC 6455) cut out of a stream of bytes and put together again, for proxies that look into them. */

/** One frame as it came, with its header. */
export interface Unit {
  opcode: number;
  /** The last of its message. */
  final: boolean;
  masked: boolean;
  /** Unmasked. */
  payload: Buffer;
  raw: Buffer;
}

export const binary = 2;

/** Collects bytes and gives whole frames. */
export class UnitParser {
  #held: Buffer = Buffer.alloc(0);

  /** Takes bytes, returns the frames that are complete now. */
  take(bytes: Buffer): Unit[] {
    this.#held = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    const units: Unit[] = [];
    for (let unit = this.#next(); unit !== undefined; unit = this.#next()) units.push(unit);
    return units;
  }

  #next(): Unit | undefined {
    const held = this.#held;
    if (held.length < 2) return undefined;
    const short = held[1]! & 0x7f;
    const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
    const masked = (held[1]! & 0x80) !== 0;
    const headerBytes = 2 + lengthBytes + (masked ? 4 : 0);
    if (held.length < headerBytes) return undefined;
    const length =
      lengthBytes === 0 ? short : lengthBytes === 2 ? held.readUInt16BE(2) : Number(held.readBigUInt64BE(2));
    if (held.length < headerBytes + length) return undefined;
    const raw = held.subarray(0, headerBytes + length);
    const payload = Buffer.from(raw.subarray(headerBytes));
    if (masked) {
      const mask = raw.subarray(headerBytes - 4, headerBytes);
      for (let at = 0; at < length; at++) payload[at]! ^= mask[at % 4]!;
    }
    this.#held = held.subarray(raw.length);
    return { opcode: held[0]! & 0x0f, final: (held[0]! & 0x80) !== 0, masked, payload, raw };
  }
}

/** A whole binary message; `masked` (by zeros) as clients must send it. */
export function binaryMessage(payload: Uint8Array, masked: boolean): Buffer {
  const { length } = payload;
  const lengthBytes = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const header = Buffer.alloc(2 + lengthBytes + (masked ? 4 : 0));
  header[0] = 0x80 | binary;
  header[1] = (masked ? 0x80 : 0) | (lengthBytes === 0 ? length : lengthBytes === 2 ? 126 : 127);
  if (lengthBytes === 2) header.writeUInt16BE(length, 2);
  if (lengthBytes === 8) header.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([header, payload]);
}

/** What a client said and its agent has not kept yet: sent again after a cut, in the order in which it came. Pure. */

export class KeptInput {
  readonly #maxBytes: number;
  #records: { offset: number; bytes: Uint8Array }[] = [];
  /** Where the first one begins that is held, and where the next one will. */
  #from = 0;
  #to = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get heldBytes(): number {
    return this.#to - this.#from;
  }

  /** Takes one record; false when too much waits. */
  push(bytes: Uint8Array): boolean {
    if (this.heldBytes > 0 && this.heldBytes + bytes.byteLength > this.#maxBytes) return false;
    this.#records.push({ offset: this.#to, bytes });
    this.#to += bytes.byteLength;
    return true;
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

  /** What is held, the first of it at {@link from}. */
  get records(): readonly Uint8Array[] {
    return this.#records.map(({ bytes }) => bytes);
  }

  get from(): number {
    return this.#from;
  }
}

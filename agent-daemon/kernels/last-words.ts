/** The last that a Jupyter kernel said before its end: what it printed, and what it wrote to its own standard error. */
import { parseObject } from './records.ts';

const keptBytes = 4096;
const keptMessages = 8;

export class LastWords {
  #stderr = Buffer.alloc(0);
  /** Contents of `stream` messages, parsed only when they are asked for. */
  #contents: Buffer[] = [];

  wrote(bytes: Uint8Array): void {
    this.#stderr = Buffer.concat([this.#stderr, bytes.subarray(-keptBytes)]).subarray(-keptBytes);
  }

  /** The content of a `stream` message, valid during the call. */
  published(content: Buffer | undefined): void {
    if (content === undefined || content.byteLength > keptBytes) return;
    this.#contents.push(Buffer.from(content));
    if (this.#contents.length > keptMessages) this.#contents.shift();
  }

  get text(): string {
    const printed = this.#contents.map((content) => parseObject(content)?.['text']);
    const text = printed.filter((each) => typeof each === 'string').join('');
    return `${text.slice(-keptBytes)}${this.#stderr.toString()}`.slice(-2 * keptBytes);
  }
}

/** Files and directories of a simulated disk: what a process sees, and what of it the medium does not have yet. */
import type { Random } from '../../../schema/ports.ts';

interface NodeFacts {
  mode: number;
  uid: number;
  gid: number;
  mtimeMs: number;
}

export interface Directory extends NodeFacts {
  entries: Map<string, Node>;
}

export type Node = Directory | FileNode;

export function newDirectory(mode = 0o777): Directory {
  return { mode, uid: 0, gid: 0, mtimeMs: 0, entries: new Map() };
}

/** One write or cut that is not on the medium: enough to take it back, and to do it again in part. */
interface Change {
  atMs: number;
  at: number;
  bytes: Buffer;
  sizeAfter: number;
  /** What was at `at` before, to the end of the change or of the file. */
  old: Buffer;
  sizeBefore: number;
}

export class FileNode implements NodeFacts {
  mode: number;
  uid = 0;
  gid = 0;
  mtimeMs = 0;
  /** False when no name leads to it any more. */
  linked = true;
  size = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #changes: Change[] = [];

  constructor(mode: number) {
    this.mode = mode;
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.size);
  }

  write(at: number, bytes: Buffer, atMs: number): void {
    const old = Buffer.from(this.bytes.subarray(at, at + bytes.byteLength));
    const sizeAfter = Math.max(this.size, at + bytes.byteLength);
    this.#changes.push({ atMs, at, bytes, sizeAfter, old, sizeBefore: this.size });
    this.#apply(at, bytes, sizeAfter);
  }

  truncate(size: number, atMs: number): void {
    const old = Buffer.from(this.bytes.subarray(size));
    this.#changes.push({ atMs, at: size, bytes: Buffer.alloc(0), sizeAfter: size, old, sizeBefore: this.size });
    this.#apply(size, Buffer.alloc(0), size);
  }

  flush(): void {
    this.#changes = [];
  }

  /** What is on the medium for certain: the bytes without any change that a loss of power may take back. */
  get synced(): Buffer {
    let bytes = this.bytes;
    for (const { at, old, sizeBefore } of this.#changes.toReversed()) {
      const before = Buffer.alloc(sizeBefore);
      before.set(bytes.subarray(0, sizeBefore));
      before.set(old.subarray(0, Math.max(0, sizeBefore - at)), Math.min(at, sizeBefore));
      bytes = before;
    }
    return bytes;
  }

  /** Another file with what is on the medium of this one. */
  image(): FileNode {
    const copy = new FileNode(this.mode);
    Object.assign(copy, { uid: this.uid, gid: this.gid, mtimeMs: this.mtimeMs });
    const { synced } = this;
    copy.#apply(0, Buffer.from(synced), synced.byteLength);
    return copy;
  }

  /** Each change younger than `oldMs` stays, goes or is torn, by itself. */
  powerLoss(oldMs: number, random: Random): void {
    const changes = this.#changes;
    this.#changes = [];
    for (const { at, old, sizeBefore } of changes.toReversed()) this.#apply(at, old, sizeBefore);
    for (const { atMs, at, bytes, sizeAfter } of changes) {
      const chance = atMs <= oldMs ? 0 : random.fraction();
      if (chance > 0.7) continue;
      if (chance <= 0.4 || bytes.byteLength === 0) {
        this.#apply(at, bytes, bytes.byteLength === 0 ? sizeAfter : Math.max(this.size, at + bytes.byteLength));
        continue;
      }
      const torn = bytes.subarray(0, Math.floor(random.fraction() * bytes.byteLength));
      this.#apply(at, torn, Math.max(this.size, at + torn.byteLength));
    }
  }

  /** The bytes at their place, and the size; what lies between reads as zeros. */
  #apply(at: number, bytes: Buffer, size: number): void {
    const needed = Math.max(size, at + bytes.byteLength);
    if (needed > this.#bytes.byteLength) {
      const grown = Buffer.alloc(Math.max(needed, Math.min(2 * this.#bytes.byteLength, needed + 1024 * 1024), 256));
      grown.set(this.bytes);
      this.#bytes = grown;
    }
    if (size < this.size) this.#bytes.fill(0, size, this.size);
    this.#bytes.set(bytes, at);
    this.size = size;
  }
}

/** A copy of a directory and all below it, as the medium has its files. */
export function imageOf(directory: Directory): Directory {
  const copy: Directory = { ...directory, entries: new Map() };
  for (const [name, node] of directory.entries)
    copy.entries.set(name, node instanceof FileNode ? node.image() : imageOf(node));
  return copy;
}

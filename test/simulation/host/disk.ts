/**
 * The disk of a simulated host: what is written is seen at once, but only what was synced survives a loss of power. A
 * kill of the process loses nothing. Names (made, renamed, removed) reach the medium in their order, as a journalling
 * file system writes them; bytes of a file reach it in any order, and a write may be torn anywhere. After 30 s the
 * system has written everything back by itself.
 */
import { basename, dirname, normalize } from 'node:path';
import type { Disk, DiskFile, FileStat, OpenFlags } from '../../../agent-daemon/disk.ts';
import type { Clock, Random, Timers } from '../../../schema/ports.ts';
import { type Directory, type Node, FileNode, imageOf, newDirectory } from './disk-nodes.ts';

export type DiskOp = keyof Disk | 'read' | 'write' | 'truncate' | 'sync' | 'close';

export interface SimDiskOptions {
  clock: Clock;
  timers: Timers;
  /** Bytes of all files together; beyond that ENOSPC. */
  limitBytes?: number;
  /** Virtual milliseconds that a call takes; 0 (default): it is done in the same step. */
  latencyMs?: (op: DiskOp, path: string) => number;
  /** Names an error (`EIO`, `ENOSPC`) with which a call fails, before it does anything. */
  fails?: (op: DiskOp, path: string) => string | undefined;
  /** Files that can only be read, and are there whatever becomes of the disk: the program's own. */
  installed?: Readonly<Record<string, string>>;
}

/** A change of names that is not on the medium yet. */
interface NameChange {
  atMs: number;
  undo(): void;
}

const writebackMs = 30_000;
const blockBytes = 4096;
/** What a file or a directory takes beside its bytes. */
const nodeBytes = 256;

export class SimDisk implements Disk {
  limitBytes: number;
  readonly #options: SimDiskOptions;
  readonly #root = newDirectory();
  #changes: NameChange[] = [];
  #dirty = new Set<FileNode>();
  #usedBytes = 0;

  constructor(options: SimDiskOptions) {
    this.#options = options;
    this.limitBytes = options.limitBytes ?? Number.POSITIVE_INFINITY;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The power fails: of what was not synced, a part chosen by `random` is lost or torn. */
  powerLoss(random: Random): void {
    const oldMs = this.#options.clock.bootMs() - writebackMs;
    const aged = this.#changes.filter(({ atMs }) => atMs <= oldMs).length;
    const kept = aged + Math.floor(random.fraction() * (this.#changes.length - aged + 1));
    for (const change of this.#changes.slice(kept).toReversed()) change.undo();
    this.#changes = [];
    for (const file of this.#dirty) file.powerLoss(oldMs, random);
    this.#dirty.clear();
    this.#usedBytes = sizeOf(this.#root);
  }

  /** Takes over what another's medium has for certain: an image of it, taken while it runs. */
  takeImageOf(other: SimDisk): void {
    this.#root.entries = imageOf(other.#root).entries;
    this.#usedBytes = sizeOf(this.#root);
  }

  /** Content as a process sees it, for a checker; undefined when there is no such file. */
  peek(path: string): Buffer | undefined {
    const node = this.#find(path);
    return node instanceof FileNode ? Buffer.from(node.bytes) : undefined;
  }

  /** Content of which no loss of power takes anything, under the name that a process sees. */
  synced(path: string): Buffer | undefined {
    const node = this.#find(path);
    return node instanceof FileNode ? node.synced : undefined;
  }

  /** Every path below `path`, files and directories, in order. */
  tree(path = '/'): string[] {
    const node = this.#find(path);
    if (node === undefined || node instanceof FileNode) return [];
    return [...node.entries.keys()].toSorted().flatMap((name) => {
      const below = path === '/' ? `/${name}` : `${path}/${name}`;
      return [below, ...this.tree(below)];
    });
  }

  open(path: string, flags: OpenFlags, mode = 0o666): Promise<DiskFile> {
    return this.#act('open', path, () => new SimFile(this, path, this.#openNode(path, flags, mode)));
  }

  readFile(path: string): Promise<Buffer> {
    const installed = this.#options.installed?.[path];
    return this.#act('readFile', path, () => Buffer.from(installed ?? this.#file(path).bytes));
  }

  writeFile(path: string, text: string, { mode = 0o666 }: { mode?: number } = {}): Promise<void> {
    return this.#act('writeFile', path, () => {
      const node = this.#openNode(path, 'w', mode) as FileNode;
      const bytes = Buffer.from(text);
      if (this.put(node, bytes, 0) < bytes.byteLength) throw failure('ENOSPC', 'write', path);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#act('rename', from, () => {
      const [source, target] = [this.#parent(from), this.#parent(to)];
      const [name, newName] = [basename(from), basename(to)];
      const node = source.entries.get(name);
      if (node === undefined) throw failure('ENOENT', 'rename', from);
      const replaced = target.entries.get(newName);
      if (replaced === node) return;
      if (replaced !== undefined && replaced instanceof FileNode !== node instanceof FileNode)
        throw failure(replaced instanceof FileNode ? 'ENOTDIR' : 'EISDIR', 'rename', to);
      if (replaced !== undefined && !(replaced instanceof FileNode) && replaced.entries.size > 0)
        throw failure('ENOTEMPTY', 'rename', to);
      this.#change(() => {
        target.entries.delete(newName);
        if (replaced !== undefined) relink(target, newName, replaced);
        source.entries.set(name, node);
      });
      source.entries.delete(name);
      target.entries.set(newName, node);
      if (replaced === undefined) return;
      this.#usedBytes -= sizeOf(replaced);
      if (replaced instanceof FileNode) replaced.linked = false;
    });
  }

  unlink(path: string): Promise<void> {
    return this.#act('unlink', path, () => {
      this.#file(path);
      this.#remove(path);
    });
  }

  rmdir(path: string): Promise<void> {
    return this.#act('rmdir', path, () => {
      const node = this.#find(path);
      if (node === undefined) throw failure('ENOENT', 'rmdir', path);
      if (node instanceof FileNode) throw failure('ENOTDIR', 'rmdir', path);
      if (node.entries.size > 0) throw failure('ENOTEMPTY', 'rmdir', path);
      this.#remove(path);
    });
  }

  rm(path: string, { recursive = false, force = false }: { recursive?: boolean; force?: boolean }): Promise<void> {
    return this.#act('rm', path, () => {
      const node = this.#find(path);
      if (node === undefined) {
        const isBelowFile = parts(path).some(
          (_, at, names) => this.#find(`/${names.slice(0, at).join('/')}`) instanceof FileNode,
        );
        if (force && !isBelowFile) return;
        throw failure(isBelowFile ? 'ENOTDIR' : 'ENOENT', 'rm', path);
      }
      if (!(node instanceof FileNode) && !recursive) throw failure('ERR_FS_EISDIR', 'rm', path);
      this.#remove(path);
    });
  }

  mkdir(path: string, { mode = 0o777 }: { recursive: true; mode?: number }): Promise<string | undefined> {
    return this.#act('mkdir', path, () => {
      let made: string | undefined;
      let at = this.#root;
      let so = '';
      for (const name of parts(path)) {
        so += `/${name}`;
        const next = at.entries.get(name);
        if (next instanceof FileNode) throw failure(so === normalize(path) ? 'EEXIST' : 'ENOTDIR', 'mkdir', path);
        if (next === undefined) made ??= so;
        at = next ?? (this.#add(at, so, newDirectory(mode)) as Directory);
      }
      return made;
    });
  }

  readdir(path: string): Promise<string[]> {
    return this.#act('readdir', path, () => {
      const node = this.#node(path, 'scandir');
      if (node instanceof FileNode) throw failure('ENOTDIR', 'scandir', path);
      return [...node.entries.keys()].toSorted();
    });
  }

  stat(path: string): Promise<FileStat> {
    return this.#act('stat', path, () => statOf(this.#node(path, 'stat')));
  }

  chmod(path: string, mode: number): Promise<void> {
    return this.#act('chmod', path, () => void (this.#node(path, 'chmod').mode = mode));
  }

  chown(path: string, uid: number, gid: number): Promise<void> {
    return this.#act('chown', path, () => void Object.assign(this.#node(path, 'chown'), { uid, gid }));
  }

  statfs(path: string): Promise<{ bavail: number; blocks: number; bsize: number }> {
    return this.#act('statfs', path, () => {
      const total = Number.isFinite(this.limitBytes) ? this.limitBytes : 2 ** 40;
      const free = Math.max(0, total - this.#usedBytes);
      return { bavail: Math.floor(free / blockBytes), blocks: Math.ceil(total / blockBytes), bsize: blockBytes };
    });
  }

  /** For open files: runs one call with its latency and its faults. The effect of a sync comes at its end, else at once. */
  async act<T>(op: DiskOp, path: string, run: () => T): Promise<T> {
    return this.#act(op, path, run);
  }

  /** Writes what fits and tells how much that is. @throws ENOSPC when nothing does */
  put(node: FileNode, bytes: Uint8Array, position: number): number {
    const grows = Math.max(0, position + bytes.byteLength - node.size);
    const room = Math.max(0, this.limitBytes - this.#usedBytes);
    const count = bytes.byteLength - Math.max(0, Math.min(bytes.byteLength, grows - room));
    if (count <= 0 && bytes.byteLength > 0) throw failure('ENOSPC', 'write', '');
    this.#touch(node, () => node.write(position, Buffer.from(bytes.subarray(0, count)), this.#nowMs()));
    return count;
  }

  cut(node: FileNode, sizeBytes: number): void {
    this.#touch(node, () => node.truncate(sizeBytes, this.#nowMs()));
  }

  /** A sync writes the names that changed before it, too: the file's own may be among them. */
  flush(node: Node): void {
    this.#changes = [];
    if (!(node instanceof FileNode)) return;
    node.flush();
    this.#dirty.delete(node);
  }

  #touch(node: FileNode, change: () => void): void {
    const before = node.size;
    change();
    node.mtimeMs = this.#options.clock.nowMs();
    if (node.linked) this.#usedBytes += node.size - before;
    this.#dirty.add(node);
  }

  async #act<T>(op: DiskOp, path: string, run: () => T): Promise<T> {
    const { latencyMs, fails, timers } = this.#options;
    const code = fails?.(op, path);
    if (code !== undefined) throw failure(code, op, path);
    const delayMs = latencyMs?.(op, path) ?? 0;
    if (delayMs <= 0) return run();
    const pause = (): Promise<void> => new Promise((resolve) => void timers.after(delayMs, resolve));
    if (op === 'sync') {
      await pause();
      return run();
    }
    const result = run();
    await pause();
    return result;
  }

  #openNode(path: string, flags: OpenFlags, mode: number): Node {
    const found = this.#find(path);
    if (flags === 'r' || flags === 'r+') {
      if (found === undefined) throw failure('ENOENT', 'open', path);
      if (flags === 'r+' && !(found instanceof FileNode)) throw failure('EISDIR', 'open', path);
      return found;
    }
    if (found !== undefined && flags === 'wx+') throw failure('EEXIST', 'open', path);
    if (found !== undefined && !(found instanceof FileNode)) throw failure('EISDIR', 'open', path);
    const node = found ?? (this.#add(this.#parent(path), path, new FileNode(mode)) as FileNode);
    if (flags !== 'create' && node.size > 0) this.cut(node, 0);
    return node;
  }

  #add(parent: Directory, path: string, node: Node): Node {
    if (this.#usedBytes + nodeBytes > this.limitBytes) throw failure('ENOSPC', 'open', path);
    const name = basename(path);
    node.mtimeMs = this.#options.clock.nowMs();
    parent.mtimeMs = node.mtimeMs;
    this.#change(() => void parent.entries.delete(name));
    parent.entries.set(name, node);
    this.#usedBytes += nodeBytes;
    return node;
  }

  #remove(path: string): void {
    const parent = this.#parent(path);
    const name = basename(path);
    const node = parent.entries.get(name);
    if (node === undefined) return;
    this.#change(() => relink(parent, name, node));
    parent.entries.delete(name);
    parent.mtimeMs = this.#options.clock.nowMs();
    this.#usedBytes -= sizeOf(node);
    if (node instanceof FileNode) node.linked = false;
  }

  #change(undo: () => void): void {
    this.#changes.push({ atMs: this.#nowMs(), undo });
  }

  #nowMs(): number {
    return this.#options.clock.bootMs();
  }

  #find(path: string): Node | undefined {
    let at: Node = this.#root;
    for (const name of parts(path)) {
      if (at instanceof FileNode) return undefined;
      const next = at.entries.get(name);
      if (next === undefined) return undefined;
      at = next;
    }
    return at;
  }

  #node(path: string, call: string): Node {
    const node = this.#find(path);
    if (node !== undefined) return node;
    const parent = this.#find(dirname(path));
    throw failure(parent instanceof FileNode ? 'ENOTDIR' : 'ENOENT', call, path);
  }

  #file(path: string): FileNode {
    const node = this.#node(path, 'open');
    if (node instanceof FileNode) return node;
    throw failure('EISDIR', 'read', path);
  }

  #parent(path: string): Directory {
    const node = this.#node(dirname(path), 'open');
    if (node instanceof FileNode) throw failure('ENOTDIR', 'open', path);
    return node;
  }
}

class SimFile implements DiskFile {
  readonly #disk: SimDisk;
  readonly #path: string;
  readonly #node: Node;
  #closed = false;

  constructor(disk: SimDisk, path: string, node: Node) {
    this.#disk = disk;
    this.#path = path;
    this.#node = node;
  }

  read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number; buffer: Buffer }> {
    return this.#act('read', () => {
      const bytes = this.#file().bytes;
      const bytesRead = Math.max(0, Math.min(length, bytes.byteLength - position, buffer.byteLength - offset));
      if (bytesRead > 0) buffer.set(bytes.subarray(position, position + bytesRead), offset);
      return { bytesRead, buffer };
    });
  }

  write(bytes: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesWritten: number }> {
    return this.#act('write', () => ({
      bytesWritten: this.#disk.put(this.#file(), bytes.subarray(offset, offset + length), position),
    }));
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#act('truncate', () => this.#disk.cut(this.#file(), sizeBytes));
  }

  stat(): Promise<{ size: number }> {
    return this.#act('stat', () => statOf(this.#node));
  }

  sync(): Promise<void> {
    return this.#act('sync', () => this.#disk.flush(this.#node));
  }

  datasync(): Promise<void> {
    return this.sync();
  }

  close(): Promise<void> {
    // As a FileHandle of Node: a second time does nothing.
    if (this.#closed) return Promise.resolve();
    return this.#act('close', () => void (this.#closed = true));
  }

  #act<T>(op: DiskOp, run: () => T): Promise<T> {
    if (this.#closed) return Promise.reject(failure('EBADF', op, this.#path));
    return this.#disk.act(op, this.#path, run);
  }

  #file(): FileNode {
    if (this.#node instanceof FileNode) return this.#node;
    throw failure('EISDIR', 'read', this.#path);
  }
}

function relink(parent: Directory, name: string, node: Node): void {
  parent.entries.set(name, node);
  if (node instanceof FileNode) node.linked = true;
}

function statOf(node: Node): FileStat {
  const { uid, gid, mtimeMs } = node;
  return { size: node instanceof FileNode ? node.size : blockBytes, uid, gid, mtimeMs };
}

function sizeOf(node: Node): number {
  if (node instanceof FileNode) return nodeBytes + node.size;
  return [...node.entries.values()].reduce((sum, each) => sum + sizeOf(each), nodeBytes);
}

function parts(path: string): string[] {
  return normalize(path)
    .split('/')
    .filter((name) => name !== '');
}

function failure(code: string, call: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, syscall: call, path });
}

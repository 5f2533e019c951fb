/** Parts of uploads until the last one is there: `<root>/<session>/<uploadId>`, at most 1 GiB each, kept for a day. */
import { join } from 'node:path';
import { Refusal } from '../../schema/errors.ts';
import type { Clock } from '../../schema/ports.ts';
import type { Disk, DiskFile } from '../disk.ts';
import type { Loop, Loops } from '../loops.ts';
import { Passing, withEach } from '../retention.ts';

const maxBytes = 1024 ** 3;
const maxUploads = 8;
/** To which nothing came for so long, an upload gives way to a new one. */
const restMs = 5 * 60_000;
/** Uploads that were taken whole and of which the agent knows that: who has not heard of it sends the last part again. */
const maxTaken = 1_000;
const keepMs = 24 * 3_600_000;
const sweepEveryMs = 3_600_000;

export interface Upload {
  readonly path: string;
  /** Bytes that are there. */
  readonly sizeBytes: number;
  /** All of it was taken before. */
  readonly isTaken: boolean;
  /** Takes bytes at an offset of the upload; what is there already is skipped. @throws Refusal for a hole, or too much */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Resolves when all bytes are on the disk. */
  sync(): Promise<void>;
  /** Lets go. The bytes stay when more are to come, and are forgotten when all were `taken`, or will never be. */
  close(as: 'open' | 'taken' | 'refused'): Promise<void>;
}

export class Uploads {
  readonly #root: string;
  readonly #disk: Disk;
  readonly #ports: { clock: Clock; disk: Disk; loops: Loops };
  /** Resolve when the one that writes an upload lets go of it. */
  readonly #open = new Map<string, Promise<void>>();
  /** Bytes of uploads as this run of the agent has left them. */
  readonly #written = new Map<string, number>();
  /** Bytes of uploads that were taken whole, the latest last. */
  readonly #taken = new Map<string, number>();
  /** Since when nothing came for an upload, as far as this run of the agent has seen. */
  readonly #idle = new Map<string, { mtimeMs: number; ms: number }>();
  readonly #passing: Passing;
  #sweeping: Loop | undefined;

  constructor(root: string, ports: { clock: Clock; disk: Disk; loops: Loops }) {
    this.#root = root;
    this.#disk = ports.disk;
    this.#ports = ports;
    this.#passing = new Passing(() => ports.clock.bootMs());
  }

  async start(): Promise<void> {
    await this.#disk.mkdir(this.#root, { recursive: true, mode: 0o700 });
    this.#sweeping = this.#ports.loops.every('sweep of uploads', sweepEveryMs, () => this.#sweep());
  }

  async stop(): Promise<void> {
    await this.#sweeping?.stop();
  }

  /**
   * Opens an upload to write a part at `offset`; `uploadId` is a checked name. One writer at a time: another waits, since a part
   * may be sent again while the agent has not heard that its way is cut, or while all is unpacked. What an earlier run left
   * behind the offset was never answered, and may be torn by a loss of power: it is cut off. @throws Refusal also where
   * `signal` aborts before
   */
  async open(sessionId: string, uploadId: string, offset: number, signal: AbortSignal): Promise<Upload> {
    const folder = join(this.#root, sessionId);
    const path = join(folder, uploadId);
    await this.#whenFree(path, signal);
    const takenBytes = this.#taken.get(path);
    // From its begin on it is another one of that name.
    if (takenBytes !== undefined && offset > 0) return new TakenUpload(path, takenBytes);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#open.set(path, promise);
    const letGo = (): void => {
      this.#open.delete(path);
      resolve();
    };
    try {
      await this.#disk.mkdir(folder, { recursive: true, mode: 0o700 });
      await this.#makeRoom(folder, uploadId);
      const file = await this.#disk.open(path, 'create', 0o600);
      const { size } = await file.stat();
      const sizeBytes = Math.min(size, Math.max(offset, this.#written.get(path) ?? 0));
      if (sizeBytes < size) await file.truncate(sizeBytes);
      return new OpenUpload(this.#disk, path, file, sizeBytes, (as, leftBytes) => {
        this.#forget(path);
        if (as === 'open') this.#written.set(path, leftBytes);
        if (as === 'taken') this.#take(path, leftBytes);
        letGo();
      });
    } catch (error) {
      letGo();
      throw error;
    }
  }

  async removeSession(sessionId: string): Promise<void> {
    const folder = join(this.#root, sessionId);
    for (const path of [...this.#written.keys(), ...this.#taken.keys(), ...this.#idle.keys()])
      if (path === folder || path.startsWith(`${folder}/`)) this.#forget(path);
    await this.#disk.rm(folder, { recursive: true, force: true });
  }

  async #whenFree(path: string, signal: AbortSignal): Promise<void> {
    const { promise: aborted, resolve } = Promise.withResolvers<void>();
    const onAbort = (): void => resolve();
    signal.addEventListener('abort', onAbort);
    while (this.#open.has(path) && !signal.aborted) await Promise.race([this.#open.get(path), aborted]);
    signal.removeEventListener('abort', onAbort);
    if (!this.#open.has(path)) return;
    throw new Refusal('session_file_offset', 'Another request is writing this upload. Wait for it, then go on.');
  }

  /** Whoever was interrupted begins anew under another id: what rests longest gives way. */
  async #makeRoom(folder: string, uploadId: string): Promise<void> {
    const others = (await this.#disk.readdir(folder)).filter((name) => name !== uploadId);
    if (others.length < maxUploads) return;
    const resting: { path: string; mtimeMs: number }[] = [];
    for (const path of others.map((name) => join(folder, name))) {
      if (!this.#open.has(path)) resting.push({ path, mtimeMs: (await this.#disk.stat(path)).mtimeMs });
    }
    const [oldest] = resting.toSorted((a, b) => a.mtimeMs - b.mtimeMs);
    if (oldest === undefined || this.#ports.clock.nowMs() - oldest.mtimeMs < restMs) {
      throw new Refusal('agent_busy', `The session has ${maxUploads} unfinished uploads. Try again in some minutes.`);
    }
    await this.#remove(oldest.path);
  }

  #take(path: string, bytes: number): void {
    this.#taken.set(path, bytes);
    const [oldest] = this.#taken.keys();
    if (this.#taken.size > maxTaken && oldest !== undefined) this.#taken.delete(oldest);
  }

  #forget(path: string): void {
    for (const known of [this.#written, this.#taken, this.#idle]) known.delete(path);
  }

  async #remove(path: string): Promise<void> {
    this.#forget(path);
    await this.#disk.rm(path, { force: true });
  }

  async #sweep(): Promise<void> {
    const passedMs = this.#passing.lap();
    await withEach(await this.#disk.readdir(this.#root), async (sessionId) => {
      const folder = join(this.#root, sessionId);
      const names = await this.#disk.readdir(folder);
      await withEach(names, async (name) => {
        const path = join(folder, name);
        if (await this.#hasRested(path, passedMs)) await this.#remove(path);
      });
      if (names.length === 0 && (await this.#hasRested(folder, passedMs))) await this.removeSession(sessionId);
    });
  }

  async #hasRested(path: string, passedMs: number): Promise<boolean> {
    const { mtimeMs } = await this.#disk.stat(path);
    const idle = this.#idle.get(path);
    const idleMs = idle?.mtimeMs === mtimeMs ? idle.ms + passedMs : 0;
    this.#idle.set(path, { mtimeMs, ms: idleMs });
    return idleMs > keepMs && ![...this.#open.keys()].some((open) => open.startsWith(path));
  }
}

/** One of which all is in its place: what is sent again is there already. */
class TakenUpload implements Upload {
  readonly path: string;
  readonly sizeBytes: number;
  readonly isTaken = true;

  constructor(path: string, sizeBytes: number) {
    this.path = path;
    this.sizeBytes = sizeBytes;
  }

  write = (): Promise<void> => Promise.resolve();
  sync = (): Promise<void> => Promise.resolve();
  close = (): Promise<void> => Promise.resolve();
}

class OpenUpload implements Upload {
  readonly isTaken = false;
  readonly path: string;
  readonly #disk: Disk;
  readonly #file: DiskFile;
  readonly #onClose: (as: 'open' | 'taken' | 'refused', leftBytes: number) => void;
  #sizeBytes: number;

  constructor(
    disk: Disk,
    path: string,
    file: DiskFile,
    sizeBytes: number,
    onClose: (as: 'open' | 'taken' | 'refused', leftBytes: number) => void,
  ) {
    this.#disk = disk;
    this.path = path;
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#onClose = onClose;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const skip = this.#sizeBytes - offset;
    if (skip < 0) {
      throw new Refusal('session_file_offset', `The upload has ${this.#sizeBytes} bytes; continue there.`);
    }
    if (offset + bytes.byteLength > maxBytes) {
      throw new Refusal('request_body_too_large', 'An upload may have at most 1 GiB.');
    }
    let left = bytes.subarray(Math.min(skip, bytes.byteLength));
    while (left.byteLength > 0) {
      const { bytesWritten } = await this.#file.write(left, 0, left.byteLength, this.#sizeBytes);
      this.#sizeBytes += bytesWritten;
      left = left.subarray(bytesWritten);
    }
  }

  async sync(): Promise<void> {
    await this.#file.datasync();
  }

  async close(as: 'open' | 'taken' | 'refused'): Promise<void> {
    await this.#file.close();
    if (as !== 'open') await this.#disk.rm(this.path, { force: true });
    this.#onClose(as, this.#sizeBytes);
  }
}

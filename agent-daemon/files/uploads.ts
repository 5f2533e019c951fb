/** Parts of uploads until the last one is there: `<root>/<session>/<uploadId>`, at most 1 GiB each, kept for a day. */
import { join } from 'node:path';
import { Refusal } from '../../schema/errors.ts';
import type { Clock } from '../../schema/ports.ts';
import type { Disk, DiskFile } from '../disk.ts';
import type { Loop, Loops } from '../loops.ts';
import { Passing, withEach } from '../retention.ts';

const maxBytes = 1024 ** 3;
const maxUploads = 8;
const keepMs = 24 * 3_600_000;
const sweepEveryMs = 3_600_000;

export interface Upload {
  readonly path: string;
  /** Bytes that are there. */
  readonly sizeBytes: number;
  /** Takes bytes at an offset of the upload; what is there already is skipped. @throws Refusal for a hole, or too much */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Resolves when all bytes are on the disk. */
  sync(): Promise<void>;
  /** Lets go; `remove` forgets the bytes as well. */
  close(options: { remove: boolean }): Promise<void>;
}

export class Uploads {
  readonly #root: string;
  readonly #disk: Disk;
  readonly #ports: { clock: Clock; disk: Disk; loops: Loops };
  readonly #open = new Set<string>();
  /** Bytes of uploads as this run of the agent has left them. */
  readonly #written = new Map<string, number>();
  /** Since when nothing came for a session, as far as this run of the agent has seen. */
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
   * Opens an upload to write a part at `offset`; `uploadId` is a checked name. One writer at a time. What an earlier run left
   * behind the offset was never answered, and may be torn by a loss of power: it is cut off. @throws Refusal
   */
  async open(sessionId: string, uploadId: string, offset: number): Promise<Upload> {
    const path = join(this.#root, sessionId, uploadId);
    if (this.#open.has(path)) {
      throw new Refusal('session_file_offset', 'Another request is writing this upload. Wait for it, then go on.');
    }
    this.#open.add(path);
    try {
      await this.#disk.mkdir(join(this.#root, sessionId), { recursive: true, mode: 0o700 });
      const others = (await this.#disk.readdir(join(this.#root, sessionId))).filter((name) => name !== uploadId);
      if (others.length >= maxUploads) {
        throw new Refusal('agent_busy', 'The session has too many unfinished uploads. Finish one first.');
      }
      const file = await this.#disk.open(path, 'create', 0o600);
      const { size } = await file.stat();
      const sizeBytes = Math.min(size, Math.max(offset, this.#written.get(path) ?? 0));
      if (sizeBytes < size) await file.truncate(sizeBytes);
      return new OpenUpload(this.#disk, path, file, sizeBytes, (left) => {
        this.#open.delete(path);
        if (left === undefined) this.#written.delete(path);
        else this.#written.set(path, left);
      });
    } catch (error) {
      this.#open.delete(path);
      throw error;
    }
  }

  async removeSession(sessionId: string): Promise<void> {
    this.#idle.delete(sessionId);
    const folder = join(this.#root, sessionId);
    for (const path of this.#written.keys()) if (path.startsWith(`${folder}/`)) this.#written.delete(path);
    await this.#disk.rm(folder, { recursive: true, force: true });
  }

  async #sweep(): Promise<void> {
    const passedMs = this.#passing.lap();
    await withEach(await this.#disk.readdir(this.#root), async (sessionId) => {
      const { mtimeMs } = await this.#disk.stat(join(this.#root, sessionId));
      const idle = this.#idle.get(sessionId);
      const idleMs = idle?.mtimeMs === mtimeMs ? idle.ms + passedMs : 0;
      this.#idle.set(sessionId, { mtimeMs, ms: idleMs });
      if (idleMs > keepMs) await this.removeSession(sessionId);
    });
  }
}

class OpenUpload implements Upload {
  readonly path: string;
  readonly #disk: Disk;
  readonly #file: DiskFile;
  readonly #onClose: (left: number | undefined) => void;
  #sizeBytes: number;

  constructor(
    disk: Disk,
    path: string,
    file: DiskFile,
    sizeBytes: number,
    onClose: (left: number | undefined) => void,
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

  async close({ remove }: { remove: boolean }): Promise<void> {
    await this.#file.close();
    if (remove) await this.#disk.rm(this.path, { force: true });
    this.#onClose(remove ? undefined : this.#sizeBytes);
  }
}

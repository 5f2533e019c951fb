/**
 * The file system as the agent's core uses it: a port, so that a simulator can crash it between any two calls, and the
 * few sequences that more than one room needs. It knows nothing of what the files mean.
 */
import { dirname } from 'node:path';

/** As of `open(2)`; `create`: read and write, made when it is not there, never cut. */
export type OpenFlags = 'r' | 'r+' | 'w' | 'w+' | 'wx+' | 'create';

/** One open file. Positions are always named. */
export interface DiskFile {
  read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number; buffer: Buffer }>;
  write(bytes: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesWritten: number }>;
  truncate(sizeBytes: number): Promise<void>;
  stat(): Promise<{ size: number }>;
  /** What was written is on the medium; `sync` of a directory: its entries are. */
  sync(): Promise<void>;
  datasync(): Promise<void>;
  close(): Promise<void>;
}

export interface FileStat {
  size: number;
  uid: number;
  gid: number;
  mtimeMs: number;
}

/** Rejects with an Error whose `code` is the system's (ENOENT, EEXIST, ENOSPC ...). Paths are absolute. */
export interface Disk {
  open(path: string, flags: OpenFlags, mode?: number): Promise<DiskFile>;
  readFile(path: string): Promise<Buffer>;
  /** Makes the file or replaces its content, not durably. */
  writeFile(path: string, text: string, options?: { mode?: number }): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Removes an empty directory; ENOTEMPTY of one that is not. */
  rmdir(path: string): Promise<void>;
  rm(path: string, options: { recursive?: boolean; force?: boolean }): Promise<void>;
  /** The first directory that was made; undefined when all were there. */
  mkdir(path: string, options: { recursive: true; mode?: number }): Promise<string | undefined>;
  readdir(path: string): Promise<string[]>;
  stat(path: string): Promise<FileStat>;
  chmod(path: string, mode: number): Promise<void>;
  chown(path: string, uid: number, gid: number): Promise<void>;
  statfs(path: string): Promise<{ bavail: number; blocks: number; bsize: number }>;
}

/** Writes all of `bytes` at `position`. */
export async function writeFully(file: DiskFile, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Does the first with a file that was just opened; closes it where that fails. */
export async function orClose<T>(file: Pick<DiskFile, 'close'>, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    await file.close().catch(() => undefined);
    throw error;
  }
}

/** Makes the entry of a new or renamed file durable. */
export async function syncDirectory(disk: Disk, path: string): Promise<void> {
  const directory = await disk.open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Replaces a file (0600) as a whole; resolves when the new content and its name are on the medium. */
export async function replaceDurably(disk: Disk, path: string, text: string): Promise<void> {
  const file = await disk.open(`${path}.new`, 'w', 0o600);
  try {
    await writeFully(file, Buffer.from(text), 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(`${path}.new`, path);
  await syncDirectory(disk, dirname(path));
}

/** Content of a file; undefined when there is none. */
export async function readIfThere(disk: Disk, path: string): Promise<Buffer | undefined> {
  return disk.readFile(path).catch((error: unknown) => {
    if (isMissing(error)) return undefined;
    throw error;
  });
}

/** True when the error says that there is no such file. */
export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}

/** True when the error says that there is no more room. */
export function isDiskFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG';
}

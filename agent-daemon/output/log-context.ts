/** What a log of output needs from outside, and who reads it live. */
import type { Clock, Log, Timers } from '../../schema/ports.ts';
import type { Disk } from '../disk.ts';
import type { Gap } from './record.ts';
import type { StreamName } from './segment.ts';

/** Bytes of all logs of an agent together. */
export interface Budget {
  readonly over: boolean;
  add(bytes: number): void;
}

/** A log with bytes that are not on the disk yet. */
export interface Syncable {
  readonly dir: string;
  sync(): Promise<void>;
}

/** What a log needs from outside. */
export interface StreamLogContext {
  disk: Disk;
  clock: Clock;
  timers: Timers;
  log: Log;
  budget: Budget;
  /** Runs around each write (failpoint `spool.append`). */
  aroundWrite(write: () => Promise<void>): Promise<void>;
  /** The log has changed files that only the page cache holds. */
  dirty(log: Syncable): void;
  /** Keeps what is missing for lack of disk space where no new space is needed; undefined: nothing is missing any more. */
  keepHole(stream: StreamName, hole: Gap | undefined): Promise<void>;
  /** Everything before `offset` is stored (or given up) and may be forgotten by the init. */
  onStored(stream: StreamName, offset: number): void;
  /** A log that had refused bytes has room again, and continues at `offset`. */
  onRoom(stream: StreamName, offset: number): void;
}

/** A live reader that a full log waits for. */
export interface Follower {
  readonly position: number;
  /** Whatever the policy: nothing behind its position goes, and that it has passed lets nothing go. */
  readonly holds?: boolean;
  /** The log is full: what is before its position could go. */
  wanted?(): void;
}

/** A stream's log on a disk of the test's choice, under a clock and timers that it moves. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import type { OutputPolicy } from '../../../schema/api/session-parts.ts';
import { systemClock, systemDisk } from '../../../agent-daemon/platform.ts';
import type { Gap } from '../../../agent-daemon/output/record.ts';
import type { StreamLogContext } from '../../../agent-daemon/output/log-context.ts';
import { StreamLog } from '../../../agent-daemon/output/stream-log.ts';
import { StreamReader } from '../../../agent-daemon/output/stream-reader.ts';
import type { Disk } from '../../../agent-daemon/disk.ts';
import { tmpDir } from '../../support/tmp.ts';
import { ManualTimers, keptLog } from '../ports.ts';

/** Removed behind all tests of the file. */
export const dir = tmpDir('spool');
const open: StreamLog[] = [];
afterAll(async () => {
  await Promise.all(open.map((log) => log.close()));
  dir.remove();
});

/** The byte that every stream of these tests has at an offset. */
const byteAt = (offset: number): number => (offset * 31 + (offset >>> 8) * 7 + (offset >>> 16)) & 255;

export function bytesFrom(offset: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let index = 0; index < count; index++) bytes[index] = byteAt(offset + index);
  return bytes;
}

export class Bench {
  readonly path: string;
  readonly timers = new ManualTimers();
  nowMs = 0;
  /** Whatever is waited for has passed at once. */
  hurries = false;
  readonly stored: number[] = [];
  readonly room: number[] = [];
  readonly budget = { over: false, used: 0, add: (bytes: number) => void (this.budget.used += bytes) };
  readonly log = keptLog();
  hole: Gap | undefined;
  /** The record of the process, where holes are kept, can not be written. */
  refusesHoles = false;
  stream!: StreamLog;
  readonly #policy: OutputPolicy;
  readonly #disk: Disk;

  constructor(policy: Partial<OutputPolicy>, path = mkdtempSync(join(dir.path, 's-')), disk: Disk = systemDisk) {
    this.path = path;
    this.#disk = disk;
    this.#policy = { onFull: 'drop', blockMs: 1000, spoolBytes: 1024 * 1024, ...policy };
  }

  async open(): Promise<StreamLog> {
    const context: StreamLogContext = {
      disk: this.#disk,
      clock: { ...systemClock, bootMs: () => this.nowMs },
      timers: {
        after: (delayMs, task) => (this.hurries ? this.#hurry(delayMs, task) : this.timers.after(delayMs, task)),
      },
      log: this.log,
      budget: this.budget,
      aroundWrite: (write) => write(),
      dirty: () => undefined,
      keepHole: async (_stream, hole) => {
        if (this.refusesHoles) throw failure('record');
        this.hole = hole;
      },
      onStored: (_stream, offset) => void this.stored.push(offset),
      onRoom: (_stream, offset) => void this.room.push(offset),
    };
    this.stream = await StreamLog.open(this.path, 'stdout', this.#policy, context, { hole: this.hole });
    open.push(this.stream);
    return this.stream;
  }

  #hurry(delayMs: number, task: () => void): () => void {
    const timer = setImmediate(() => {
      this.nowMs += delayMs;
      task();
    });
    return () => clearImmediate(timer);
  }

  /** Appends `count` bytes where the log stands. */
  async put(count: number): Promise<void> {
    await this.stream.append(this.stream.end, systemClock.nowMs(), bytesFrom(this.stream.end, count));
  }
}

/** Reads everything from `from` on, checks each byte, and returns what was announced as missing. */
export async function readAll(log: StreamLog, from = 0): Promise<{ gaps: Gap[]; bytes: number; end: number }> {
  const reader = new StreamReader(log, from, { live: false });
  const gaps: Gap[] = [];
  let bytes = 0;
  let at = from;
  for (let item = await reader.next(); item !== undefined; item = await reader.next()) {
    if (item.kind === 'gap') {
      expect(item.gap.from).toBe(at);
      expect(item.gap.to).toBeGreaterThan(at);
      gaps.push(item.gap);
      at = item.gap.to;
      continue;
    }
    expect(item.offset).toBe(at);
    expect(Buffer.compare(item.bytes, bytesFrom(at, item.bytes.byteLength))).toBe(0);
    at += item.bytes.byteLength;
    bytes += item.bytes.byteLength;
  }
  await reader.close();
  expect(at).toBe(Math.max(from, log.end));
  return { gaps, bytes, end: at };
}

function failure(path: string): Error {
  return Object.assign(new Error(`EIO: ${path}`), { code: 'EIO' });
}

/** What must survive a crash does: at any byte of the file, over restarts, and on a disk that refuses. */
import { mkdirSync, readFileSync, rmSync, rmdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Disk } from '../../../agent-daemon/disk.ts';
import { Journal } from '../../../agent-daemon/tunnel/journal.ts';
import { decodeRecords, RecordFile } from '../../../agent-daemon/tunnel/record-file.ts';
import { systemDisk, systemTimers } from '../../../agent-daemon/platform.ts';
import { newId } from '../../../schema/ids.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { keptLog } from '../ports.ts';
import { create, event, sessionId, stop } from './bench.ts';

let dir: TmpDir;
let path: string;
beforeEach(() => {
  dir = tmpDir('jrn');
  path = join(dir.path, 'journal.log');
});
afterEach(() => dir.remove());

type Damage = { cut: number } | { garbage: Uint8Array } | { flip: number; bit: number };

function applyDamage(whole: Buffer, harm: Damage): Buffer {
  if ('cut' in harm) return whole.subarray(0, Math.floor(harm.cut * whole.byteLength));
  if ('garbage' in harm) return Buffer.concat([whole, harm.garbage]);
  const bytes = Buffer.from(whole);
  const at = Math.min(bytes.byteLength - 1, Math.floor(harm.flip * bytes.byteLength));
  bytes[at]! ^= 1 << harm.bit;
  return bytes;
}

let journals = 0;
function open(log = keptLog(), disk: Disk = systemDisk): Promise<Journal> {
  const freshJournalId = () => newId('journal', ++journals, new Uint8Array(10));
  return Journal.open(path, { disk, log, timers: systemTimers(log), freshJournalId });
}

const told = (journal: Journal) => journal.eventsAfter(0, 100).map(({ index }) => index);

describe('the journal', () => {
  it('[M4] remembers over a restart which intents were taken and which were carried out', async () => {
    const journal = await open();
    const [one, two] = [create(1), stop(2)];
    await journal.recordIntents([one, two]);
    await journal.recordDone(one.intentId);
    await journal.close();
    const again = await open();
    expect(again.journalId).toBe(journal.journalId);
    expect(again.pendingIntents()).toEqual([two]);
    expect(again.isSeen(one) && again.isSeen(two)).toBe(true);
    expect(again.isSeen(stop(3))).toBe(false);
    expect(again.generationOf(sessionId)).toBe(1);
    await again.close();
  });

  it('[M7] numbers events from 1 without holes, and keeps what was not confirmed', async () => {
    const journal = await open();
    const indexes = await Promise.all(Array.from({ length: 20 }, () => journal.recordEvent(event())));
    expect(indexes).toEqual(Array.from({ length: 20 }, (_, n) => n + 1));
    journal.acknowledge(7);
    journal.acknowledge(5);
    journal.acknowledge(1000);
    await journal.close();
    const again = await open();
    expect(again.ackedIndex).toBe(7);
    expect(again.eventsAfter(7, 100).map(({ index }) => index)).toEqual(indexes.slice(7));
    expect(again.eventsAfter(10, 3).map(({ index }) => index)).toEqual([11, 12, 13]);
    expect(await again.recordEvent(event())).toBe(21);
    await again.close();
  });

  it('gives out another journal id when the file is lost, so that its numbers are no duplicates', async () => {
    const journal = await open();
    await journal.close();
    const { journalId } = journal;
    dir.remove();
    mkdirSync(dir.path);
    const fresh = await open();
    expect(fresh.journalId).not.toBe(journalId);
    await fresh.close();
  });

  it('[M7] as another one it tells of nothing that its file does not have yet', async () => {
    let during = (): void => undefined;
    const disk: Disk = {
      ...systemDisk,
      rename: async (from, to) => {
        during();
        await systemDisk.rename(from, to);
      },
    };
    const journal = await open(keptLog(), disk);
    for (let n = 1; n <= 5; n++) await journal.recordEvent(event());
    journal.acknowledge(2);
    expect(told(journal)).toEqual([3, 4, 5]);
    let late: Promise<number> | undefined;
    during = () => void (late = journal.recordEvent(event()));
    const renewed = journal.renew();
    expect(told(journal)).toEqual([]);
    await renewed;
    expect(told(journal)).toEqual([1, 2, 3]);
    expect(await late).toBe(4);
    expect(told(journal)).toEqual([1, 2, 3, 4]);
    await journal.close();
  });

  it('loses at most the record that was being written, wherever the crash cut the file', async () => {
    const journal = await open();
    await journal.recordIntents([create(1)]);
    await journal.recordEvent(event());
    await journal.recordEvent(event('creating'));
    await journal.close();
    const whole = readFileSync(path);
    const { records } = decodeRecords(whole);
    expect(records).toHaveLength(4);
    let last = 0;
    for (let length = 0; length <= whole.byteLength; length += 3) {
      const { records: kept, goodBytes } = decodeRecords(whole.subarray(0, length));
      expect(kept.length).toBeGreaterThanOrEqual(last);
      expect(goodBytes).toBeLessThanOrEqual(length);
      last = kept.length;
    }
    truncateSync(path, whole.byteLength - 5);
    const log = keptLog();
    const cut = await open(log);
    expect(log.lines[0]?.message).toBe('cut a torn tail of the journal');
    expect(cut.eventsAfter(0, 10)).toHaveLength(1);
    // The number that was torn is given again: nobody saw it.
    expect(await cut.recordEvent(event('creating'))).toBe(2);
    await cut.close();
    const after = await open();
    expect(after.eventsAfter(0, 10)).toHaveLength(2);
    await after.close();
  });

  it('[M7] opens after any damage with a prefix of what it had, and under another id when it lost something', async () => {
    const step = fc.constantFrom('intent', 'done', 'event', 'ack', 'restart');
    const damage = fc.oneof(
      fc.record({ cut: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({ garbage: fc.uint8Array({ minLength: 1, maxLength: 300 }) }),
      fc.record({ flip: fc.double({ min: 0, max: 1, noNaN: true }), bit: fc.nat(7) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), damage, async (steps, harm) => {
        rmSync(path, { force: true });
        let journal = await open();
        const taken: string[] = [];
        const kinds: number[] = [];
        for (const [n, what] of steps.entries()) {
          if (what === 'intent') {
            const intent = create(n + 1);
            taken.push(intent.intentId);
            await journal.recordIntents([intent]);
          } else if (what === 'done') {
            if (taken[0] !== undefined) await journal.recordDone(taken[0]);
          } else if (what === 'event') kinds.push(await journal.recordEvent(event()));
          else if (what === 'ack') journal.acknowledge(Math.ceil(kinds.length / 2));
          else {
            await journal.close();
            journal = await open();
          }
        }
        const { journalId } = journal;
        const acked = journal.ackedIndex;
        await journal.close();
        const whole = readFileSync(path);
        const harmed = applyDamage(whole, harm);
        const kept = decodeRecords(harmed).goodBytes;
        writeFileSync(path, harmed);
        const again = await open();
        if (kept < harmed.byteLength || kept === 0) expect(again.journalId).not.toBe(journalId);
        else expect(again.journalId).toBe(journalId);
        const left = again.eventsAfter(again.ackedIndex, 1000).map(({ index }) => index);
        expect(left).toEqual(left.map((_, at) => again.ackedIndex + at + 1));
        if (again.journalId === journalId) expect(left.at(-1) ?? acked).toBeLessThanOrEqual(kinds.length);
        for (const { intentId } of again.pendingIntents()) expect(taken).toContain(intentId);
        // What it records from now on it has.
        const next = await again.recordEvent(event());
        await again.close();
        const last = await open();
        expect(last.eventsAfter(next - 1, 10).map(({ index }) => index)).toEqual([next]);
        await last.close();
      }),
      { numRuns: 60 },
    );
  });

  it('reads any bytes at all without an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const { records, goodBytes } = decodeRecords(bytes);
        expect(goodBytes).toBeLessThanOrEqual(bytes.byteLength);
        expect(records.length === 0).toBe(goodBytes === 0);
      }),
    );
  });

  it('does not believe a flipped bit', async () => {
    const journal = await open();
    await journal.recordEvent(event());
    await journal.close();
    const bytes = readFileSync(path);
    bytes[bytes.byteLength - 3]! ^= 1;
    writeFileSync(path, bytes);
    const again = await open();
    expect(again.eventsAfter(0, 10)).toEqual([]);
    await again.close();
  });

  it('stays small: what is over is compacted away, what matters stays', async () => {
    const journal = await open();
    const pending = create(1);
    await journal.recordIntents([pending]);
    for (let n = 0; n < 60; n++) {
      const last = await Promise.all(Array.from({ length: 200 }, () => journal.recordEvent(event())));
      journal.acknowledge(Math.max(...last) - 1);
    }
    await journal.recordDone('int_none');
    await journal.close();
    expect(statSync(path).size).toBeLessThan(1024 * 1024);
    const again = await open();
    expect(again.pendingIntents()).toEqual([pending]);
    expect(again.ackedIndex).toBe(11_999);
    expect(again.eventsAfter(11_999, 10).map(({ index }) => index)).toEqual([12_000]);
    await again.close();
  });
});

describe('a file of records on a disk that refuses', () => {
  it('waits, writes everything anew from memory when it can, and loses nothing', async () => {
    const memory: number[] = [];
    const failures: string[] = [];
    let release: () => void = () => {};
    const owner = {
      live: () => memory,
      failing: (error: unknown) => void failures.push(String(error)),
      pause: () => new Promise<void>((resolve) => (release = resolve)),
    };
    const { file } = await RecordFile.open(path, systemDisk, owner);
    memory.push(1);
    await file.append(1);
    // A directory where the new file must go makes every rewrite fail, as a full disk would.
    mkdirSync(`${path}.new`);
    memory.push(2);
    const compacting = file.compact();
    memory.push(3);
    const appending = file.append(3);
    while (failures.length === 0) await new Promise((resolve) => void setImmediate(resolve));
    rmdirSync(`${path}.new`);
    release();
    await Promise.all([compacting, appending]);
    expect(decodeRecords(readFileSync(path)).records).toEqual([1, 2, 3]);
    memory.push(4);
    await file.append(4);
    await file.close();
    expect(decodeRecords(readFileSync(path)).records).toEqual([1, 2, 3, 4]);
    await expect(file.append(5)).rejects.toThrow('closed');
  });
});

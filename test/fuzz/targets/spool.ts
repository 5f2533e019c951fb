/**
 * Spool files: records as bytes, and whole directories of them as a death or a bad disk leaves them. Recovery never
 * throws, keeps whole records only, gives pieces that do not overlap, and finds the same when it is run again.
 */
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import {
  checkedPayload,
  encodeGap,
  type Gap,
  headerBytes,
  maxRecordBytes,
  parseHeader,
  toGap,
  writeHeader,
} from '../../../agent-daemon/output/record.ts';
import { recoverSegments, type Segment, segmentPath } from '../../../agent-daemon/output/segment.ts';
import { systemClock, systemDisk, systemTimers } from '../../../agent-daemon/platform.ts';
import type { Rng } from '../../support/random.ts';
import { keptLog } from '../../agent-daemon/ports.ts';
import { tmpDir } from '../../support/tmp.ts';
import { hold, type Target } from '../fuzzer.ts';

const gap: Gap = { from: 0, to: 5000, reason: 'ring-full' };

const seeds = (): Buffer[] => [
  Buffer.concat([record(0, 'first'), record(5, 'second'), record(11, 'x'.repeat(300))]),
  Buffer.concat([encodeGap(gap, 7), record(5000, 'after a gap'), record(5011, 'more')]),
  encodeGap({ from: 0, to: 2 ** 52, reason: 'damaged' }, 2 ** 45),
  Buffer.concat(Array.from({ length: 40 }, (_, at) => record(at, 'y'))),
];

export const spoolRecord: Target = {
  name: 'spool-record',
  maxBytes: 8 * 1024,
  seeds,
  mend: mendRecords,
  run(input, rng) {
    for (let at = 0; at < input.length;) {
      const header = parseHeader(input, at);
      if (header === undefined) return;
      hold(header.length > 0 && header.length <= maxRecordBytes, 'a length within the limit');
      const payload = checkedPayload(input, at, header);
      if (payload === undefined) return;
      hold(payload.length === header.length, 'the whole payload');
      if (header.isGap) hold(typeof toGap(header, payload).reason === 'string', 'a gap has a reason');
      else if (Number.isSafeInteger(header.offset) && Number.isSafeInteger(header.timeMs)) {
        const again = Buffer.alloc(headerBytes);
        writeHeader(again, 0, header.offset, header.timeMs, payload);
        hold(again.equals(input.subarray(at, at + headerBytes)), 'a header is written as it was read');
      }
      const cut = input.subarray(0, at + rng.integer(0, headerBytes + header.length - 1));
      const cutHeader = parseHeader(cut, at);
      hold(cutHeader === undefined || checkedPayload(cut, at, cutHeader) === undefined, 'a record that is cut is none');
      at += headerBytes + header.length;
    }
  },
};

const log = keptLog();
const system = { disk: systemDisk, clock: systemClock, timers: systemTimers(log), log };

/** Two files of one stream: the input cut in two, the second under the name that its first record tells. */
export function spoolRecovery(): Target {
  const folder = tmpDir('fuzz');
  return {
    name: 'spool',
    maxBytes: 8 * 1024,
    seeds,
    mend: mendRecords,
    share: 1 / 40,
    async run(input, rng) {
      for (const name of spoolFiles(folder.path)) rmSync(join(folder.path, name));
      const cut = cutPlace(input, rng);
      writeFileSync(segmentPath(folder.path, 'stdout', 0), input.subarray(0, cut));
      const second = parseHeader(input, cut)?.offset ?? 0;
      const first = parseHeader(input, 0);
      const isNamed = second <= Number.MAX_SAFE_INTEGER && second >= (first?.isGap ? gapEnd(input) : 0);
      if (second > 0 && isNamed) writeFileSync(segmentPath(folder.path, 'stdout', second), input.subarray(cut));
      const found = await recoverSegments(system, folder.path, 'stdout');
      checkSegments(found);
      const again = await recoverSegments(system, folder.path, 'stdout');
      hold(kept(again) === kept(found), `the same when run again: ${kept(again)} after ${kept(found)}`);
    },
    close: () => folder.remove(),
  };
}

/** Mostly between two records, so that both parts can be whole. */
function cutPlace(input: Buffer, rng: Rng): number {
  if (rng.next() < 0.1) return rng.integer(0, input.length);
  const places = [input.length];
  for (let at = 0; ;) {
    const header = parseHeader(input, at);
    if (header === undefined) break;
    at += headerBytes + header.length;
    places.push(Math.min(at, input.length));
  }
  return places[rng.integer(0, places.length - 1)]!;
}

function gapEnd(input: Buffer): number {
  return input.length < headerBytes + 8 ? 0 : Number(input.readBigUInt64LE(headerBytes));
}

function spoolFiles(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.startsWith('std'));
}

/** All but the time, of which nothing is checked where nothing is whole. */
function kept(found: readonly Segment[]): string {
  return JSON.stringify(found.map(({ path, gap, start, end, sizeBytes }) => ({ path, gap, start, end, sizeBytes })));
}

function checkSegments(found: readonly Segment[]): void {
  let end = 0;
  for (const { path, start, end: to, gap, sizeBytes } of found) {
    hold(Number.isSafeInteger(start) && Number.isSafeInteger(to), 'offsets are whole numbers');
    hold(start >= end && to >= start, `pieces do not overlap: [${start}, ${to}) after ${end}`);
    if (gap !== undefined) hold(gap.from <= gap.to && gap.to === start, 'a gap ends where its file starts');
    hold(sizeBytes <= statSync(path).size, 'no more than the file has');
    end = to;
  }
}

function record(offset: number, text: string): Buffer {
  const payload = Buffer.from(text);
  const bytes = Buffer.alloc(headerBytes + payload.length);
  writeHeader(bytes, 0, offset, 1_700_000_000_000, payload);
  payload.copy(bytes, headerBytes);
  return bytes;
}

/** Makes damage that the checksum would hide look whole, and records follow each other. */
function mendRecords(rng: Rng, input: Buffer): Buffer {
  if (rng.next() < 0.3) return input;
  let end = 0;
  for (let at = 0; at + headerBytes < input.length;) {
    const isGap = (input[at + 19]! & 0x80) !== 0;
    const room = input.length - at - headerBytes;
    const length = isGap && room >= 9 ? 9 : 1 + (input.readUInt32LE(at + 16) % Math.min(room, 2000));
    if (rng.next() < 0.9) input.writeUInt32LE(((isGap ? 0x80_00_00_00 : 0) + length) >>> 0, at + 16);
    if (rng.next() < 0.9) input.writeUIntLE(end, at, 6);
    const size = Math.min(room, length);
    const checked = crc32(
      input.subarray(at + headerBytes, at + headerBytes + size),
      crc32(input.subarray(at, at + 20)),
    );
    if (rng.next() < 0.97) input.writeUInt32LE(checked, at + 20);
    end += length;
    at += headerBytes + size;
  }
  return input;
}

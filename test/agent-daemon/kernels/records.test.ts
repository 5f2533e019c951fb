/** The agent's reader of a Jupyter kernel's log, and what it keeps of input: pieces of any size, gaps, damage, deaths. */
import { truncateSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InputJournal } from '../../../agent-daemon/kernels/input-journal.ts';
import { RecordsIn } from '../../../agent-daemon/kernels/records-in.ts';
import { isForKernel, RecordFinder, RecordReader, typeOf } from '../../../agent-daemon/kernels/records.ts';
import { systemDisk } from '../../../agent-daemon/platform.ts';
import { request, toJupyterRecord } from '../../support/jupyter-messages.ts';
import { tmpDir } from '../../support/tmp.ts';

const json = (value: object) => Buffer.from(JSON.stringify(value));
const message = (channel: string, type: string, bytes: number) =>
  toJupyterRecord(channel, [json({ msg_type: type }), json({}), json({}), json({ text: 'x'.repeat(bytes) })]);
const log = [
  message('causeway', 'note', 5),
  message('iopub', 'status', 10),
  message('iopub', 'stream', 200_000),
  message('shell', 'execute_reply', 100),
  message('iopub', 'stream', 70_000),
  message('stdin', 'input_request', 0),
];
const whole = Buffer.concat(log);
const begins = log.map((_, i) => Buffer.concat(log.slice(0, i)).byteLength);

function readAll(
  reader: RecordReader,
  bytes: Buffer,
  size: number,
): { offset: number; type: string; content: boolean }[] {
  const found = [];
  for (let at = 0; at < bytes.byteLength; at += size)
    for (const record of reader.push(bytes.subarray(at, at + size)))
      found.push({ offset: record.offset, type: typeOf(record.header), content: record.content !== undefined });
  return found;
}

describe('the log of a kernel', () => {
  it('[J1] is read in pieces of any size, with the content of small records', () => {
    for (const size of [1, 7, 100, 4096, 65_536, 1_000_000]) {
      const found = readAll(new RecordReader(0), whole, size);
      expect(
        found.map(({ offset }) => offset),
        `pieces of ${size}`,
      ).toEqual(begins);
      expect(found.map(({ type }) => type)).toEqual([
        'note',
        'status',
        'stream',
        'execute_reply',
        'stream',
        'input_request',
      ]);
      expect(found.filter(({ content }) => content).length).toBeGreaterThanOrEqual(4);
    }
  });

  it('[J3] goes on behind a gap with the next record, wherever the gap ends', () => {
    for (let from = 1; from < whole.byteLength; from += from < 500 ? 7 : 29_989) {
      for (const size of [300, 65_536]) {
        const reader = new RecordReader(0);
        reader.push(whole.subarray(0, Math.min(from - 1, 500)));
        reader.skip(from);
        const found = readAll(reader, whole.subarray(from), size).map(({ offset }) => offset);
        expect(found, `from ${from} in pieces of ${size}`).toEqual(begins.filter((begin) => begin >= from));
      }
    }
  });

  it('takes nothing for a record that is none, however long it is', () => {
    const noise = Buffer.alloc(300_000);
    for (let i = 0; i < noise.byteLength; i++) noise[i] = (i * 2_654_435_761) >>> 13;
    for (const damage of [
      noise,
      Buffer.alloc(100_000),
      Buffer.alloc(100_000, 0xff),
      Buffer.from([0, 0, 0, 0]),
      whole.subarray(5, 90),
    ]) {
      const reader = new RecordReader(0);
      const found = readAll(reader, Buffer.concat([log[0]!, damage, whole]), 10_000);
      const at = log[0]!.byteLength + damage.byteLength;
      expect(found.map(({ offset }) => offset)).toEqual(
        expect.arrayContaining([0, ...begins.slice(2).map((each) => each + at)]),
      );
    }
    expect(new RecordFinder(0).push(noise)).toBeUndefined();
  });

  it('says whether a record is for a kernel', () => {
    expect(['shell', 'control', 'stdin'].every((channel) => isForKernel(message(channel, 'x', 3)))).toBe(true);
    expect(['iopub', 'causeway', 'hb', ''].some((channel) => isForKernel(message(channel, 'x', 3)))).toBe(false);
    expect(isForKernel(message('shell', 'x', 3).subarray(0, -1))).toBe(false);
    expect(isForKernel(Buffer.concat([message('shell', 'x', 3), Buffer.from('x')]))).toBe(false);
  });
});

describe('input for a kernel', () => {
  /** What standard input was given, at its offsets. */
  class Stdin {
    bytes = Buffer.alloc(0);
    give = (journal: InputJournal) =>
      journal.give((offset, bytes) => {
        const skip = this.bytes.byteLength - offset;
        if (skip < 0) throw new Error('a hole');
        this.bytes = Buffer.concat([this.bytes, bytes.subarray(skip)]);
        return Promise.resolve();
      });
  }
  const memory = (bytes: Buffer) => ({ sizeBytes: bytes.byteLength, bytes });

  it('[J11] is given once and in order, over deaths at any byte', async () => {
    using dir = tmpDir('input');
    const path = `${dir.path}/input`;
    const disk = systemDisk;
    const stdin = new Stdin();
    const said: Buffer[] = [];
    let taken = 0;
    let lostBytes = 0;
    for (let round = 0; round < 30; round++) {
      const journal = new InputJournal(path, disk);
      await journal.open(1);
      expect(journal.endOf('w')).toBe(taken);
      await stdin.give(journal);
      expect(stdin.bytes.equals(Buffer.concat(said))).toBe(true);
      for (let i = 0; i < 5; i++) {
        const { record } = request('x', { round, i });
        await journal.append('w', memory(record));
        said.push(record);
        taken += record.byteLength;
        if (i % 2 === round % 2) await stdin.give(journal);
      }
      await journal.close();
      if (round % 3 !== 2) continue;
      // The agent died in the middle of the last write: of that record nothing was taken.
      const last = said.at(-1)!;
      if (stdin.bytes.byteLength > Buffer.concat(said).byteLength - last.byteLength) continue;
      const { size } = await disk.stat(path);
      truncateSync(path, size - 1 - (round % last.byteLength));
      said.pop();
      taken -= last.byteLength;
      lostBytes += last.byteLength;
    }
    expect(lostBytes).toBeGreaterThan(0);
  });

  it('[J11] [S17] keeps the place of each writer over restarts, gives nothing of before, and forgets the oldest', async () => {
    using dir = tmpDir('input');
    const disk = systemDisk;
    const journal = new InputJournal(`${dir.path}/input`, disk);
    await journal.open(1);
    await journal.append('a', memory(Buffer.from('one')));
    await journal.restart(2);
    await journal.append('b', memory(Buffer.from('two')));
    await journal.close();
    const next = new InputJournal(`${dir.path}/input`, disk);
    await next.open(2);
    expect([next.endOf('a'), next.endOf('b'), next.endOf('c')]).toEqual([3, 3, 0]);
    const stdin = new Stdin();
    await stdin.give(next);
    expect(stdin.bytes.toString()).toBe('two');
    // The agent died between the note of a restart and its own.
    await next.close();
    const later = new InputJournal(`${dir.path}/input`, disk);
    await later.open(3);
    const fresh = new Stdin();
    await later.append('a', memory(Buffer.from('three')));
    await fresh.give(later);
    expect(fresh.bytes.toString()).toBe('three');
    expect(later.endOf('a')).toBe(8);
    for (let i = 0; i < 64; i++) await later.append(`w${i}`, memory(Buffer.from('x')));
    expect([later.endOf('b'), later.endOf('w63')]).toEqual([0, 1]);
    await later.remove();
    await expect(disk.stat(`${dir.path}/input`)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is put together in a file when it is large, and the journal is written anew when all was given', async () => {
    using dir = tmpDir('input');
    const disk = systemDisk;
    const journal = new InputJournal(`${dir.path}/input`, disk);
    await journal.open(1);
    const stdin = new Stdin();
    const { record } = request('x', {}, { buffers: [Buffer.alloc(3_000_000, 5)] });
    const records = new RecordsIn(`${dir.path}/staged`, disk);
    for (let round = 0; round < 2; round++)
      for (let at = 0; at < record.byteLength; at += 50_001)
        for await (const each of records.push(record.subarray(at, at + 50_001))) {
          expect('file' in each).toBe(true);
          await journal.append('w', each);
        }
    await records.close();
    await stdin.give(journal);
    expect(stdin.bytes.equals(Buffer.concat([record, record]))).toBe(true);
    expect((await disk.stat(`${dir.path}/input`)).size).toBeLessThan(1000);
    expect((await disk.readdir(dir.path)).toSorted()).toEqual(['.owner', 'input']);
    await journal.append('w', memory(Buffer.from('more')));
    await stdin.give(journal);
    expect(stdin.bytes.subarray(-4).toString()).toBe('more');
    await journal.close();
  });
});

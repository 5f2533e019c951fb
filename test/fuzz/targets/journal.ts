/** The agent's journal as bytes: whatever a crash or a disk left, it is read without a throw, and only its whole beginning. */
import { crc32 } from 'node:zlib';

import { decodeRecords } from '../../../agent-daemon/tunnel/record-file.ts';
import type { Rng } from '../../support/random.ts';
import { hold, type Target } from '../fuzzer.ts';

const headerBytes = 8;

export const journal: Target = {
  name: 'journal',
  maxBytes: 8 * 1024,
  seeds: () => [
    records(
      { kind: 'journal', journalId: 'jrn_00000000000000000000000000', lastIndex: 3, acked: 1 },
      { kind: 'acked', index: 2 },
    ),
    records(...Array.from({ length: 20 }, (_, index) => ({ kind: 'done', intentId: `int_${index}` }))),
    records('', 0, null, [], {}),
    Buffer.alloc(0),
  ],
  mend: mendChecksums,
  run(input, rng) {
    const whole = decodeRecords(input);
    hold(whole.goodBytes >= 0 && whole.goodBytes <= input.length, 'the good part lies within the file');
    const again = decodeRecords(input.subarray(0, whole.goodBytes));
    hold(
      same(again.records, whole.records) && again.goodBytes === whole.goodBytes,
      'the good part is read the same alone',
    );
    const cut = decodeRecords(input.subarray(0, rng.integer(0, input.length)));
    hold(
      same(cut.records, whole.records.slice(0, cut.records.length)),
      'a torn file holds a beginning of the whole one',
    );
    hold(whole.records.length <= input.length / headerBytes, 'a record has bytes');
    const rewritten = decodeRecords(records(...whole.records));
    hold(same(rewritten.records, whole.records), 'rewritten, it says the same');
    const grown = decodeRecords(Buffer.concat([input.subarray(0, whole.goodBytes), records({ more: 1 })]));
    hold(grown.records.length === whole.records.length + 1, 'what is appended to the good part is read');
  },
};

/** The layout of the file, written a second time: {length u32, crc32 u32, JSON}. */
function records(...values: unknown[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const body = Buffer.from(JSON.stringify(value));
      const header = Buffer.alloc(headerBytes);
      header.writeUInt32BE(body.length, 0);
      header.writeUInt32BE(crc32(body), 4);
      return Buffer.concat([header, body]);
    }),
  );
}

/** Makes damage that the checksum would hide look whole. */
function mendChecksums(rng: Rng, input: Buffer): Buffer {
  if (rng.next() < 0.3) return input;
  for (let at = 0; at + headerBytes <= input.length;) {
    const room = input.length - at - headerBytes;
    const length = Math.min(room, input.readUInt32BE(at));
    if (rng.next() < 0.9) input.writeUInt32BE(length, at);
    if (rng.next() < 0.95)
      input.writeUInt32BE(crc32(input.subarray(at + headerBytes, at + headerBytes + length)), at + 4);
    at += headerBytes + length;
  }
  return input;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

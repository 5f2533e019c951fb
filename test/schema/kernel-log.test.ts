import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type KernelItem, KernelLogReader } from '../../schema/protocol/kernel-log.ts';

const kernelId = `krn_${'0'.repeat(26)}`;
const encoder = new TextEncoder();

const partOf = (payload: string, flag: '+' | '.') =>
  `\x1e${kernelId} ${flag}${encoder.encode(payload).byteLength}:${payload}`;
const finished = (id: string) => JSON.stringify({ kind: 'finished', id, exitCode: 0 });

/** What a kernel may say: output with all that looks like a record and is none, whole records, and records in parts. */
const said = fc.array(
  fc.oneof(
    fc.string(),
    fc.constantFrom('\x1e', `\x1e${kernelId}`, `\x1e${kernelId} `, `\x1e${kernelId} .`, `\x1e${kernelId} .99999:`),
    fc.constantFrom(`\x1ekrn_${'1'.repeat(26)} .2:{}`, partOf('{}', '.'), partOf('{"kind":', '.')),
    fc.stringMatching(/^[a-z0-9]{1,8}$/).map((id) => partOf(finished(id), '.')),
    fc
      .tuple(fc.stringMatching(/^[a-z0-9]{1,8}$/), fc.integer({ min: 1, max: 20 }), fc.constantFrom('', 'beside'))
      .map(([id, at, between]) => {
        const whole = finished(id);
        return partOf(whole.slice(0, at), '+') + between + partOf(whole.slice(at), '.');
      }),
  ),
  { maxLength: 12 },
);

/** All that is read from `offset` on when the bytes come in pieces of these sizes; pieces of the same kind are joined. */
function readAll(log: Uint8Array, offset: number, sizes: readonly number[]): KernelItem[] {
  const reader = new KernelLogReader(kernelId, offset);
  const items: KernelItem[] = [];
  for (let at = offset, turn = 0; at < log.byteLength; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    // A piece is only lent.
    const piece = Buffer.from(log.slice(at, at + size));
    items.push(
      ...reader
        .push(at, piece)
        .map((item) => (item.kind === 'bytes' ? { ...item, bytes: new Uint8Array(item.bytes) } : item)),
    );
    piece.fill(0);
    at += piece.byteLength;
  }
  return [...items, ...reader.flush()];
}

function show(items: readonly KernelItem[]): string[] {
  const shown: string[] = [];
  let text: number[] = [];
  for (const item of items) {
    if (item.kind === 'bytes') text.push(...item.bytes);
    else shown.push(new TextDecoder().decode(new Uint8Array(text.splice(0))), JSON.stringify(item.record));
  }
  return [...shown, new TextDecoder().decode(new Uint8Array(text))];
}

it('[R5] reads the same however the bytes come', () => {
  fc.assert(
    fc.property(said, fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (pieces, sizes) => {
      const log = encoder.encode(pieces.join(''));
      expect(show(readAll(log, 0, sizes))).toEqual(show(readAll(log, 0, [log.byteLength + 1])));
    }),
    { numRuns: 300 },
  );
});

it('[R4] gives each byte and each record once to whoever goes on at a position', () => {
  fc.assert(
    fc.property(said, fc.nat(), fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (pieces, cut, sizes) => {
      const log = encoder.encode(pieces.join(''));
      const until = log.byteLength === 0 ? 0 : cut % log.byteLength;
      const first = new KernelLogReader(kernelId, 0);
      const before = first.push(0, log.slice(0, until));
      const after = readAll(log, first.position, sizes);
      expect(show([...before, ...after])).toEqual(show(readAll(log, 0, [log.byteLength + 1])));
    }),
    { numRuns: 300 },
  );
});

it('[R5] begins anew behind a hole, and takes a half record for output', () => {
  const reader = new KernelLogReader(kernelId, 0);
  const begun = encoder.encode(`out${partOf(finished('a'), '.').slice(0, 50)}`);
  expect(show(reader.push(0, begun))).toEqual(['out']);
  const items = reader.push(1000, encoder.encode(`t of it\n${partOf(finished('b'), '.')}`));
  expect(show(items)).toEqual([expect.stringContaining(kernelId), finished('b'), '']);
  expect(reader.position).toBe(1000 + 8 + partOf(finished('b'), '.').length);
});

it('[R4] gives up a record that never ends, in bounded memory', () => {
  const reader = new KernelLogReader(kernelId, 0);
  const part = encoder.encode(partOf('x'.repeat(4000), '+'));
  let came = 0;
  let offset = 0;
  for (; came === 0 && offset < 64 * 1024 * 1024; offset += part.byteLength) came = reader.push(offset, part).length;
  expect(came).toBeGreaterThan(0);
  expect(offset).toBeLessThan(40 * 1024 * 1024);
});

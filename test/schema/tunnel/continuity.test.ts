/** Output byte for byte: whatever overtakes, is lost or is announced as a gap on its way. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { continuous, type OutputOffsets } from '../../../schema/protocol/continuity.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import { jsonBytes } from '../../../schema/protocol/json.ts';

const { stdout, stderr, control } = channels;
const piece = (offset: number, sizeBytes: number, channel: StreamItem['channel'] = stdout): StreamItem => ({
  channel,
  offset,
  bytes: new Uint8Array(sizeBytes),
  end: false,
});
const endAt = (offset: number, channel: StreamItem['channel'] = stdout): StreamItem => ({
  ...piece(offset, 0, channel),
  end: true,
});
const say = (event: object): StreamItem => ({ ...piece(0, 0, control), bytes: jsonBytes(event) });
const gap = (to: number, stream = 'stdout', from = 0) => say({ kind: 'gap', stream, from, to, reason: 'spool-full' });

/** How many items came through. @throws what it throws */
async function through(
  items: StreamItem[],
  from: OutputOffsets = { stdout: 0, stderr: 0 },
  how: { beginsAnywhere?: boolean } = {},
): Promise<number> {
  let count = 0;
  for await (const _ of continuous(
    (async function* () {
      yield* items;
    })(),
    from,
    how,
  ))
    count++;
  return count;
}

const broken = { code: 'tunnel_frame_invalid' };

describe('continuous', () => {
  it('[S2] [S7] passes on what is whole', async () => {
    expect(await through([piece(0, 5), piece(0, 3, stderr), piece(5, 1), endAt(6), endAt(3, stderr)])).toBe(5);
    expect(await through([piece(7, 5), endAt(12)], { stdout: 7 })).toBe(2);
    expect(await through([piece(0, 5), gap(100), piece(100, 5), gap(200), endAt(200)])).toBe(5);
    // Only stdout was asked for: nothing of the other comes, wherever the client was there.
    expect(await through([piece(7, 5), endAt(12), endAt(0, stderr)], { stdout: 7, stderr: 90 })).toBe(3);
  });

  it('[S2] [S7] takes the first byte for the begin where it may be any, and from there on none but the next', async () => {
    const anywhere = { beginsAnywhere: true };
    const exit = (ends: OutputOffsets) => say({ kind: 'exit', exitCode: 0, reason: 'exited', ends });
    expect(await through([piece(7, 5), piece(90, 1, stderr), exit({ stdout: 12, stderr: 91 })], {}, anywhere)).toBe(3);
    expect(await through([exit({ stdout: 12, stderr: 90 }), endAt(12)], {}, anywhere)).toBe(2);
    expect(await through([gap(20, 'stdout', 7), piece(20, 5)], {}, anywhere)).toBe(2);
    await expect(through([piece(7, 5), piece(13, 5)], {}, anywhere)).rejects.toMatchObject(broken);
    await expect(through([piece(7, 5), exit({ stdout: 13 })], {}, anywhere)).rejects.toMatchObject(broken);
    await expect(through([piece(7, 5)], { stdout: 6 }, anywhere)).rejects.toMatchObject(broken);
    await expect(through([gap(20, 'stdout', 7), piece(21, 5)], {}, anywhere)).rejects.toMatchObject(broken);
  });

  it('[S2] [S7] breaks off where some is missing, at the end too', async () => {
    await expect(through([piece(0, 5), piece(6, 5)])).rejects.toMatchObject(broken);
    await expect(through([piece(1, 5)])).rejects.toMatchObject(broken);
    await expect(through([piece(0, 5), endAt(6)])).rejects.toMatchObject(broken);
    await expect(through([endAt(1)])).rejects.toMatchObject(broken);
    await expect(through([gap(100, 'stderr'), piece(100, 5)])).rejects.toMatchObject(broken);
    await expect(through([piece(0, 5), gap(100), piece(99, 5)])).rejects.toMatchObject(broken);
  });

  it('[S10] [S15] lets nothing overtake the output that it lies behind', async () => {
    const begun = say({ kind: 'begun', kernelId: 'k', from: { stdout: 10, stderr: 0 } });
    const finished = say({ kind: 'finished', outcome: {}, ends: { stdout: 15, stderr: 0 } });
    const waiting = say({ kind: 'waiting', at: 15, prompt: '', password: false });
    expect(await through([begun, piece(10, 5), waiting, finished, endAt(15)], {})).toBe(5);
    expect(await through([begun, gap(15), finished], {})).toBe(3);
    for (const early of [finished, waiting])
      await expect(through([begun, piece(10, 4), early, piece(14, 1)], {})).rejects.toMatchObject(broken);
    await expect(through([piece(10, 5), begun], {})).rejects.toMatchObject(broken);
    expect(await through([piece(0, 5), say({ kind: 'exit', reason: 'exited', ends: { stdout: 5 } })])).toBe(2);
    await expect(
      through([piece(0, 5), say({ kind: 'exit', reason: 'exited', ends: { stdout: 6 } })]),
    ).rejects.toMatchObject(broken);
    await expect(through([piece(0, 5), gap(100, 'stdout', 6)])).rejects.toMatchObject(broken);
    const start = say({ kind: 'begun', starts: 1, from: 3 });
    expect(await through([start, piece(3, 5), say({ kind: 'ended', end: 8 }), say({ kind: 'anything' })], {})).toBe(4);
    await expect(through([start, piece(3, 4), say({ kind: 'ended', end: 8 })], {})).rejects.toMatchObject(broken);
  });

  it('[S2] [S7] never lets two frames change places', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }),
        fc.nat(),
        async (sizes, at) => {
          const items = sizes.map((size, index) =>
            piece(
              sizes.slice(0, index).reduce((a, b) => a + b, 0),
              size,
            ),
          );
          items.push(endAt(sizes.reduce((a, b) => a + b, 0)));
          expect(await through(items)).toBe(items.length);
          const first = at % (items.length - 1);
          [items[first], items[first + 1]] = [items[first + 1]!, items[first]!];
          await expect(through(items)).rejects.toMatchObject(broken);
        },
      ),
    );
  });
});

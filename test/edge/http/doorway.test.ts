/** A herd passes a few at a time: exactly, in virtual time. */
import { expect, it } from 'vitest';
import { Doorway } from '../../../edge/http/doorway.ts';
import { Refusal } from '../../../schema/errors.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

/** A doorway, its clock, and what became of each that wanted through. */
function world() {
  const time = new VirtualTime(0);
  const limits = { atOnce: 4, waitMs: 1000, mostWaiting: 60, spreadMs: 9000, detail: 'Too many.' };
  const ports = { clock: time, timers: time, random: { fraction: () => 0.5 } };
  const doorway = new Doorway(limits, ports);
  const seen = { inside: 0, most: 0, through: 0, refused: [] as string[] };
  const come = (passageMs: number, failing = false): void => {
    const work = async () => {
      seen.most = Math.max(seen.most, ++seen.inside);
      await new Promise<void>((resolve) => void time.after(passageMs, resolve));
      seen.inside--;
      if (failing) throw new Error('the work failed');
    };
    doorway.pass(work).then(
      () => seen.through++,
      (error: unknown) =>
        seen.refused.push(error instanceof Refusal ? `${error.code} ${error.retryAfterSeconds}` : String(error)),
    );
  };
  const pass = (ms: number): Promise<void> => time.pass(ms);
  return { come, pass, seen };
}

it('a herd passes so many at a time, at the pace of what it does, and nobody is left', async () => {
  const { come, pass, seen } = world();
  for (let count = 0; count < 60; count++) come(10);
  await pass(300);
  expect(seen).toMatchObject({ inside: 0, most: 4, through: 60, refused: [] });
});

it('who would wait too long, or with too many, is told to come again; a failure leaves room', async () => {
  const { come, pass, seen } = world();
  for (let count = 0; count < 4; count++) come(2000, true);
  for (let count = 0; count < 61; count++) come(10);
  await pass(1);
  expect(seen.refused).toEqual(['edge_overloaded 2']);
  await pass(1500);
  expect(new Set(seen.refused)).toEqual(new Set(['edge_overloaded 2', 'edge_overloaded 1']));
  expect(seen.refused).toHaveLength(61);
  await pass(1000);
  expect(seen.refused.filter((each) => each === 'Error: the work failed')).toHaveLength(4);
  come(10);
  await pass(20);
  expect(seen).toMatchObject({ inside: 0, most: 4, through: 1 });
});

it('who is refused comes back later where a passage takes long, and not too late', async () => {
  const { come, pass, seen } = world();
  for (let count = 0; count < 12; count++) {
    come(1000);
    await pass(1001);
  }
  for (let count = 0; count < 4; count++) come(2000);
  for (let count = 0; count < 61; count++) come(10);
  await pass(1);
  expect(seen.refused).toEqual(['edge_overloaded 6']);
});

it('a passage that is never heard of again keeps its place for a while only', async () => {
  const { come, pass, seen } = world();
  for (let count = 0; count < 4; count++) come(1_000_000);
  await pass(5001);
  come(10);
  await pass(100);
  expect(seen.through).toBe(1);
});

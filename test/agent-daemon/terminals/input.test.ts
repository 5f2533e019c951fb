/** Several writers, cuts and deaths of the agent: the terminal takes each byte of each once, in the order of each. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TerminalInput } from '../../../agent-daemon/terminals/input.ts';
import type { Turn } from '../../../agent-daemon/terminals/saved.ts';

/** A terminal, what is kept on the disk, and writers that know each of their bytes. */
class World {
  /** What the process has, as the init knows it. */
  readonly taken: string[] = [];
  #kept: Turn[] = [];
  input = this.#make();
  /**
   * Of the bytes that are on their way to the init the half arrives when the agent dies; one that ends in order hears that
   * their connection is gone.
   */
  dies: false | 'dead' | 'ending' = false;
  isFull = false;

  #make(): TerminalInput {
    return new TerminalInput(
      {
        write: async (offset, bytes) => {
          expect(offset).toBe(this.taken.length);
          const arriving = this.dies ? bytes.subarray(0, bytes.byteLength >> 1) : bytes;
          this.taken.push(...Array.from(arriving, (byte) => String.fromCharCode(byte)));
          if (this.dies === 'ending') throw new Error('the connection is closed');
          // Nobody hears of an answer that a dead agent waits for.
          if (this.dies === 'dead') await new Promise(() => undefined);
        },
        save: (turns) => {
          if (this.isFull) return Promise.reject(new Error('no space left on device'));
          for (const turn of turns)
            this.#kept = [...this.#kept.filter((each) => each.writer !== turn.writer), { ...turn }];
          return Promise.resolve();
        },
        turned: () => Promise.resolve(),
      },
      { turns: this.#kept.map((turn) => ({ ...turn })), at: this.taken.length },
    );
  }

  restart(): void {
    this.dies = false;
    this.input = this.#make();
  }
}

const writers = ['a', 'b', 'c'];
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ writer: fc.constantFrom(...writers), bytes: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 1, arbitrary: fc.constantFrom('dead' as const, 'ending' as const) },
  { weight: 1, arbitrary: fc.constant('restart' as const) },
  { weight: 1, arbitrary: fc.record({ again: fc.constantFrom(...writers), back: fc.nat({ max: 4 }) }) },
);

it('[S19] takes each byte of each writer once and in order, over deaths of the agent', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const world = new World();
      const sent = new Map(writers.map((writer) => [writer, 0]));
      const type = async (writer: string, from: number, to: number) => {
        const start = await world.input.begin(writer, from);
        const bytes = Array.from({ length: to - from }, (_, n) =>
          String.fromCharCode(writer.charCodeAt(0) + ((from + n) % 20) * 3),
        );
        expect(start).toBeLessThanOrEqual(to);
        const typed = world.input.write(writer, from, Buffer.from(bytes.join(''), 'latin1'));
        typed.catch(() => undefined);
        if (!world.dies) await typed;
        else for (let n = 0; n < 10; n++) await Promise.resolve();
      };
      for (const each of steps) {
        if (each === 'dead' || each === 'ending') world.dies ||= each;
        else if (each === 'restart') {
          world.restart();
          // Each comes back, and goes on from where the terminal is.
          for (const writer of writers)
            sent.set(writer, Math.min(sent.get(writer)!, await world.input.begin(writer, sent.get(writer)!)));
        } else if ('again' in each) {
          const to = sent.get(each.again)!;
          await type(each.again, Math.max(0, to - each.back), to);
        } else {
          const from = sent.get(each.writer)!;
          await type(each.writer, from, from + each.bytes);
          sent.set(each.writer, from + each.bytes);
        }
      }
      world.restart();
      for (const writer of writers) {
        const mine = world.taken.filter((byte) => (byte.charCodeAt(0) - writer.charCodeAt(0)) % 3 === 0);
        const wanted = mine.map((_, n) => String.fromCharCode(writer.charCodeAt(0) + (n % 20) * 3));
        expect(mine).toEqual(wanted);
      }
    }),
    { numRuns: 500 },
  );
});

it('[S19] counts nothing that was typed behind what an ending agent could not pass on', async () => {
  const world = new World();
  await world.input.write('a', 0, Buffer.from('a'));
  world.dies = 'ending';
  const typed = ['a', 'b', 'a', 'b', 'a'].map((writer, n) => world.input.append(writer, Buffer.from(`${n}${n}`)));
  expect((await Promise.allSettled(typed)).map(({ status }) => status)).toEqual(Array(5).fill('rejected'));
  world.restart();
  expect(world.taken.join('')).toBe('a0');
  expect([world.input.takenOf('a'), await world.input.begin('b', 0)]).toEqual([2, 0]);
});

it('[S19] takes nothing of a writer whose turn can not be kept', async () => {
  const world = new World();
  await world.input.write('a', 0, Buffer.from('aaa'));
  world.isFull = true;
  for (const _ of ['once', 'twice']) await expect(world.input.write('b', 0, Buffer.from('b'))).rejects.toThrow('space');
  world.isFull = false;
  await world.input.write('a', 3, Buffer.from('a'));
  await world.input.write('b', 0, Buffer.from('bb'));
  world.restart();
  expect([world.input.takenOf('a'), world.input.takenOf('b'), world.taken.join('')]).toEqual([4, 2, 'aaaabb']);
});

it('refuses what does not go on where a writer is', async () => {
  const world = new World();
  await world.input.write('a', 0, Buffer.from('abc'));
  await expect(world.input.write('a', 4, Buffer.from('x'))).rejects.toMatchObject({ code: 'tunnel_frame_invalid' });
});

it('goes on at the word of a writer whom it has forgotten', async () => {
  const world = new World();
  for (let n = 0; n < 300; n++) await world.input.write(`writer-${n}`, 0, Buffer.from('x'));
  expect(world.input.takenOf('writer-0')).toBeUndefined();
  expect(await world.input.begin('writer-0', 7)).toBe(7);
  await world.input.write('writer-0', 7, Buffer.from('y'));
  expect(world.taken.at(-1)).toBe('y');
  // Also one who never left.
  await world.input.write('writer-1', 1, Buffer.from('z'));
  expect([world.taken.at(-1), world.input.takenOf('writer-1')]).toEqual(['z', 2]);
});

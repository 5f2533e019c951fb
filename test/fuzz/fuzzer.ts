/**
 * Runs a target on mutated inputs, reproducibly: the same seed gives the same inputs. It knows nothing of formats; a
 * target throws when a property does not hold, and the input that made it throw is what a failure says.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { type Rng, seededRandom } from '../support/random.ts';
import { mutate } from './mutate.ts';

export interface Target {
  name: string;
  /** Well-formed inputs in the bytes of today. The committed corpus is added to them. */
  seeds(): Buffer[];
  /** Longest input. */
  maxBytes: number;
  /** Mends what hides everything behind it, or cuts at a place that matters. */
  mend?(rng: Rng, input: Buffer): Buffer;
  /** Throws when a property does not hold. Slow ones may take many inputs at a time. */
  run(input: Buffer, rng: Rng): void | Promise<void>;
  /** Checks what `run` has put off. */
  flush?(): void | Promise<void>;
  /** How many of the asked-for runs this target does: 1, or less for one that touches a disk. */
  share?: number;
  close?(): void;
}

export interface FuzzResult {
  target: string;
  seed: number;
  runs: number;
}

/** What a target found, with everything that it takes to see it again. */
export class FuzzFailure extends Error {
  constructor(target: string, seed: number, run: number, input: Buffer, cause: unknown) {
    const shown =
      input.length > 2048 ? `${input.toString('hex', 0, 2048)}... (${input.length} bytes)` : input.toString('hex');
    super(`${target} failed at run ${run} of seed ${seed}: ${String(cause)}\ninput: ${shown}`, { cause });
    this.name = 'FuzzFailure';
  }
}

/** Runs in one turn of the event loop: what they leave to be done after them is kept until it ends. */
const turnEvery = 1_000;

/** Inputs that were kept: examples of each format as it was when they were committed, and what once failed. */
export function corpusOf(target: string): { name: string; bytes: Buffer }[] {
  const dir = join(import.meta.dirname, 'corpus', target);
  return readdirSync(dir)
    .toSorted()
    .map((name) => ({ name, bytes: readFileSync(join(dir, name)) }));
}

/** Runs `runs` inputs, the corpus unchanged first. Rejects with a `FuzzFailure` at the first that fails. */
export async function fuzz(target: Target, { runs, seed }: { runs: number; seed: number }): Promise<FuzzResult> {
  const rng = seededRandom(seed);
  const inputs = [...target.seeds(), ...corpusOf(target.name).map(({ bytes }) => bytes)];
  const wanted = Math.max(inputs.length, Math.ceil(runs * (target.share ?? 1)));
  let done = 0;
  let input: Buffer = Buffer.alloc(0);
  try {
    for (; done < wanted; done++) {
      input = inputs[done] ?? next(rng, target, inputs);
      const pending = target.run(input, rng);
      if (pending !== undefined) await pending;
      if (done % turnEvery === 0) await nextTurn();
    }
    await target.flush?.();
  } catch (error) {
    throw error instanceof FuzzFailure ? error : new FuzzFailure(target.name, seed, done, input, error);
  }
  return { target: target.name, seed, runs: done };
}

function next(rng: Rng, target: Target, inputs: readonly Buffer[]): Buffer {
  const from = inputs[rng.integer(0, inputs.length - 1)]!;
  const changed = mutate(rng, from, inputs, target.maxBytes);
  return target.mend?.(rng, changed) ?? changed;
}

/** Fails a run with what did not hold. */
export function hold(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`does not hold: ${what}`);
}

/**
 * What a row of the table of speeds is. A row measures the same job done by us (subject) and by the best thing that
 * people would use otherwise (peer) in every round, one after the other on the same machine, so that a slow moment of
 * the machine hits both; what counts is the median of the rounds' ratios, never an absolute figure.
 */
import type { BenchContext } from './context.ts';

export type Unit = 'ms' | 'us' | 's' | 'MB/s' | 'per s' | 'per min' | 'KiB' | 'MiB';

export type Goal =
  /** subject / peer. */
  | { kind: 'ratio'; atMost: number }
  | { kind: 'ratio'; atLeast: number }
  /** subject - peer, in the row's unit. */
  | { kind: 'over'; atMost: number }
  /** The subject alone. */
  | { kind: 'value'; atMost: number };

/** One round. `peer` is what the goal compares with; `floor` is only printed: the least that the job could cost here. */
export interface Round {
  subject?: number;
  peer?: number;
  floor?: number;
  /** Something that fails the row whatever the figures. */
  fault?: string;
}

export interface Row {
  name: string;
  /** The job, as a phrase. */
  title: string;
  /** What peer and floor are. */
  peer: string;
  floor?: string;
  unit: Unit;
  goal: Goal;
  /** Prepares the job; `round` is called at least five times. */
  setup(context: BenchContext): Promise<{ round(): Promise<Round>; teardown?(): Promise<void> }>;
}

export interface Result {
  row: string;
  subject: number | null;
  peer: number | null;
  floor: number | null;
  /** Median of the rounds' ratios (or differences, or values: what the goal is about). */
  ratio: number | null;
  goal: string;
  /** Null when there was nothing to judge. */
  pass: boolean | null;
  unit: Unit;
  rounds: Round[];
  /** Why it could not be measured to the end, or what was wrong beside the figures. */
  error?: string;
}

/** The middle of the values; undefined when there are none. */
export function median(values: readonly (number | undefined)[]): number | undefined {
  const sorted = values.filter((value) => value !== undefined).toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle]
    : sorted.length === 0
      ? undefined
      : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value below which the share `q` (0 to 1) of the samples lies. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

/** Judges the rounds of a row. */
export function judge(row: Row, rounds: Round[], error?: string): Result {
  const measures = rounds.map((round) => measureOf(row.goal, round));
  const ratio = median(measures);
  const fault = error ?? rounds.find((round) => round.fault !== undefined)?.fault;
  return {
    row: row.name,
    subject: median(rounds.map(({ subject }) => subject)) ?? null,
    peer: median(rounds.map(({ peer }) => peer)) ?? null,
    floor: median(rounds.map(({ floor }) => floor)) ?? null,
    ratio: ratio ?? null,
    goal: goalText(row),
    pass: ratio === undefined ? null : fault === undefined && isReached(row.goal, ratio),
    unit: row.unit,
    rounds,
    ...(fault === undefined ? {} : { error: fault }),
  };
}

function measureOf(goal: Goal, { subject, peer }: Round): number | undefined {
  if (subject === undefined) return undefined;
  if (goal.kind === 'value') return subject;
  if (peer === undefined) return undefined;
  return goal.kind === 'over' ? subject - peer : subject / peer;
}

function isReached(goal: Goal, measured: number): boolean {
  return 'atLeast' in goal ? measured >= goal.atLeast : measured <= goal.atMost;
}

function goalText({ goal, unit }: Row): string {
  if (goal.kind === 'ratio') return 'atLeast' in goal ? `>= ${goal.atLeast}x` : `<= ${goal.atMost}x`;
  return goal.kind === 'over' ? `<= +${goal.atMost} ${unit}` : `<= ${goal.atMost} ${unit}`;
}

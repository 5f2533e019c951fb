/**
 * The operation `lines` (SPEC rule S20): kept output line by line, searched where it is kept. What travels is one JSON object
 * a line, a {@link LineItem}; the edge answers the same over HTTP, also of what lies in object storage.
 */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { logLevels, levelOf } from '../log/level.ts';
import type { LineTest, RawLine } from '../log/lines.ts';
import { Pattern } from '../log/pattern.ts';
import { maxPatternCharacters } from '../log/pattern-parse.ts';
import { OutputGap } from './output-gap.ts';

// Every runtime has them; the library of the language does not.
declare const TextDecoder: new (
  label: string,
  options: { fatal?: boolean; ignoreBOM?: boolean },
) => { decode(bytes: Uint8Array): string };
declare const btoa: (text: string) => string;

const count = z.int().nonnegative();
const stream = z.enum(['stdout', 'stderr']);
const ends = z.strictObject({ stdout: count.optional(), stderr: count.optional() });
/** Most lines that can be asked for from the end. */
export const maxTailLines = 100_000;

/** What is searched for. */
export const LineMatch = z.strictObject({
  /** A regular expression of `schema/log/pattern-parse.ts`. */
  pattern: z.string().min(1).max(maxPatternCharacters),
  ignoreCase: z.boolean(),
});

export const linesOpen = z.strictObject({
  op: z.literal('lines'),
  processId: z.union([z.literal('main'), z.string().regex(idPattern('process'))]),
  streams: z.enum(['stdout', 'stderr', 'both']),
  /** Go on behind these bytes: `next` of the last line of each stream. */
  after: z.strictObject({ stdout: count, stderr: count }).optional(),
  /** Lines written at this time or later, and before that one; Unix ms. */
  sinceMs: count.optional(),
  untilMs: count.optional(),
  match: LineMatch.optional(),
  /** Only the last lines of those. */
  tailLines: count.max(maxTailLines).optional(),
  follow: z.boolean(),
  /** Ride the interactive socket: a person watches. */
  interactive: z.boolean().optional(),
});
export type LinesOpen = z.infer<typeof linesOpen>;

export const LineItem = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('line'),
    stream,
    /** Of the line's first byte, and of the first behind it and its newline. */
    offset: count,
    next: count,
    /** When its first byte was written, Unix ms. */
    timeMs: count,
    /** A guess; absent where nothing says it. */
    level: z.enum(logLevels).optional(),
    /** Without the newline; `base64` instead where it is not UTF-8. */
    text: z.string().optional(),
    base64: z.string().optional(),
    /** It is longer than 64 KiB and goes on in the next piece; it goes on with one. */
    cut: z.literal(true).optional(),
    continues: z.literal(true).optional(),
  }),
  OutputGap,
  /** Everything before was looked at: go on from here after a cut. */
  z.strictObject({ kind: z.literal('at'), stdout: count, stderr: count }),
  z.strictObject({
    kind: z.literal('exit'),
    exitCode: z.int().min(0).max(255).optional(),
    signal: z.string().max(16).optional(),
    reason: z.string().max(32),
    ends,
  }),
  /** Of object storage: what came behind this was not handed over, and its machine is out of reach. */
  z.strictObject({ kind: z.literal('missing'), after: z.strictObject({ stdout: count, stderr: count }) }),
]);
export type LineItem = z.infer<typeof LineItem>;

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder('utf-8', { ignoreBOM: true });
const carriageReturn = 13;

/** Which lines are wanted. Not how many. */
export interface LineFilter {
  sinceMs?: number | undefined;
  untilMs?: number | undefined;
  match?: z.infer<typeof LineMatch> | undefined;
}

/** How much is searched before others have their turn: bytes, and what a pattern takes beyond a look at them. */
const turnCost = 64 * 1024;

/** A test of lines for what was asked. `pause` resolves when others had their turn. @throws PatternError */
export function lineTest({ sinceMs = 0, untilMs, match }: LineFilter, pause: () => Promise<void>): LineTest {
  const pattern = match === undefined ? undefined : new Pattern(match.pattern, match);
  let bytesSeen = 0;
  let costBefore = 0;
  return {
    accepts: ({ timeMs, bytes }) => {
      bytesSeen += bytes.byteLength + 1;
      if (timeMs < sinceMs || (untilMs !== undefined && timeMs >= untilMs)) return false;
      if (pattern === undefined) return true;
      // What a terminal puts before a newline is none of the line.
      const end = bytes.at(-1) === carriageReturn ? -1 : undefined;
      return pattern.test(lenient.decode(bytes.subarray(0, end)));
    },
    turn: () => {
      const cost = bytesSeen + (pattern?.cost ?? 0);
      if (cost - costBefore < turnCost) return undefined;
      costBefore = cost;
      return pause();
    },
  };
}

export function toLineItem(name: 'stdout' | 'stderr', line: RawLine): LineItem {
  const { offset, next, timeMs, bytes, isCut, continues } = line;
  const text = textOf(bytes);
  const level = text === undefined || continues ? undefined : levelOf(text);
  return {
    kind: 'line',
    stream: name,
    offset,
    next,
    timeMs,
    ...(level === undefined ? {} : { level }),
    ...(text === undefined ? { base64: toBase64(bytes) } : { text }),
    ...(isCut ? { cut: true } : {}),
    ...(continues ? { continues: true } : {}),
  };
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

function toBase64(bytes: Uint8Array): string {
  let binary = '';
  for (let at = 0; at < bytes.byteLength; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary);
}

/** Queries of the byte routes of a session: its output, and files in and out of its home. */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { Pattern } from '../log/pattern.ts';
import { maxPatternCharacters, PatternError } from '../log/pattern-parse.ts';
import { whenMs } from '../log/when.ts';
import { maxTailLines } from '../protocol/lines.ts';

const offset = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).meta({ type: 'integer' });
const flag = z.enum(['true', 'false']).default('false');

/** A time: so long ago (`90s`, `10m`, `2h`, `1d`), or a date of RFC 3339. */
const when = z
  .string()
  .max(40)
  .refine((text) => whenMs(text, 0) !== undefined, {
    message: 'must be so long ago, as in 10m, or a time as in 2026-11-28T10:00:00Z',
  });

/** The placement (as `causeway-generation` told it) of which what is asked for continues something: any other refuses. */
const generation = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER).meta({ type: 'integer' });

export const SessionSocketQuery = z.strictObject({ generation: generation.optional() });

export const SessionLogsQuery = z
  .strictObject({
    generation: generation.optional(),
    stream: z.enum(['stdout', 'stderr', 'both']).default('both'),
    /** First byte of the one stream that is asked for. */
    offset: offset.optional(),
    /** Begin this many lines before the end instead. */
    tailLines: z.coerce.number().int().min(0).max(1_000_000).meta({ type: 'integer' }).optional(),
    follow: flag,
    /** Lines written at this time or later, and before that one. */
    since: when.optional(),
    until: when.optional(),
    /** Lines in which this regular expression is found: no look-around, no back references. */
    grep: z.string().min(1).max(maxPatternCharacters).optional(),
    ignoreCase: flag,
    /** Each line begins with its time. */
    timestamps: flag,
    /** Where it is read: at its agent, or what the agent handed to object storage; `auto`: there when it is not here. */
    source: z.enum(['auto', 'agent', 'storage']).default('auto'),
    /** The main process, or one that was started by `exec`. */
    process: z
      .union(
        [
          z.literal('main'),
          z.string().regex(idPattern('process'), 'must be main, or the id of a process: prc_ and 26 characters'),
        ],
        'must be main, or the id of a process: prc_ and 26 characters',
      )
      .default('main'),
  })
  .refine((query) => query.offset === undefined || query.stream !== 'both', {
    path: ['offset'],
    message: 'an offset counts bytes of one stream: ask for stream=stdout or stream=stderr',
  })
  .refine((query) => query.offset === undefined || query.tailLines === undefined, {
    path: ['tailLines'],
    message: 'give an offset or a number of lines, not both',
  })
  .refine((query) => query.until === undefined || query.follow === 'false', {
    path: ['until'],
    message: 'what is followed has no end: leave one of the two out',
  })
  .refine((query) => query.tailLines === undefined || query.tailLines <= maxTailLines || !areLines(query), {
    path: ['tailLines'],
    message: `of lines that are chosen or marked at most ${maxTailLines} are counted`,
  })
  .superRefine((query, context) => {
    const message = query.grep === undefined ? undefined : faultOf(query.grep, query.ignoreCase === 'true');
    if (message !== undefined) context.addIssue({ code: 'custom', path: ['grep'], message });
  });
export type SessionLogsQuery = z.infer<typeof SessionLogsQuery>;

/** True when lines are chosen or marked: then output is answered by the line, else as its bytes. */
export function areLines(query: {
  since?: string | undefined;
  until?: string | undefined;
  grep?: string | undefined;
  timestamps: 'true' | 'false';
}): boolean {
  const { since, until, grep, timestamps } = query;
  return since !== undefined || until !== undefined || grep !== undefined || timestamps === 'true';
}

function faultOf(pattern: string, ignoreCase: boolean): string | undefined {
  try {
    void new Pattern(pattern, { ignoreCase });
    return undefined;
  } catch (error) {
    if (error instanceof PatternError) return error.message;
    throw error;
  }
}

/** Relative to `/home/work`; empty is all of it. */
const path = z.string().max(4096).default('');
export const SessionFilesQuery = z.strictObject({ path });
export const SessionFilesPutQuery = z.strictObject({
  /** The folder into which the archive is unpacked. */
  path,
  /** Chosen by the caller, the same for every part. */
  uploadId: z.string().regex(/^[A-Za-z0-9_-]{8,64}$/, 'must be 8 to 64 letters, digits, - and _'),
  /** Bytes of the archive before this part. */
  offset,
  /** The archive is complete with this part: unpack it. */
  last: flag,
});
export type SessionFilesPutQuery = z.infer<typeof SessionFilesPutQuery>;

/** Most bytes of one part, and of a whole archive. */
export const filePartBytes = 64 * 1024 * 1024;

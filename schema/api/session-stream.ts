/** Queries of the byte routes of a session: its output, and files in and out of its home. */
import { z } from 'zod';
import { idPattern } from '../ids.ts';

const offset = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).meta({ type: 'integer' });
const flag = z.enum(['true', 'false']).default('false');

export const SessionLogsQuery = z
  .strictObject({
    stream: z.enum(['stdout', 'stderr', 'both']).default('both'),
    /** First byte of the one stream that is asked for. */
    offset: offset.optional(),
    /** Begin this many lines before the end instead. */
    tailLines: z.coerce.number().int().min(0).max(1_000_000).meta({ type: 'integer' }).optional(),
    follow: flag,
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
  });
export type SessionLogsQuery = z.infer<typeof SessionLogsQuery>;

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

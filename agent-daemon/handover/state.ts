/**
 * How far the output of a process was handed over: a file beside its log. Written before a chunk is sent (its end is fixed)
 * and when it is there, so that a death in between sends the same chunk again.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { type Disk, readIfThere, replaceDurably } from '../disk.ts';

const count = z.int().nonnegative();
const Side = z.strictObject({
  /** Bytes before are in object storage, or were missing already. */
  done: count,
  /** End of the chunk that is being sent. */
  planned: count.optional(),
});
const HandedOver = z.strictObject({
  stdout: Side,
  stderr: Side,
  /** All of it is there, and that it is all. */
  ended: z.boolean(),
});
export type HandedOver = z.infer<typeof HandedOver>;

const fileName = 'handover';

/** What was noted in the directory of a process. What can not be read counts for nothing: it is sent again. */
export async function readHandedOver(disk: Disk, dir: string): Promise<HandedOver> {
  const text = await readIfThere(disk, join(dir, fileName));
  const none = { stdout: { done: 0 }, stderr: { done: 0 }, ended: false };
  if (text === undefined) return none;
  try {
    return HandedOver.parse(JSON.parse(text.toString()));
  } catch {
    return none;
  }
}

export function writeHandedOver(disk: Disk, dir: string, state: HandedOver): Promise<void> {
  return replaceDurably(disk, join(dir, fileName), JSON.stringify(state));
}

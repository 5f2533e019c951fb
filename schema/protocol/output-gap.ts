/** Output that is missing, told on the control channel before the bytes behind it (SPEC rule S2). */
import { z } from 'zod';

const count = z.int().nonnegative();

export const OutputGap = z.strictObject({
  kind: z.literal('gap'),
  stream: z.enum(['stdout', 'stderr']),
  from: count,
  to: count,
  /** `not-handed-over`: it was written and is in no object storage; its machine may have it. */
  reason: z.enum(['spool-full', 'disk-full', 'ring-full', 'retention', 'damaged', 'not-handed-over']),
});

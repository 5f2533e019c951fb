/** What a backup says about itself: the first entry of its archive. */
import { z } from 'zod';
import { HomeVersion } from '../../../schema/home-version.ts';

/** A path inside the archive, below the home: no way out of it. */
const Path = z
  .string()
  .max(512)
  .regex(/^[A-Za-z0-9_][A-Za-z0-9._-]*(\/[A-Za-z0-9_][A-Za-z0-9._-]*)*$/);

const Part = z.strictObject({
  path: Path,
  bytes: z.int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type Part = z.infer<typeof Part>;

export const Manifest = z.strictObject({
  /** Of the archive. */
  format: z.literal(1),
  /** Unix ms before the first part was read: what was written later may be missing. */
  madeAtMs: z.int().nonnegative(),
  /** Id of the instance. */
  instance: z.string(),
  version: HomeVersion,
  /** In the order of the archive. */
  parts: z.array(Part).max(1_000_000),
  /** Nobody reads it, and nothing is written into it any more; the format has it. */
  spools: z.array(z.strictObject({ session: z.string(), bytes: z.int().nonnegative() })),
});
export type Manifest = z.infer<typeof Manifest>;
export const manifestPath = 'manifest.json';

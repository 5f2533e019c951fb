/**
 * The door to object storage: a bucket of S3's protocol where one is set, else R2's bucket LOGS, which is Cloudflare's in
 * production and by Miniflare in a directory of the home on one machine. Keys are paths; what is small and must be known
 * without reading an object goes into its notes.
 */
import { type Blobs, guarded } from './blobs-port.ts';
import type { Config } from './config.ts';
import { r2Blobs } from './blobs-r2.ts';
import { s3Blobs } from './blobs-s3.ts';

export interface BlobsOf {
  env: Env;
  config: Pick<Config, 'logsS3'>;
}

/** Undefined where there is none: nothing is handed over then. What it answers with fails by BlobsUnavailable alone. */
export function blobsOf({ env, config }: BlobsOf): Blobs | undefined {
  if (config.logsS3) return guarded(s3Blobs(config.logsS3));
  const bucket = (env as { LOGS?: R2Bucket }).LOGS;
  return bucket && guarded(r2Blobs(bucket));
}

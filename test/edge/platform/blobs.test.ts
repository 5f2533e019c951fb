/** Object storage in R2. */
import { env } from 'cloudflare:workers';
import { beforeEach, describe } from 'vitest';
import { blobsOf } from '../../../edge/platform/blobs.ts';
import { itIsObjectStorage } from '../../contract/blobs-suite.ts';
import { byTier } from '../../support/tier.ts';

describe('R2', () => {
  const bucket = (env as unknown as { LOGS: R2Bucket }).LOGS;
  beforeEach(async () => {
    for (let page = await bucket.list(); page.objects.length > 0; page = await bucket.list())
      await bucket.delete(page.objects.map(({ key }) => key));
  });

  itIsObjectStorage(
    () => Promise.resolve(blobsOf({ env, config: { logsS3: undefined } })!),
    byTier({ daily: 0, full: 1_000 }),
  );
});

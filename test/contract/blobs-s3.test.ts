/** Object storage by S3's protocol. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Blobs, BlobsUnavailable, guarded } from '../../edge/platform/blobs-port.ts';
import { type S3Bucket, s3Blobs } from '../../edge/platform/blobs-s3.ts';
import { modelPage, type ModelS3, type S3, type S3Kind, startModelS3, startS3 } from '../support/s3.ts';
import { byTier } from '../support/tier.ts';
import { itIsObjectStorage } from './blobs-suite.ts';

const storage = (bucket: S3Bucket): Blobs => guarded(s3Blobs(bucket));

describe.each<S3Kind>(byTier({ daily: ['model'], full: ['model', 'ceph'] }))('S3 of kind %s', (kind) => {
  let server: S3;
  beforeAll(async () => {
    server = await startS3(kind);
  });
  afterAll(() => server?.stop());

  itIsObjectStorage(async () => storage(await server.bucket()), kind === 'model' ? modelPage : 1_000);

  it('is not there for wrong keys and buckets, which the log is told', async () => {
    const bucket = await server.bucket();
    const forged = storage({ ...bucket, secretAccessKey: 'wrong' });
    await expect(forged.list('logs/')).rejects.toThrow('S3 answers 403 SignatureDoesNotMatch');
    await expect(forged.create('logs/a', new Uint8Array(1), {})).rejects.toThrow(BlobsUnavailable);
    const none = storage({ ...bucket, url: `${bucket.url}-none` });
    await expect(none.list('logs/')).rejects.toThrow('S3 answers 404 NoSuchBucket');
    expect(await storage(bucket).read('logs/a', 10)).toBeUndefined();
  });
});

describe('S3 that fails', () => {
  let server: ModelS3;
  let blobs: Blobs;
  beforeAll(async () => {
    server = await startModelS3();
  });
  beforeEach(async () => {
    server.fail(0, 0);
    blobs = storage(await server.bucket());
  });
  afterAll(() => server.stop());

  it('is asked again a few times, and not for ever', async () => {
    server.fail(2, 503);
    expect(await blobs.create('logs/a', new Uint8Array(3), {})).toBe(true);
    server.fail(1_000, 500);
    const before = server.requests.length;
    await expect(blobs.read('logs/a', 10)).rejects.toThrow('S3 answers 500');
    expect(server.requests.length - before).toBe(4);
  });

  it('is not there while nobody listens, or what answers is no S3', async () => {
    server.fail(1, 200, '<html>hello</html>');
    await expect(blobs.list('logs/')).rejects.toThrow(BlobsUnavailable);
    server.fail(1, 301);
    await expect(blobs.list('logs/')).rejects.toThrow('S3 answers 301');
    server.fail(1, 200, `<ListBucketResult>${' '.repeat(5_000_000)}</ListBucketResult>`);
    await expect(blobs.list('logs/')).rejects.toThrow(BlobsUnavailable);
    const nobody = storage({ url: 'http://127.0.0.1:9/logs', region: 'x', accessKeyId: 'x', secretAccessKey: 'x' });
    await expect(nobody.notesOf('logs/a')).rejects.toThrow(BlobsUnavailable);
  });

  it('has removed nothing that it says it kept', async () => {
    await blobs.create('logs/a', new Uint8Array(1), {});
    server.keepsAll = true;
    await expect(blobs.remove(['logs/a'])).rejects.toThrow('did not remove');
    server.keepsAll = false;
    await blobs.remove(['logs/a']);
    expect(await blobs.notesOf('logs/a')).toBeUndefined();
  });

  it('takes the place of an object that came meanwhile for the first', async () => {
    // What `create` looked at is over; the condition of its request holds.
    await blobs.create('logs/a', new Uint8Array(1), { of: 'first' });
    server.fail(1, 404);
    expect(await blobs.create('logs/a', new Uint8Array(2), { of: 'second' })).toBe(false);
    expect(await blobs.notesOf('logs/a')).toEqual({ of: 'first' });
  });
});

/** Output that outlives its machine in a bucket of S3's protocol: Ceph's, and one that fails. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type S3Bucket, s3Blobs } from '../../edge/platform/blobs-s3.ts';
import { Cli } from '../support/cli.ts';
import { busyboxImage } from '../support/images.ts';
import { type ModelS3, type S3, startModelS3, startS3 } from '../support/s3.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const lastNumber = 700_000;
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const expected = sha256(Array.from({ length: lastNumber }, (_, at) => `${at + 1}\n`).join(''));

async function stackWith({ url, region, accessKeyId, secretAccessKey }: S3Bucket): Promise<Stack> {
  return startStack({
    agentEnv: { CAUSEWAY_HANDOVER_SECONDS: '1' },
    edgeEnv: {
      CAUSEWAY_LOGS_S3_URL: url,
      CAUSEWAY_LOGS_S3_REGION: region,
      CAUSEWAY_LOGS_S3_ACCESS_KEY_ID: accessKeyId,
      CAUSEWAY_LOGS_S3_SECRET_ACCESS_KEY: secretAccessKey,
    },
  });
}

async function runBatch(stack: Stack, name: string): Promise<string> {
  const resources = { cpu: 0.1, mem: '64m' };
  const command = ['seq', '1', String(lastNumber)];
  const { id } = await stack.client.createSession({ type: 'batch', name, image: busyboxImage, command, resources });
  await stack.client.waitForState(id, ['TERMINATED']);
  return id;
}

const storedOf = (stack: Stack, id: string) =>
  stack.client.call('GET', `/v1/sessions/${id}/logs?stream=stdout&source=storage`);

const whenStored = (stack: Stack, id: string) =>
  until(async () => (await storedOf(stack, id).catch(() => undefined))?.status === 200, {
    what: 'its output to be in object storage',
    timeoutMs: 60_000,
  });

describe.runIf(tier === 'full')('a bucket of Ceph', () => {
  let server: S3;
  let bucket: S3Bucket;
  let stack: Stack;
  beforeAll(async () => {
    server = await startS3('ceph');
    bucket = await server.bucket();
    stack = await stackWith(bucket);
  });
  afterAll(async () => {
    await stack?.stop();
    await server?.stop();
  });

  it('has the output when the machine is gone, and nothing of it when the session is removed', async () => {
    const cli = new Cli(stack.url, stack.client.token!, stack.dir);
    const id = await runBatch(stack, 'train');
    await whenStored(stack, id);
    await stack.agents[0]!.kill9();
    const all = await cli.run(['logs', 'train']);
    expect(all.status, all.stderr).toBe(0);
    expect(sha256(all.stdout)).toBe(expected);
    expect((await cli.run(['logs', '--grep', '^69999[01]$', 'train'])).stdout).toBe('699990\n699991\n');
    const objects = await s3Blobs(bucket).list(`logs/${id}/`);
    expect(objects.entries.length).toBeGreaterThan(2);
    expect(await cli.run(['rm', 'train'])).toMatchObject({ status: 0 });
    expect(await s3Blobs(bucket).list('logs/')).toEqual({ entries: [], folders: [], next: undefined });
  });
});

describe.runIf(tier === 'full')('a bucket that fails', () => {
  let server: ModelS3;
  let stack: Stack;
  beforeAll(async () => {
    server = await startModelS3();
    stack = await stackWith(await server.bucket());
  });
  afterAll(async () => {
    await stack?.stop();
    await server?.stop();
  });

  it('is said to who reads, and gets all that was written meanwhile when it is back', async () => {
    server.fail(1_000_000, 503);
    const id = await runBatch(stack, 'meanwhile');
    expect(await storedOf(stack, id)).toMatchObject({ status: 503, body: { code: 'archive_unavailable' } });
    const cli = new Cli(stack.url, stack.client.token!, stack.dir);
    expect(sha256((await cli.run(['logs', 'meanwhile'])).stdout)).toBe(expected);
    server.fail(0, 0);
    await whenStored(stack, id);
    await stack.agents[0]!.kill9();
    expect(sha256((await cli.run(['logs', 'meanwhile'])).stdout)).toBe(expected);
    server.fail(1_000_000, 403, '<Error><Code>AccessDenied</Code></Error>');
    const refused = await cli.run(['logs', 'meanwhile']);
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toContain('The object storage of output can not be reached');
  });
});

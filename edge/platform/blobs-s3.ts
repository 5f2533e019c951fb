/**
 * Object storage in a bucket of S3's protocol (Amazon's, Ceph's, MinIO's, Garage's ...), for control planes without R2.
 * S3 lists no metadata: the notes of listed objects are asked for one by one. `create` looks before it writes, and says in
 * the request that nothing may be there, for servers that know how (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html);
 * with others, of two that write one key at the same moment the last one stays.
 */
import { createHash } from 'node:crypto';
import { AwsClient } from 'aws4fetch';
import { XMLParser } from 'fast-xml-parser';
import { z } from 'zod';
import { type BlobEntry, type Blobs, BlobsUnavailable } from './blobs-port.ts';
import { readBytes } from './bounded.ts';

export interface S3Bucket {
  /** Of the bucket itself: `https://HOST/BUCKET` or `https://BUCKET.HOST`, without a slash at its end. */
  url: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
}

/** For a request and its answer, with all its attempts. */
const requestMs = 30_000;
/** After an answer of 429 or 500 and above, doubling from the first pause. */
const retries = 3;
const firstRetryMs = 100;
/** A list of 1,000 keys of 1 KiB, each three times as long when it is encoded. */
const maxListBytes = 4 * 1024 * 1024;
const maxAnswerBytes = 64 * 1024;
/** Objects whose notes are asked for at the same time; workerd has six connections for a request. */
const notesAtATime = 6;
const notePrefix = 'x-amz-meta-';

const parser = new XMLParser({
  parseTagValue: false,
  isArray: (name) => ['Contents', 'CommonPrefixes', 'Error'].includes(name),
});
const Listing = z.object({
  ListBucketResult: z.object({
    Contents: z.array(z.object({ Key: z.string() })).default([]),
    CommonPrefixes: z.array(z.object({ Prefix: z.string() })).default([]),
    NextContinuationToken: z.string().optional(),
  }),
});
const Fault = z.object({ Error: z.tuple([z.object({ Code: z.string() })]) });
const Removed = z.object({
  DeleteResult: z.union([z.literal(''), z.object({ Error: z.array(z.unknown()).max(0).optional() })]),
});

interface Asked {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST';
  key?: string;
  query?: Readonly<Record<string, string>>;
  headers?: Readonly<Record<string, string>>;
  body?: Uint8Array;
}

const clients = new WeakMap<S3Bucket, AwsClient>();

/** The bucket as `Blobs`. */
export function s3Blobs(bucket: S3Bucket): Blobs {
  const ask = (asked: Asked) => send(bucket, asked);
  const notesOf: Blobs['notesOf'] = async (key) => {
    const answer = await ask({ method: 'HEAD', key });
    if (answer.status === 404) return undefined;
    await mustBeOk(answer);
    return notesIn(answer.headers);
  };
  return {
    notesOf,
    create: async (key, bytes, notes) => {
      if ((await notesOf(key)) !== undefined) return false;
      const named = Object.entries(notes).map(([name, value]) => [notePrefix + name, value]);
      const headers = { 'if-none-match': '*', ...Object.fromEntries(named) };
      const answer = await ask({ method: 'PUT', key, body: bytes, headers });
      if (answer.status !== 412) await mustBeOk(answer);
      await answer.body?.cancel();
      return answer.ok;
    },
    read: async (key, mostBytes) => {
      const answer = await ask({ method: 'GET', key });
      if (answer.status === 404) {
        await answer.body?.cancel();
        return undefined;
      }
      await mustBeOk(answer);
      return bytesOf(answer, mostBytes);
    },
    list: async (prefix, { cursor, delimiter, notes = true } = {}) => {
      const query = {
        'list-type': '2',
        'encoding-type': 'url',
        prefix,
        ...(cursor === undefined ? {} : { 'continuation-token': cursor }),
        ...(delimiter === undefined ? {} : { delimiter }),
      };
      const answer = await ask({ method: 'GET', query });
      await mustBeOk(answer);
      const { ListBucketResult: page } = Listing.parse(await xmlOf(answer, maxListBytes));
      const keys = page.Contents.map(({ Key }) => decoded(Key));
      return {
        entries: notes ? await withNotes(keys, notesOf) : keys.map((key) => ({ key, notes: {} })),
        folders: page.CommonPrefixes.map(({ Prefix }) => decoded(Prefix)),
        next: page.NextContinuationToken,
      };
    },
    remove: async (keys) => {
      if (keys.length === 0) return;
      const objects = keys.map((key) => `<Object><Key>${escaped(key)}</Key></Object>`).join('');
      const body = new TextEncoder().encode(`<Delete><Quiet>true</Quiet>${objects}</Delete>`);
      const headers = { 'content-md5': createHash('md5').update(body).digest('base64') };
      const answer = await ask({ method: 'POST', query: { delete: '' }, body, headers });
      await mustBeOk(answer);
      // Each may be refused by itself, in an answer of 200.
      if (!Removed.safeParse(await xmlOf(answer, maxListBytes)).success)
        throw new BlobsUnavailable('S3 did not remove all objects');
    },
  };
}

async function send(bucket: S3Bucket, { method, key, query, headers, body }: Asked): Promise<Response> {
  const url = new URL(
    key === undefined ? bucket.url : `${bucket.url}/${key.split('/').map(encodeURIComponent).join('/')}`,
  );
  for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, value);
  const sum = createHash('sha256')
    .update(body ?? '')
    .digest('hex');
  return clientOf(bucket).fetch(url, {
    method,
    headers: { ...headers, 'x-amz-content-sha256': sum },
    body: body ?? null,
    redirect: 'manual',
    signal: AbortSignal.timeout(requestMs),
  });
}

function clientOf(bucket: S3Bucket): AwsClient {
  const { accessKeyId, secretAccessKey, region } = bucket;
  const client =
    clients.get(bucket) ??
    new AwsClient({ accessKeyId, secretAccessKey, region, service: 's3', retries, initRetryMs: firstRetryMs });
  clients.set(bucket, client);
  return client;
}

/** @throws BlobsUnavailable with S3's code for what is wrong */
async function mustBeOk(answer: Response): Promise<void> {
  if (answer.ok) return;
  const said = Fault.safeParse(await xmlOf(answer, maxAnswerBytes).catch(() => undefined)).data;
  throw new BlobsUnavailable(`S3 answers ${answer.status} ${said?.Error[0].Code ?? ''}`.trim());
}

async function xmlOf(answer: Response, mostBytes: number): Promise<unknown> {
  return parser.parse(new TextDecoder().decode(await bytesOf(answer, mostBytes)));
}

async function bytesOf(answer: Response, mostBytes: number): Promise<Uint8Array | undefined> {
  return answer.body === null ? new Uint8Array(0) : readBytes(answer.body as ReadableStream<Uint8Array>, mostBytes);
}

function notesIn(headers: Headers): Record<string, string> {
  const named = [...headers].filter(([name]) => name.startsWith(notePrefix));
  return Object.fromEntries(named.map(([name, value]) => [name.slice(notePrefix.length), value]));
}

/** In the order of the keys; without those that went meanwhile. */
async function withNotes(keys: readonly string[], notesOf: Blobs['notesOf']): Promise<BlobEntry[]> {
  const found: (BlobEntry | undefined)[] = [];
  const left = keys.entries();
  const worker = async () => {
    for (const [at, key] of left) {
      const notes = await notesOf(key);
      found[at] = notes && { key, notes };
    }
  };
  await Promise.all(Array.from({ length: notesAtATime }, worker));
  return found.filter((each) => each !== undefined);
}

/** A key as a list says it, with the encoding of forms. */
function decoded(text: string): string {
  return decodeURIComponent(text.replaceAll('+', '%20'));
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

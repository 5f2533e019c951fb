/**
 * Servers of S3's protocol: Ceph's gateway on a SQLite file of its own (full tier), and one in this process that judges
 * signatures by itself, stores nothing over what is there when it is told so, and fails when a test says so.
 */
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdirSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { AwsClient } from 'aws4fetch';
import type { S3Bucket } from '../../edge/platform/blobs-s3.ts';
import { freePort } from './free-port.ts';
import { start } from './process.ts';
import { tmpDir } from './tmp.ts';
import { until } from './wait.ts';

export type S3Kind = 'ceph' | 'model';

export interface S3 {
  /** Makes a bucket that is empty. */
  bucket(): Promise<S3Bucket>;
  stop(): Promise<void>;
}

const keys = { accessKeyId: 'CAUSEWAYTESTS', secretAccessKey: 'a secret/of+tests=' };
const region = 'us-east-1';
/** Objects that the one in this process lists at once. */
export const modelPage = 50;

export function startS3(kind: S3Kind): Promise<S3> {
  return kind === 'ceph' ? startCeph() : startModelS3();
}

async function startCeph(): Promise<S3> {
  const dir = tmpDir('s3');
  const port = await freePort();
  mkdirSync(join(dir.path, 'data'));
  writeFileSync(
    join(dir.path, 'ceph.conf'),
    [
      '[global]',
      'fsid = 00000000-0000-4000-8000-000000000001',
      'auth_cluster_required = none',
      'auth_service_required = none',
      'auth_client_required = none',
      '[client]',
      'rgw_backend_store = dbstore',
      'rgw_config_store = dbstore',
      `dbstore_config_uri = file:${dir.path}/config.db`,
      `dbstore_db_dir = ${dir.path}`,
      'dbstore_db_name_prefix = db',
      `rgw_data = ${dir.path}/data`,
      `run_dir = ${dir.path}`,
      `rgw_frontends = beast endpoint=127.0.0.1:${port}`,
      '',
    ].join('\n'),
  );
  const common = ['-c', join(dir.path, 'ceph.conf'), '--no-mon-config', '-n', 'client.rgw'];
  const user = ['user', 'create', '--uid=tests', '--display-name=tests'];
  const secret = [`--access-key=${keys.accessKeyId}`, `--secret=${keys.secretAccessKey}`];
  execFileSync('radosgw-admin', [...common, ...user, ...secret], { stdio: 'ignore', timeout: 30_000 });
  const server = start('radosgw', [...common, '-f']);
  const url = `http://127.0.0.1:${port}`;
  await until(() => fetch(url).then(({ ok }) => ok), { what: 'the gateway of Ceph', timeoutMs: 30_000 });
  let made = 0;
  return {
    async bucket() {
      made += 1;
      const address = `${url}/bucket-${made}`;
      const client = new AwsClient({ ...keys, region, service: 's3' });
      const { ok, status } = await client.fetch(address, { method: 'PUT' });
      if (!ok) throw new Error(`a bucket can not be made: ${status}`);
      return { url: address, region, ...keys };
    },
    async stop() {
      await server.kill9();
      dir.remove();
    },
  };
}

interface Stored {
  body: Buffer;
  notes: Record<string, string>;
}

export interface ModelS3 extends S3 {
  /** The next answers have this status and these words, so often. */
  fail(times: number, status: number, text?: string): void;
  /** Removes no object, and says so. */
  keepsAll: boolean;
  readonly requests: readonly string[];
}

/** @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html */
function isSigned({ method, url, headers }: IncomingMessage, path: string, body: Buffer): boolean {
  const { authorization = '' } = headers;
  const [, scope, names = '', signature] =
    /^AWS4-HMAC-SHA256 Credential=CAUSEWAYTESTS\/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      authorization,
    ) ?? [];
  if (scope === undefined || headers['x-amz-content-sha256'] !== sha256(body)) return false;
  const query = [...new URL(url!, 'http://s3').searchParams].map(([name, value]) => `${strict(name)}=${strict(value)}`);
  const canonical = [
    method,
    path,
    query.toSorted().join('&'),
    ...names.split(';').map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    names,
    sha256(body),
  ].join('\n');
  const text = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n');
  const key = scope.split('/').reduce<string | Buffer>(hmac, `AWS4${keys.secretAccessKey}`);
  return hmac(key, text).toString('hex') === signature;
}

const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
const strict = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`);

export async function startModelS3(): Promise<ModelS3> {
  const server = new Model();
  await server.listen();
  return server;
}

class Model implements ModelS3 {
  readonly requests: string[] = [];
  keepsAll = false;
  readonly #server: Server;
  readonly #buckets = new Map<string, Map<string, Stored>>();
  #failures: { status: number; text: string }[] = [];

  constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  bucket(): Promise<S3Bucket> {
    const name = `bucket-${this.#buckets.size}`;
    this.#buckets.set(name, new Map());
    const { port } = this.#server.address() as AddressInfo;
    return Promise.resolve({ url: `http://127.0.0.1:${port}/${name}`, region, ...keys });
  }

  fail(times: number, status: number, text = ''): void {
    this.#failures = Array.from({ length: times }, () => ({ status, text }));
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => void this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(request);
    const { pathname, searchParams } = new URL(request.url!, 'http://s3');
    this.requests.push(`${request.method} ${request.url}`);
    const failure = this.#failures.shift();
    if (failure) return void response.writeHead(failure.status).end(failure.text);
    if (!isSigned(request, pathname, body)) return fault(response, 403, 'SignatureDoesNotMatch');
    const [, name = '', ...rest] = pathname.split('/').map(decodeURIComponent);
    const objects = this.#buckets.get(name);
    if (!objects) return fault(response, 404, 'NoSuchBucket');
    const key = rest.join('/');
    if (key !== '') this.#object(request, response, objects, key, body);
    else if (request.method === 'POST') this.#remove(response, objects, body);
    else list(response, objects, searchParams);
  }

  #object(
    { method, headers }: IncomingMessage,
    response: ServerResponse,
    objects: Map<string, Stored>,
    key: string,
    body: Buffer,
  ): void {
    const found = objects.get(key);
    if (method === 'PUT') {
      if (found && headers['if-none-match'] === '*') return fault(response, 412, 'PreconditionFailed');
      const notes = Object.entries(headers).filter(([name]) => name.startsWith('x-amz-meta-'));
      objects.set(key, { body, notes: Object.fromEntries(notes) as Record<string, string> });
      return void response.writeHead(200).end();
    }
    if (!found) return fault(response, 404, 'NoSuchKey');
    response.writeHead(200, { ...found.notes, 'content-length': found.body.byteLength });
    response.end(method === 'GET' ? found.body : undefined);
  }

  #remove(response: ServerResponse, objects: Map<string, Stored>, body: Buffer): void {
    const removed = [...body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, text]) => unescaped(text!));
    const refused = this.keepsAll ? '<Error><Key>x</Key><Code>AccessDenied</Code></Error>' : '';
    if (!this.keepsAll) for (const key of removed) objects.delete(key);
    response.end(`<?xml version="1.0"?><DeleteResult>${refused}</DeleteResult>`);
  }
}

function list(response: ServerResponse, objects: Map<string, Stored>, query: URLSearchParams): void {
  const prefix = query.get('prefix') ?? '';
  const after = query.get('continuation-token') ?? '';
  const delimiter = query.get('delimiter');
  const matching = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).toSorted();
  const page = matching.slice(0, modelPage);
  const folders = new Set<string>();
  const contents: string[] = [];
  for (const key of page) {
    const at = delimiter === null ? -1 : key.indexOf(delimiter, prefix.length);
    if (at < 0) contents.push(`<Contents><Key>${encoded(key)}</Key><Size>1</Size></Contents>`);
    else folders.add(key.slice(0, at + 1));
  }
  const next = page.length < matching.length ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : '';
  const common = [...folders].map((folder) => `<CommonPrefixes><Prefix>${encoded(folder)}</Prefix></CommonPrefixes>`);
  response.end(
    `<?xml version="1.0"?><ListBucketResult><IsTruncated>${next !== ''}</IsTruncated>${contents.join('')}${common.join('')}${next}</ListBucketResult>`,
  );
}

function fault(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' }).end(`<Error><Code>${code}</Code></Error>`);
}

const encoded = (key: string): string => encodeURIComponent(key).replaceAll('%2F', '/').replaceAll('%20', '+');
const unescaped = (text: string): string =>
  text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

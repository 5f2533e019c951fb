/** The few calls that an instance makes to a container engine over its unix socket; sessions are the agent's business. */
import { request } from 'node:http';
import type { Readable } from 'node:stream';
import { json, text } from 'node:stream/consumers';

export class EngineError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type Query = Record<string, string | string[]>;

/** One call. Resolves with the response's stream for 2xx; otherwise throws EngineError with the engine's own words. */
export function callEngine(
  socket: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  { query = {}, body, timeoutMs = 10_000 }: { query?: Query; body?: Readable; timeoutMs?: number } = {},
): Promise<Readable> {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of Array.isArray(value) ? value : [value]) search.append(name, one);
  return new Promise((resolve, reject) => {
    const call = request({
      socketPath: socket,
      method,
      path: `${path}?${search.toString()}`,
      headers: body ? { 'content-type': 'application/x-tar' } : {},
    });
    if (!body)
      call.setTimeout(timeoutMs, () =>
        call.destroy(new Error(`the container engine did not answer in ${timeoutMs / 1000} s`)),
      );
    call.on('error', reject);
    call.on('response', (response) => {
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return resolve(response);
      text(response).then((said) => reject(new EngineError(status, messageOf(said))), reject);
    });
    if (body) body.on('error', (error) => call.destroy(error)).pipe(call);
    else call.end();
  });
}

function messageOf(said: string): string {
  try {
    return String((JSON.parse(said) as { message?: unknown }).message ?? said);
  } catch {
    return said.trim();
  }
}

/** The engine's version, or undefined when nothing answers on this socket. */
export async function findEngineVersion(socket: string): Promise<string | undefined> {
  try {
    const answer = (await json(await callEngine(socket, 'GET', '/version', { timeoutMs: 5_000 }))) as {
      Version?: string;
    };
    return answer.Version ?? 'unknown';
  } catch {
    return undefined;
  }
}

export type ImageInfo = { id: string; labels: Record<string, string> };

/** An image by reference, or undefined. */
export async function findImage(socket: string, reference: string): Promise<ImageInfo | undefined> {
  try {
    const stream = await callEngine(socket, 'GET', `/images/${reference}/json`);
    const image = (await json(stream)) as { Id: string; Config?: { Labels?: Record<string, string> | null } };
    return { id: image.Id, labels: image.Config?.Labels ?? {} };
  } catch (error) {
    if (error instanceof EngineError && error.status === 404) return undefined;
    throw error;
  }
}

/** Imports a root file system as an image of one layer. The engine says errors in the stream, too: they are thrown. */
export async function importImage(
  socket: string,
  tar: Readable,
  repo: string,
  tag: string,
  changes: string[],
): Promise<void> {
  const query = { fromSrc: '-', repo, tag, changes };
  throwStreamedError(await text(await callEngine(socket, 'POST', '/images/create', { query, body: tar })));
}

/** Pulls a reference (`name[:tag]`), waiting for its end. */
export async function pullImage(socket: string, reference: string, onLine: (line: string) => void): Promise<void> {
  const stream = await callEngine(socket, 'POST', '/images/create', {
    query: { fromImage: reference },
    timeoutMs: 3_600_000,
  });
  let tail = '';
  for await (const chunk of stream.setEncoding('utf8')) {
    const lines = (tail + String(chunk)).split('\n');
    tail = lines.pop() ?? '';
    for (const line of lines.filter((l) => l.trim() !== '')) {
      throwStreamedError(line);
      const { status, id } = JSON.parse(line) as { status?: string; id?: string };
      onLine([status, id].filter(Boolean).join(' '));
    }
  }
}

function throwStreamedError(said: string): void {
  for (const line of said.split('\n'))
    if (line.includes('"error"')) {
      const { error } = JSON.parse(line) as { error?: string };
      if (error !== undefined) throw new EngineError(500, error);
    }
}

export async function tagImage(socket: string, reference: string, repo: string, tag: string): Promise<void> {
  await text(await callEngine(socket, 'POST', `/images/${reference}/tag`, { query: { repo, tag } }));
}

/** Takes a reference away; the content goes when nothing else names it. */
export async function untagImage(socket: string, reference: string): Promise<void> {
  await text(await callEngine(socket, 'DELETE', `/images/${reference}`, { query: { noprune: 'false' } }));
}

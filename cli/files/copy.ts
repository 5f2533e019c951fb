/** `causeway cp`: files into and out of a session's home, in parts that a cut does not spoil. */
import { randomBytes } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import type { Command } from 'commander';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { findSession } from '../session/find.ts';
import { bytesText, plain } from '../terminal/table.ts';
import { Progress } from '../terminal/progress.ts';
import { packedBytes, packPath, unpackTo } from './local-tar.ts';

/** One part of an upload; the edge takes at most 64 MiB. */
const partBytes = 8 * 1024 * 1024;
const maxUploadBytes = 1024 ** 3;

/** Registers `cp`. */
export function registerCopy(program: Command): void {
  program
    .command('cp')
    .description('copy files or folders: cp LOCAL SESSION:PATH or cp SESSION:PATH LOCAL (paths below /home/work)')
    .argument('<from>')
    .argument('<to>')
    .action(copy);
}

interface Remote {
  session: string;
  path: string;
}

function parseRemote(text: string): Remote | undefined {
  const at = text.indexOf(':');
  if (at < 1 || text.slice(0, at).includes('/')) return undefined;
  const path = text
    .slice(at + 1)
    .replace(/^\/home\/work(\/|$)/, '')
    .replace(/\/+$/, '');
  if (path.startsWith('/'))
    throw new CliFailure(`${plain(text)} is outside of /home/work`, {
      status: exitStatus.usage,
      hint: 'SESSION:PATH below /home/work',
    });
  return { session: text.slice(0, at), path };
}

async function copy(from: string, to: string): Promise<void> {
  const source = parseRemote(from);
  const target = parseRemote(to);
  if ((source === undefined) === (target === undefined))
    throw new CliFailure('one side is a session, the other is here', {
      status: exitStatus.usage,
      hint: 'causeway cp data.csv SESSION:data.csv   or: causeway cp SESSION:out ./out',
    });
  const api = new Api();
  if (source !== undefined) await download(api, source, to);
  else await upload(api, from, target!, to.endsWith('/') || to.endsWith(':'));
}

async function download(api: Api, source: Remote, target: string): Promise<void> {
  const session = await findSession(api, source.session);
  const response = await api.raw('GET', `/v1/sessions/${session.id}/files`, {
    query: { path: source.path },
    headers: { accept: 'application/x-tar' },
  });
  const progress = new Progress(undefined);
  let received = 0;
  const body = Readable.fromWeb(response.body as unknown as NodeReadableStream).on('data', (chunk: Uint8Array) => {
    received += chunk.byteLength;
    progress.show(received);
  });
  // The home itself is no entry of its archive: what is in it needs a folder.
  const isHome = source.path.split('/').every((name) => name === '' || name === '.');
  const options = { intoFolder: isHome || target.endsWith('/') };
  const count = await unpackTo(body.pause(), target, options).catch((error: unknown) => {
    throw body.errored === null ? error : brokenOff(source, body.errored);
  });
  progress.done();
  process.stderr.write(`${count} ${count === 1 ? 'entry' : 'entries'} from ${plain(session.name)}\n`);
}

/** An answer that has begun can not say why it ends. */
function brokenOff({ session }: Remote, error: Error): CliFailure {
  return new CliFailure(`the session's archive broke off: ${error.message}`, {
    hint: `again   or, where a name is not UTF-8: scp -r ${session}.causeway:PATH .   (causeway ssh-config)`,
  });
}

async function upload(api: Api, path: string, target: Remote, intoFolder: boolean): Promise<void> {
  const local = resolve(path);
  await lstat(local).catch(() => {
    throw new CliFailure(`there is no ${plain(path)} here`, { status: exitStatus.usage });
  });
  const totalBytes = await packedBytes(local);
  if (totalBytes > maxUploadBytes)
    throw new CliFailure(
      `${plain(path)} has ${bytesText(totalBytes)}; one copy is at most ${bytesText(maxUploadBytes)}`,
      {
        status: exitStatus.usage,
        hint: `split -b 1000m ${plain(path)} part-   and copy the parts one by one`,
      },
    );
  const session = await findSession(api, target.session);
  const progress = new Progress(totalBytes);
  const keepName = target.path === '' || intoFolder;
  const folder = keepName ? target.path : target.path.split('/').slice(0, -1).join('/');
  const name = keepName ? basename(local) : target.path.split('/').at(-1)!;
  const sent = await sendParts(packPath(local, name), async (bytes, offset, last, uploadId) => {
    await api.raw('PUT', `/v1/sessions/${session.id}/files`, {
      query: { path: folder, uploadId, offset, last },
      headers: { 'content-type': 'application/x-tar' },
      stream: bytes,
    });
    progress.show(offset + bytes.byteLength);
  });
  progress.done();
  process.stderr.write(`${bytesText(sent)} to ${plain(session.name)}\n`);
}

/** Cuts `archive` into parts and sends them in order; each part may be repeated by the one who sends. */
async function sendParts(
  archive: Readable,
  send: (bytes: Uint8Array, offset: number, last: boolean, uploadId: string) => Promise<void>,
): Promise<number> {
  const uploadId = randomBytes(12).toString('hex');
  const part = Buffer.allocUnsafe(partBytes); // the same for all of them: a large file must not fill the memory
  let heldBytes = 0;
  let offset = 0;
  const flush = async (last: boolean) => {
    await send(part.subarray(0, heldBytes), offset, last, uploadId);
    offset += heldBytes;
    heldBytes = 0;
  };
  for await (const chunk of archive as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.byteLength;) {
      const taken = chunk.copy(part, heldBytes, at);
      heldBytes += taken;
      at += taken;
      if (heldBytes === partBytes) await flush(false);
    }
    if (offset + heldBytes > maxUploadBytes)
      throw new CliFailure(`this is more than ${bytesText(maxUploadBytes)}, which is the most one copy may be`);
  }
  await flush(true);
  return offset;
}

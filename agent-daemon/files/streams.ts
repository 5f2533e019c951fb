/**
 * The operations `get` and `put` of the tunnel: a session's home as a tar archive, out and in, also after its end while
 * the home is kept. Offsets of `put` are those of the whole upload: OPENED says where it stands, and parts may come again.
 */
import { join } from 'node:path';
import { Refusal } from '../../schema/errors.ts';
import { channels } from '../../schema/protocol/frame.ts';
import type { AgentStream, StreamHandler } from '../dispatch.ts';
import type { Homes } from '../sessions/homes.ts';
import { parseHomePath } from './home-path.ts';
import { packBeneath } from './pack.ts';
import { unpackBeneath } from './unpack.ts';
import type { Upload, Uploads } from './uploads.ts';

/** Small pieces of an archive (its headers) travel together. */
const sendBytes = 64 * 1024;

export function getStream(homes: Homes): StreamHandler<'get'> {
  return async ({ sessionId, open }, stream) => {
    const archive = await packBeneath(homes.path(sessionId), parseHomePath(open.path));
    const abandon = (): void => archive.destroy();
    stream.closed.addEventListener('abort', abandon);
    stream.opened({});
    let held: Uint8Array[] = [];
    let heldBytes = 0;
    const flush = async (): Promise<void> => {
      const bytes = Buffer.concat(held);
      held = [];
      heldBytes = 0;
      if (bytes.byteLength > 0) await stream.write(channels.stdout, bytes);
    };
    for await (const chunk of archive as AsyncIterable<Uint8Array>) {
      held.push(chunk);
      heldBytes += chunk.byteLength;
      if (heldBytes >= sendBytes) await flush();
    }
    await flush();
    stream.closed.removeEventListener('abort', abandon);
  };
}

export function putStream(homes: Homes, uploads: Uploads, stagingRoot: string): StreamHandler<'put'> {
  return async ({ sessionId, open }, stream) => {
    const names = parseHomePath(open.path);
    const owner = await homes.owner(sessionId);
    if (owner === undefined) {
      throw new Refusal(
        'session_file_not_found',
        'The session has no home here: it has not started, or ended long ago.',
      );
    }
    const upload = await uploads.open(sessionId, open.uploadId, open.offset, stream.closed);
    let as: Parameters<Upload['close']>[0] = 'open';
    try {
      await receive(stream, upload, open.offset);
      if (!open.last || upload.isTaken) return;
      const stagingPath = join(stagingRoot, `${sessionId}-${open.uploadId}`);
      const homePath = homes.path(sessionId);
      try {
        await unpackBeneath({ archivePath: upload.path, homePath, names, stagingPath, owner });
        as = 'taken';
      } catch (error) {
        // What was refused is of no more use: the same bytes would be refused again.
        if (error instanceof Refusal) as = 'refused';
        throw error;
      }
    } finally {
      await upload.close(as);
    }
  };
}

/** Takes one part to its end. @throws Refusal when it does not continue the upload */
async function receive(stream: AgentStream, upload: Upload, offset: number): Promise<void> {
  if (offset > upload.sizeBytes) {
    throw new Refusal('session_file_offset', `The upload has ${upload.sizeBytes} bytes; continue there.`);
  }
  stream.opened({ inputOffset: upload.sizeBytes });
  for await (const item of stream.read()) {
    if (item.channel !== channels.input) continue;
    if (item.end) break;
    await upload.write(item.offset, item.bytes);
  }
  await upload.sync();
}

/** Object storage of a world: what agents hand over, judged as the edge judges it. */
import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { decodeChunk, HandOverEnd, parseChunkName } from '../../../schema/log/chunk.ts';
import type { Sometimes } from '../sometimes.ts';

export interface ArchivePorts {
  sometimes: Sometimes;
  watch: { violated: (what: string) => void };
}

export class SimArchive {
  readonly #ports: ArchivePorts;
  /** SHA-256 of what is there, by name. */
  readonly #objects = new Map<string, string>();

  constructor(ports: ArchivePorts) {
    this.#ports = ports;
  }

  put(path: string, headers: Readonly<Record<string, string>>, body: Uint8Array): { status: number; text: string } {
    const name = path.split('/').at(-1)!;
    if (name === 'end') {
      HandOverEnd.parse(JSON.parse(Buffer.from(body).toString()));
      return { status: 204, text: '' };
    }
    const raw = gunzipSync(body);
    const sha256 = createHash('sha256').update(raw).digest('hex');
    const range = parseChunkName(name);
    const bytes = decodeChunk(raw).reduce((sum, record) => sum + record.bytes.byteLength, 0);
    if (sha256 !== headers['causeway-sha256'] || range === undefined || range.to - range.from !== bytes)
      this.#ports.watch.violated(`${path} is handed over with ${bytes} bytes`);
    this.#ports.sometimes.reached('output was handed over');
    const known = this.#objects.get(path);
    if (known !== undefined) this.#ports.sometimes.reached('output was handed over again after a death');
    if (known !== undefined && known !== sha256) return { status: 409, text: '{"code":"archive_chunk_conflict"}' };
    this.#objects.set(path, sha256);
    return { status: 204, text: '' };
  }
}

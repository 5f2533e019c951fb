/**
 * Which entries of an archive may be unpacked, and as what. Pure: it sees headers only. An archive that holds one unsafe
 * entry is refused as a whole. What it lets through has no way out of the folder: relative names without `..`, links that
 * lead forward or stay inside, hard links only to files of the same archive, no devices, no set-user-id.
 */
import type { Header } from 'tar-stream';
import { Refusal } from '../../schema/errors.ts';
import { splitPath } from './home-path.ts';

export type SafeEntry =
  | { kind: 'file'; names: string[]; mode: number; mtime: Date; sizeBytes: number }
  | { kind: 'directory'; names: string[]; mode: number }
  | { kind: 'symlink'; names: string[]; target: string }
  | { kind: 'hardlink'; names: string[]; target: string[] };

const maxEntries = 100_000;
const maxTotalBytes = 1024 ** 3;

export class ArchiveGuard {
  readonly #kinds = new Map<string, SafeEntry['kind']>();
  #entries = 0;
  #totalBytes = 0;

  /** The entry as it may be unpacked; undefined for the folder itself. @throws Refusal `session_file_archive_unsafe` */
  check(header: Header): SafeEntry | undefined {
    if (++this.#entries > maxEntries) throw unsafe(`It has more than ${maxEntries} entries.`);
    const names = splitPath(header.name);
    if (typeof names === 'string') throw unsafe(`A name in it ${names}.`);
    if (names.length === 0) {
      if (header.type === 'directory') return undefined;
      throw unsafe('An entry has no name.');
    }
    const entry = this.#toEntry(header, names);
    this.#register(entry);
    return entry;
  }

  #toEntry(header: Header, names: string[]): SafeEntry {
    const mode = header.mode & 0o777;
    switch (header.type) {
      case 'file':
      case 'contiguous-file':
        return { kind: 'file', names, mode, mtime: header.mtime, sizeBytes: this.#take(header.size) };
      case 'directory':
        return { kind: 'directory', names, mode: mode | 0o700 };
      case 'symlink':
        return { kind: 'symlink', names, target: safeTarget(header.linkname ?? '', names) };
      case 'link':
        return { kind: 'hardlink', names, target: this.#linked(header.linkname ?? '') };
      default:
        // Also what the reader of archives does not know, whatever its types say.
        throw unsafe(`It holds an entry of another kind (${header.type}).`);
    }
  }

  #take(size: number): number {
    if (!Number.isSafeInteger(size) || size < 0) throw unsafe('The size of an entry is wrong.');
    this.#totalBytes += size;
    if (this.#totalBytes > maxTotalBytes) throw unsafe('Its files are more than 1 GiB together.');
    return size;
  }

  #linked(target: string): string[] {
    const names = splitPath(target);
    if (typeof names === 'string' || this.#kinds.get(names.join('/')) !== 'file') {
      throw unsafe('A hard link in it leads to something that is not an earlier file of it.');
    }
    return names;
  }

  /** A folder on the way must be a folder: what is below a link would be unpacked somewhere else. */
  #register(entry: SafeEntry): void {
    for (let depth = 1; depth < entry.names.length; depth++) {
      const parent = entry.names.slice(0, depth).join('/');
      const kind = this.#kinds.get(parent);
      if (kind !== undefined && kind !== 'directory') throw unsafe('An entry lies below one that is no folder.');
      this.#kinds.set(parent, 'directory');
    }
    const path = entry.names.join('/');
    const known = this.#kinds.get(path);
    if (known !== undefined && !(known === 'directory' && entry.kind === 'directory')) {
      throw unsafe('A name is in it twice.');
    }
    this.#kinds.set(path, entry.kind);
  }
}

/** A link may go up only at its beginning and only inside: `a/../..` after a link `a` ends where nobody can tell. */
function safeTarget(target: string, names: readonly string[]): string {
  if (target === '' || target.startsWith('/') || target.includes('\0') || Buffer.byteLength(target) > 4095) {
    throw unsafe('A link in it leads to an absolute path, or nowhere.');
  }
  const steps = target.split('/').filter((step) => step !== '' && step !== '.');
  const ups = steps.findIndex((step) => step !== '..');
  const rises = ups < 0 ? steps.length : ups;
  if (rises > names.length - 1 || steps.slice(rises).includes('..')) {
    throw unsafe('A link in it may lead out of the folder.');
  }
  return target;
}

function unsafe(why: string): Refusal {
  return new Refusal('session_file_archive_unsafe', `${why} Nothing of the archive was unpacked.`);
}

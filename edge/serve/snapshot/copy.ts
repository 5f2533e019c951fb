/**
 * Copies the storage of an edge, also while it runs: each SQLite file as of one moment (`VACUUM INTO` reads in one
 * transaction, and WAL lets workerd write on). The files are of different moments, so their order matters: what owns a
 * session first, what is told of it later, and D1 last. Whatever a later file knows more than an earlier one, `rebuild`
 * can mend; the reverse would be lost. Must never write to the files that it reads.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** In this order; a class that is not named follows, before D1. */
const classes = ['Admission', 'Ledger', 'Access', 'Throttle'];
/** Hubs store nothing, and there are many. */
const empty = /-(ControlHub|DataHub)$/;

export interface CopiedFile {
  /** Below the state directory. */
  path: string;
  bytes: number;
  /** Hexadecimal. */
  sha256: string;
}

/** Paths of every SQLite file that holds state, in the order in which they have to be copied. */
export function stateFiles(state: string): string[] {
  const folders = sqliteFolders(state, 'do').sort((a, b) => rankOf(a) - rankOf(b));
  return [...folders, ...sqliteFolders(state, 'd1')].flatMap((folder) =>
    readdirSync(join(state, folder))
      .filter((name) => name.endsWith('.sqlite'))
      .sort(metadataLast)
      .map((name) => join(folder, name)),
  );
}

/** `metadata.sqlite` holds the alarms of a class; they are set anew from the objects when a copy is put back. */
const metadataLast = (a: string, b: string) =>
  Number(a.startsWith('metadata')) - Number(b.startsWith('metadata')) || (a < b ? -1 : 1);

function sqliteFolders(state: string, kind: 'do' | 'd1'): string[] {
  const folder = join(state, kind);
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !empty.test(entry.name))
    .map(({ name }) => join(kind, name));
}

function rankOf(folder: string): number {
  const at = classes.findIndex((name) => folder.endsWith(`-${name}`));
  return at === -1 ? classes.length : at;
}

/** Copies one file. @throws Error with its name */
export async function copyFile(state: string, path: string, to: string): Promise<CopiedFile> {
  const target = join(to, path);
  mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
  try {
    const database = new DatabaseSync(join(state, path), { readOnly: true, timeout: 30_000 });
    try {
      database.prepare('VACUUM INTO ?').run(target);
    } finally {
      database.close();
    }
  } catch (error) {
    throw new Error(`${join(state, path)} can not be copied: ${(error as Error).message}`, { cause: error });
  }
  return { path, bytes: statSync(target).size, sha256: await sha256Of(target) };
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

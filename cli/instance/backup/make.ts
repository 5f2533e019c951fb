/** Makes one backup file of a home, whether it runs or not. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { CliFailure } from '../../exit.ts';
import { writeArchive } from './archive.ts';
import type { Manifest } from './manifest.ts';
import { takeSnapshot } from './snapshot.ts';

const suffix = '.causeway-backup';
/** What a backup that is not written yet is gathered in. */
const unfinished = '.unfinished-backup-';
/** None takes longer. */
const unfinishedMs = 24 * 3_600_000;

export interface Made {
  file: string;
  bytes: number;
  manifest: Manifest;
}

/** Where backups of a home lie when nobody says otherwise. */
export const backupsFolder = (home: string): string => join(home, 'backups');

/** `target`: a file that is not there yet, or a folder. `say` hears how far it is. @throws CliFailure */
export async function makeBackup(home: string, target: string, say: (text: string) => void): Promise<Made> {
  const file = nameFile(target);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  sweepUnfinished(dirname(file));
  const staging = mkdtempSync(join(dirname(file), unfinished));
  try {
    const manifest = await takeSnapshot(home, staging, say);
    say('writing the archive');
    await writeArchive(file, manifest, staging);
    return { file, bytes: statSync(file).size, manifest };
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** What was killed left state and root keys behind. Others may be at work in the same folder, also from other machines. */
function sweepUnfinished(folder: string): void {
  for (const name of readdirSync(folder).filter((each) => each.startsWith(unfinished))) {
    const madeAtMs = statSync(join(folder, name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (madeAtMs < Date.now() - unfinishedMs) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function nameFile(target: string): string {
  const isFolder = target.endsWith('/') || statSync(target, { throwIfNoEntry: false })?.isDirectory() === true;
  const stamp = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '');
  const file = resolve(isFolder ? join(target, `${stamp}${suffix}`) : target);
  if (existsSync(file)) throw new CliFailure(`${file} is there already`, { hint: 'name another file, or a folder' });
  return file;
}

/** Removes all but the newest `keep` backups of a folder that were named by their time. Returns how many went. */
export function pruneBackups(folder: string, keep: number): number {
  const old = readdirSync(folder)
    .filter((name) => /^\d{8}T\d{6}Z\.causeway-backup$/.test(name))
    .sort()
    .slice(0, -keep);
  for (const name of old) rmSync(join(folder, name));
  return old.length;
}

/** `causeway backup`: the whole control plane of this machine in one file, while it runs. */
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { wholeNumber } from '../../options.ts';
import { bytesText } from '../../terminal/table.ts';
import { WaitingLine } from '../../terminal/waiting.ts';
import { takeLock } from '../lock.ts';
import { readSettings } from '../settings.ts';
import { backupsFolder, type Made, makeBackup, pruneBackups } from './make.ts';

interface Options {
  keep?: string;
  json?: boolean;
}

/** Registers `backup`. */
export function registerBackup(program: Command): void {
  program
    .command('backup')
    .description(
      'copy the control plane of this machine into one file, also while it runs (the file holds its root keys)',
    )
    .argument('[place]', 'a new file, or a folder; default: backups/ in its home')
    .option('--keep <count>', 'then remove all but the newest of these in the folder')
    .option('--json', 'say what was written as JSON')
    .action(backup);
}

async function backup(place: string | undefined, { keep, json }: Options): Promise<void> {
  const kept = keep === undefined ? undefined : wholeNumber('--keep', keep, [1, 10_000]);
  const { home } = readSettings();
  const waiting = new WaitingLine(json === true);
  // A supervisor that runs has the lock, and keeps a restore out; where none does, this command is in its place.
  const release = await takeLock(home, 0);
  try {
    const made = await makeBackup(home, place ?? `${backupsFolder(home)}/`, (text) => waiting.say(text));
    waiting.done();
    const removed = kept === undefined ? 0 : pruneBackups(dirname(made.file), kept);
    process.stdout.write(json ? `${JSON.stringify(toJson(made, removed))}\n` : `${made.file}\n`);
    if (!json) process.stderr.write(summary(made, removed));
  } finally {
    waiting.done();
    release?.();
  }
}

function toJson({ file, bytes, manifest }: Made, removed: number) {
  const { madeAtMs, instance, version, parts } = manifest;
  return { file, bytes, madeAtMs, instance, release: version.release, parts: parts.length, removed };
}

function summary({ bytes, manifest }: Made, removed: number): string {
  const gone = removed === 0 ? '' : `; ${removed} older ${removed === 1 ? 'one was' : 'ones were'} removed`;
  const at = new Date(manifest.madeAtMs).toISOString();
  return `${manifest.parts.length} files of ${at}, ${bytesText(bytes)}${gone}. It holds root keys: keep it as you keep them.\n`;
}

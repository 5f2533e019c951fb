/**
 * Puts unpacked files in the place of a home's state, and keeps the former state aside. A mark says how far it is, so that
 * a restore that was cut is begun again by the same command, and never loses the state that it replaces.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { CliFailure } from '../../exit.ts';
import { findJson, writeJson } from '../files.ts';
import { agentFiles, edgeFiles } from './home-files.ts';

/** What a restore replaces. The agent of this machine stays as it is: its containers went on. */
const replaced = ['edge', 'redis', ...edgeFiles];

/** Output that agents handed over. No backup has it, no agent sends it again, and what is there never changes: it stays. */
const stays = join('edge', 'r2');

const Mark = z.strictObject({
  phase: z.enum(['aside', 'in', 'mending']),
  /** Folder of the former state, below the home. */
  aside: z.string().regex(/^state\.before-restore-[0-9TZ]+$/),
});
type Mark = z.infer<typeof Mark>;
const markFile = (home: string) => join(home, 'restore.json');

/** A restore that was cut. */
export function findCutRestore(home: string): Mark | undefined {
  return existsSync(home) ? findJson(markFile(home), Mark) : undefined;
}

/** Refuses to open a home in which a restore was cut. @throws CliFailure */
export function refuseCutRestore(home: string): void {
  if (!findCutRestore(home)) return;
  throw new CliFailure(`a restore of ${home} was cut before its end`, {
    hint: 'type it again: causeway restore FILE',
  });
}

/** Replaces the state by what lies in `fresh`. Returns the folder of the former state, which may be empty. */
export function swapState(home: string, fresh: string): string {
  const cut = findCutRestore(home);
  const stamp = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '');
  const aside = cut?.aside ?? `state.before-restore-${stamp}`;
  mkdirSync(join(home, aside), { recursive: true, mode: 0o700 });
  if (cut === undefined || cut.phase === 'aside') {
    note(home, { phase: 'aside', aside });
    for (const name of replaced) move(join(home, name), join(home, aside, name));
  }
  note(home, { phase: 'in', aside });
  // An attempt before this one had brought it back already.
  if (!existsSync(join(home, aside, stays))) move(join(home, stays), join(home, aside, stays));
  for (const name of replaced) {
    rmSync(join(home, name), { recursive: true, force: true }); // of an attempt before this one
    move(join(fresh, name), join(home, name));
  }
  move(join(home, aside, stays), join(home, stays));
  // Of a backup without TLS the keys here stay: they are what others have pinned.
  if (existsSync(join(fresh, 'tls'))) {
    if (!existsSync(join(home, aside, 'tls'))) move(join(home, 'tls'), join(home, aside, 'tls'));
    rmSync(join(home, 'tls'), { recursive: true, force: true });
    move(join(fresh, 'tls'), join(home, 'tls'));
  }
  for (const name of agentFiles) if (!existsSync(join(home, name))) move(join(fresh, name), join(home, name));
  note(home, { phase: 'mending', aside });
  return join(home, aside);
}

/** The restore is complete. */
export function endRestore(home: string): void {
  rmSync(markFile(home), { force: true });
}

function note(home: string, mark: Mark): void {
  writeJson(markFile(home), mark);
}

function move(from: string, to: string): void {
  if (!existsSync(from)) return;
  mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
  renameSync(from, to);
}

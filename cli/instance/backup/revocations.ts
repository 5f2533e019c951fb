/**
 * Who was shut out after a backup was made. The state that the restore replaces knows it; where that can not be read, the
 * journal that the edge keeps beside its state does (tokens, users and agents that were shut out one by one).
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { Revocations } from '../../../schema/api/recovery.ts';
import { CliFailure } from '../../exit.ts';
import { runProgram } from './program.ts';

export const journalName = 'revocations.ndjson';
const Noted = z.object({ atMs: z.int(), subject: z.string(), revoked: z.boolean() });

/** `state`: the edge's state that was put aside. `journals`: files of the journal, of this machine and from elsewhere. */
export async function findRevocations(state: string, journals: readonly string[]): Promise<Revocations> {
  const former = await readFormer(state);
  const noted = journals.filter((file) => existsSync(file)).flatMap(readJournal);
  return former ? merge(former, noted, false) : merge({ tokens: [], users: [], agents: [] }, noted, true);
}

async function readFormer(state: string): Promise<Revocations | undefined> {
  if (!existsSync(state)) return undefined;
  let found: Revocations | undefined;
  try {
    await runProgram(['edge/serve/snapshot/index.ts', 'revoked', '--state', state], (line) => {
      if (line.msg === 'revoked') found = Revocations.parse(line['revoked']);
    });
  } catch (error) {
    process.stderr.write(
      `warning: the former state can not be read (${(error as Error).message}): its journal is believed\n`,
    );
  }
  return found;
}

function readJournal(file: string): z.infer<typeof Noted>[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .flatMap((line) => {
      // A crash may have torn the last line.
      try {
        return [Noted.parse(JSON.parse(line))];
      } catch {
        return [];
      }
    });
}

/**
 * Each once: most stand in the former state and in the journal. A user who was let in again is in: of users, the former
 * state knows better than the journal.
 */
function merge(known: Revocations, noted: readonly z.infer<typeof Noted>[], withUsers: boolean): Revocations {
  const last = new Map(noted.map((each) => [each.subject, each]));
  const revoked = [...last.values()].filter((each) => each.revoked);
  const dated = (prefix: string, listed: Revocations['tokens']) => {
    const own = revoked.filter(({ subject }) => subject.startsWith(prefix));
    const byId = new Map(own.map(({ subject, atMs }) => [subject, atMs]));
    for (const { id, atMs } of listed) byId.set(id, atMs);
    return Array.from(byId, ([id, atMs]) => ({ id, atMs }));
  };
  return {
    tokens: dated('tok_', known.tokens),
    users: withUsers ? dated('usr_', []).map(({ id }) => id) : known.users,
    agents: dated('agt_', known.agents),
  };
}

/** A journal from elsewhere. @throws CliFailure when there is none */
export function requireJournal(file: string): string {
  if (!existsSync(file))
    throw new CliFailure(`there is no file ${file}`, { hint: `--revocations /mnt/backups/${journalName}` });
  return file;
}

/** The journal of a home. */
export const journalOf = (home: string): string => join(home, journalName);

/**
 * The far end of `rsync -e ssh`. A client starts `rsync --server` by the shell of the session, so the image's own rsync
 * comes first; where it has none, the one that the agent found on its machine does, and where there is no shell either
 * the words of the line are found here.
 */
import type { ProcessExit } from '../output/process-record.ts';
import { AttendedProcess } from '../processes/attended.ts';
import { inside } from '../runtime/docker-spec.ts';
import type { Session } from '../sessions/session.ts';
import type { SshOf } from './of.ts';
import { splitWords } from './words.ts';

/** Of a shell that could not be started (the init's word for that). */
const noShell: ReadonlySet<number | undefined> = new Set([126, 127]);
/** How the question below is answered. */
const answers = { own: 0, tools: 10, neither: 11 } as const;
const question = `command -v rsync >/dev/null 2>&1 && exit ${answers.own}; [ -x "$1" ] && exit ${answers.tools}; exit ${answers.neither}`;

const remedy = 'use scp, sftp or causeway cp';
const noneHere = `neither the image nor its machine has rsync: install it there (apt-get install rsync), or ${remedy}`;
const tooOld = `the image has no rsync, and the session runs since before its agent could bring one: start a new session, or ${remedy}`;
const needsShell = `the image has no shell, which this line needs: name files without wildcards, or ${remedy}`;

/** What is started, or why nothing is. `path` is a directory behind all others of `PATH`. */
export type RsyncServer =
  | { kind: 'shell'; path?: string }
  | { kind: 'direct'; argv: string[] }
  | { kind: 'none'; why: string };

export function isRsyncServer(command: string): boolean {
  return /^rsync --server(?: |$)/.test(command);
}

/** Finds the rsync that serves `command` in `session`. @throws Refusal when its processes can not be asked */
export async function findRsync(command: string, session: Session, of: SshOf): Promise<RsyncServer> {
  const name = await of.gatherRsync();
  const tools = name === undefined ? undefined : `${inside.tools}/${name}`;
  const exit = await ask(['/bin/sh', '-c', question, 'sh', `${tools ?? ''}/bin/rsync`], session, of);
  if (exit?.exitCode === answers.own) return { kind: 'shell' };
  if (tools === undefined) return { kind: 'none', why: noneHere };
  if (exit?.exitCode === answers.tools) return { kind: 'shell', path: `${tools}/bin` };
  if (!noShell.has(exit?.exitCode)) return { kind: 'none', why: tooOld };
  const words = splitWords(command);
  if (words === undefined) return { kind: 'none', why: needsShell };
  return {
    kind: 'direct',
    argv: [`${tools}/loader`, '--library-path', `${tools}/lib`, `${tools}/rsync`, ...words.slice(1)],
  };
}

async function ask(argv: string[], session: Session, of: SshOf): Promise<ProcessExit | undefined> {
  const asking = new AttendedProcess(session, of, { argv });
  await asking.start();
  return asking.follow(() => Promise.resolve());
}

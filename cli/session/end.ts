/** `causeway stop`, `rm` and `inspect`. */
import type { Command } from 'commander';
import { SessionHistory } from '../../schema/api/session.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { durationSeconds } from '../options.ts';
import { findSession } from './find.ts';
import { waitForSession } from './wait.ts';

/** Registers `stop`. */
export function registerStop(program: Command): void {
  program
    .command('stop')
    .description('ask sessions to stop, and wait until they have')
    .argument('<sessions...>', 'names or ids')
    .option('--grace <time>', 'time to end by itself before it is killed', '10s')
    .option('-f, --force', 'kill at once')
    .option('--no-wait', 'do not wait')
    .action(stopSessions);
}

/** Registers `rm`. */
export function registerRemove(program: Command): void {
  program
    .command('rm')
    .description('remove ended sessions: their home and kept output go at once')
    .argument('<sessions...>', 'names or ids')
    .option('-f, --force', 'live ones too: kill them first')
    .action(removeSessions);
}

/** Registers `inspect`. */
export function registerInspect(program: Command): void {
  program
    .command('inspect')
    .description('all that is known of a session, with its history, as JSON')
    .argument('<session>', 'name or id')
    .action(inspectSession);
}

async function stopSessions(
  names: string[],
  options: { grace: string; force?: boolean; wait: boolean },
): Promise<void> {
  const graceMs = durationSeconds('--grace', options.grace, [0, 3600]) * 1000;
  const api = new Api();
  for (const name of names) {
    const session = await findSession(api, name);
    if (!isTerminal(session.state))
      await api.raw('DELETE', `/v1/sessions/${session.id}`, { query: { graceMs, force: Boolean(options.force) } });
    if (options.wait) await waitForSession(api, session.id, () => false, { quiet: false });
    process.stdout.write(`${session.name}\n`);
  }
}

async function removeSessions(names: string[], options: { force?: boolean }): Promise<void> {
  const api = new Api();
  for (const name of names) {
    const session = await findSession(api, name);
    if (!isTerminal(session.state) && !options.force)
      throw new CliFailure(`${session.name} is ${session.state.toLowerCase()}`, {
        hint: `causeway rm -f ${session.name}   or: causeway stop ${session.name}`,
      });
    await api.raw('DELETE', `/v1/sessions/${session.id}`, { query: { force: true, purge: true } });
    process.stdout.write(`${session.name}\n`);
  }
}

async function inspectSession(name: string): Promise<void> {
  const api = new Api();
  const session = await findSession(api, name);
  const history = await api.json(SessionHistory, 'GET', `/v1/sessions/${session.id}/history`);
  process.stdout.write(`${JSON.stringify({ ...session, history: history.items }, null, 2)}\n`);
}

/** `causeway ps`: sessions in a table, or as JSON; `-w` keeps the table current. */
import type { Command } from 'commander';
import { SessionPage, type Session } from '../../schema/api/session.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { CliFailure } from '../exit.ts';
import { Api, unreachableCode } from '../http/api.ts';
import { wholeNumber } from '../options.ts';
import { bytesText, durationText, paint, plain, printTable } from '../terminal/table.ts';
import { waitingFor } from './wait.ts';

interface ListOptions {
  all?: boolean;
  watch?: boolean;
  json?: boolean;
  state?: string;
  type?: string;
  name?: string;
  owner?: string;
  project?: string;
  limit: string;
}
const typed = { state: '--state', type: '--type', name: '--name', owner: '--owner', project: '--project' };
const watchEveryMs = 1000;
const maxWhatColumns = 60;

/** Registers `ps`. */
export function registerList(program: Command): void {
  program
    .command('ps')
    .description('list sessions (live ones; -a also ended ones)')
    .option('-a, --all', 'ended ones too')
    .option('-w, --watch', 'keep the table current')
    .option('--state <states>', 'only these states, comma-separated')
    .option('--type <type>', 'interactive or batch')
    .option('--name <prefix>', 'only names that start so')
    .option('--owner <user>', 'only of this user id, or "me"')
    .option('--project <project>', 'only of this project')
    .option('--limit <n>', 'at most this many', '100')
    .option('--json', 'as JSON')
    .action(listSessions);
}

async function listSessions(options: ListOptions): Promise<void> {
  const api = new Api();
  for (;;) {
    const sessions = await fetchSessions(api, options).catch((error: unknown) => {
      if (!options.watch || !(error instanceof CliFailure) || error.code !== unreachableCode) throw error;
      process.stderr.write(`causeway: ${error.message}; trying again ...\n`); // out of reach: it may come back
      return undefined;
    });
    if (sessions === undefined) continue;
    if (options.watch && process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[2J');
    if (options.json) process.stdout.write(`${JSON.stringify(sessions)}\n`);
    else printSessions(sessions, Boolean(options.all));
    if (!options.watch) return;
    await new Promise((resolve) => setTimeout(resolve, watchEveryMs));
  }
}

async function fetchSessions(api: Api, options: ListOptions): Promise<Session[]> {
  const wanted = wholeNumber('--limit', options.limit, [1, 100_000]);
  const query = {
    limit: Math.min(200, wanted),
    state: options.state ?? (options.all ? undefined : 'live'),
    type: options.type,
    name: options.name,
    owner: options.owner,
    project: options.project,
  };
  const found: Session[] = [];
  for await (const session of api.items(SessionPage, '/v1/sessions', { query, typed }))
    if (found.push(session) >= wanted) break;
  return found;
}

function printSessions(sessions: readonly Session[], all: boolean): void {
  if (sessions.length === 0) {
    process.stdout.write(
      all
        ? 'no sessions yet. Start one: causeway run --image causeway/python -- python3 -c "print(1)"\n'
        : 'no live sessions (causeway ps -a shows ended ones)\n',
    );
    return;
  }
  const now = Date.now();
  printTable(
    ['name', 'id', 'state', 'image', 'resources', 'agent', 'age', 'what'].map((each) => each.toUpperCase()),
    sessions.map((each) => [
      plain(each.name),
      each.id,
      stateText(each),
      plain(each.image),
      `${(each.resources['cpu'] ?? 0) / 1000} cpu ${bytesText(each.resources['mem'] ?? 0)}`,
      plain(each.agentName ?? '-'),
      durationText(now - each.createdAtMs),
      whatText(each),
    ]),
    { spare: ['ID', 'RESOURCES', 'IMAGE'] },
  );
}

function stateText(session: Session): string {
  if (session.state === 'RUNNING') return paint('green', session.state);
  if (session.state === 'ERROR' || session.state === 'UNREACHABLE') return paint('red', session.state);
  return isTerminal(session.state) ? paint('grey', session.state) : paint('yellow', session.state);
}

function whatText(session: Session): string {
  const text = longWhatText(session);
  return text.length > maxWhatColumns ? `${text.slice(0, maxWhatColumns - 3)}...` : text;
}

function longWhatText(session: Session): string {
  const result = session.result;
  if (result !== undefined) {
    if (result.signal !== undefined) return `${result.reason} (${result.signal})`;
    return result.exitCode === undefined ? result.reason : `${result.reason} ${result.exitCode}`;
  }
  if (session.state === 'RUNNING') return plain((session.command ?? []).join(' '));
  return waitingFor(session);
}

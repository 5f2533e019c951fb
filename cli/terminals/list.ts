/** `causeway terminals`: the terminals of a session in a table, or as JSON; closes one. */
import type { Command } from 'commander';
import { TerminalList } from '../../schema/api/terminal.ts';
import type { Terminal } from '../../schema/api/terminal-parts.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { findSession } from '../session/find.ts';
import { bytesText, durationText, plain, printTable } from '../terminal/table.ts';

interface TerminalsOptions {
  close?: string;
  json?: boolean;
}

/** Registers `terminals`. */
export function registerTerminals(program: Command): void {
  program
    .command('terminals')
    .description('list terminals of a session')
    .option('--close <id>', 'hang this one up; the last characters of its id will do')
    .option('--json', 'as JSON')
    .argument('<session>', 'name or id')
    .action(listTerminals);
}

async function listTerminals(name: string, options: TerminalsOptions): Promise<void> {
  const api = new Api();
  const session = await findSession(api, name);
  const path = `/v1/sessions/${session.id}/terminals`;
  const { items } = await api.json(TerminalList, 'GET', path);
  if (options.close === undefined) return print(items, options.json === true);
  const { close } = options;
  const found = items.filter(({ id }) => id.endsWith(close));
  if (found.length !== 1)
    throw new CliFailure(
      `${found.length === 0 ? 'no terminal' : `${found.length} terminals`} of ${session.name} end in ${close}`,
      {
        hint: `causeway terminals ${session.name}`,
        code: 'terminal_not_found',
      },
    );
  await api.raw('DELETE', `${path}/${found[0]!.id}`);
}

function print(items: readonly Terminal[], asJson: boolean): void {
  if (asJson) {
    process.stdout.write(`${JSON.stringify(items)}\n`);
    return;
  }
  printTable(
    ['ID', 'STATE', 'SIZE', 'VIEWERS', 'OUTPUT', 'AGE', 'COMMAND'],
    items.map(({ id, state, exit, window, viewers, outputBytes, startedAtMs, argv }) => [
      id,
      state === 'running' ? state : `ended (${exit?.exitCode ?? exit?.signal ?? exit?.reason ?? ''})`,
      `${window.columns}x${window.rows}`,
      String(viewers),
      bytesText(outputBytes),
      durationText(Date.now() - startedAtMs),
      plain(argv.join(' ')),
    ]),
    { spare: ['OUTPUT', 'AGE', 'SIZE'] },
  );
}

/** `causeway terminals`: the terminals of a session in a table, or as JSON; closes one. */
import type { Command } from 'commander';
import type { Terminal } from '../../schema/api/terminal-parts.ts';
import { Api } from '../http/api.ts';
import { findSession } from '../session/find.ts';
import { pickTerminal, terminalsOf } from './find.ts';
import { registerSharing } from './share.ts';
import { bytesText, durationText, plain, printTable } from '../terminal/table.ts';

interface TerminalsOptions {
  close?: string;
  json?: boolean;
}

/** Registers `terminals`. */
export function registerTerminals(program: Command): void {
  const terminals = program
    .command('terminals')
    .helpCommand(false)
    .description('list terminals of a session')
    .option('--close <id>', 'hang this one up: its name, or the last characters of its id')
    .option('--json', 'as JSON')
    .argument('<session>', 'name or id')
    .action(listTerminals);
  registerSharing(terminals);
}

async function listTerminals(name: string, options: TerminalsOptions): Promise<void> {
  const api = new Api();
  const session = await findSession(api, name);
  const items = await terminalsOf(api, session);
  if (options.close === undefined) return print(items, options.json === true);
  const { id } = pickTerminal(items, session, options.close);
  await api.raw('DELETE', `/v1/sessions/${session.id}/terminals/${id}`);
}

function print(items: readonly Terminal[], asJson: boolean): void {
  if (asJson) {
    process.stdout.write(`${JSON.stringify(items)}\n`);
    return;
  }
  printTable(
    ['ID', 'NAME', 'STATE', 'SIZE', 'VIEWERS', 'OUTPUT', 'AGE', 'COMMAND'],
    items.map(({ id, name, state, exit, window, viewers, outputBytes, startedAtMs, argv }) => [
      id,
      name ?? '',
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

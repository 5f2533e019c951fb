/** `causeway exec`: one more process in a running session. */
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { newId } from '../../schema/ids.ts';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { refuseOption } from '../options.ts';
import { ProcessFollower, processTarget, statusOf } from '../process/follow.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import {
  answersRead,
  filterFor,
  followWindow,
  localIo,
  onInterrupts,
  readLocalInput,
  windowSize,
} from '../process/local-io.ts';
import { dialSession } from '../tunnel/dial.ts';
import { findSession } from './find.ts';

interface ExecOptions {
  interactive?: boolean;
  tty?: boolean;
  env?: string[];
  workdir?: string;
  unsafeOutput?: boolean;
}

const collect = (value: string, previous: string[] = []) => [...previous, value];

/** Registers `exec`. */
export function registerExec(program: Command): void {
  program
    .command('exec')
    .description('run one more command in a running session')
    .passThroughOptions()
    .option('-i, --interactive', 'pass standard input')
    .option('-t, --tty', 'give the command a terminal')
    .option('-e, --env <name=value>', 'set a variable', collect)
    .option('-w, --workdir <dir>', 'start in this directory')
    .option('--unsafe-output', 'with -t: let through what reaches beyond the screen (clipboard, titles, any link)')
    .argument('<session>', 'name or id')
    .argument('<command...>', 'the command')
    .action(execCommand);
}

async function execCommand(name: string, command: string[], options: ExecOptions): Promise<void> {
  const argv = command[0] === '--' ? command.slice(1) : command;
  if (argv.length === 0) throw new CliFailure('there is no command to run', { status: exitStatus.usage });
  if (options.tty && !process.stdin.isTTY)
    throw new CliFailure('-t needs a terminal on standard input', { status: exitStatus.usage, hint: 'leave -t out' });
  const api = new Api();
  const session = await findSession(api, name);
  const input = options.interactive || options.tty ? new InputLog() : undefined;
  const processId = newId('process', Date.now(), randomBytes(10));
  const filter = options.tty ? filterFor({ unsafe: options.unsafeOutput === true, queries: true }) : undefined;
  const follower = new ProcessFollower(
    dialSession(api, session.id, 'exec'),
    processTarget(processId, spawnOf(argv, options), input),
    localIo(false, filter),
  );
  const leave = () => follower.detach();
  const endInput =
    input === undefined ? undefined : readLocalInput(input, { raw: Boolean(options.tty), onDetach: leave });
  const endWindow = options.tty ? followWindow(follower) : undefined;
  const unhook = options.tty
    ? () => undefined
    : onInterrupts(() => void follower.control({ kind: 'signal', signal: 'INT' }), leave);
  try {
    const end = await follower.run();
    process.exitCode = end === undefined ? 130 : statusOf(end);
  } finally {
    unhook();
    endWindow?.();
    await answersRead(filter);
    endInput?.();
  }
}

function spawnOf(argv: string[], options: ExecOptions): ProcessSpawn {
  const env: Record<string, string> = options.tty ? { TERM: process.env['TERM'] ?? 'xterm-256color' } : {};
  for (const pair of options.env ?? []) {
    const at = pair.indexOf('=');
    if (at < 1) throw refuseOption('-e', pair, 'must be a name and a value', 'NAME=VALUE');
    env[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return {
    argv,
    env,
    ...(options.workdir === undefined ? {} : { cwd: options.workdir }),
    ...(options.tty ? { tty: windowSize() } : {}),
    stdin: Boolean(options.interactive || options.tty),
  };
}

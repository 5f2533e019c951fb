/** `causeway run`: starts a session, passes standard input, shows its output, and ends as its command ended. */
import { fstatSync } from 'node:fs';
import type { Command } from 'commander';
import { Session } from '../../schema/api/session.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { awaitImage } from '../instance/await-image.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { answersRead, filterFor, followWindow, localIo, onInterrupts, readLocalInput } from '../process/local-io.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import { ProcessFollower, processTarget, statusOf, type ProcessEnd } from '../process/follow.ts';
import { dialSession } from '../tunnel/dial.ts';
import { createSession, neverRan, newSessionBody, type SessionOptions } from './new-session.ts';
import { waitForSession } from './wait.ts';

interface RunOptions extends SessionOptions {
  interactive?: boolean;
  tty?: boolean;
  detach?: boolean;
  rm?: boolean;
  quiet?: boolean;
  kernel?: string;
  output?: string;
  session?: string;
  resume?: boolean;
  allowErrors?: boolean;
  unsafeOutput?: boolean;
}
const collect = (value: string, previous: string[] = []) => [...previous, value];

/** Registers `run`. */
export function registerRun(program: Command): void {
  program
    .command('run')
    .description('start a session and run a command in it')
    .passThroughOptions()
    .option('-i, --interactive', 'pass standard input even from a terminal')
    .option('-t, --tty', 'give the command a terminal')
    .option('-d, --detach', 'print the session name and leave it running')
    .option('--rm', 'remove the session, its home and its output when the command ends')
    .option('-e, --env <name=value>', 'set a variable (NAME alone takes it from here)', collect)
    .option('--cpu <cores>', 'processor cores, for example 0.5')
    .option('--mem <size>', 'memory, for example 512m or 4g')
    .option('--gpu <n>', 'GPUs')
    .option('--image <image>', 'image', 'causeway/python')
    .option('--name <name>', 'name of the session')
    .option('--project <project>', 'project to charge')
    .option('--resource-group <group>', 'group of machines')
    .option('--timeout <time>', 'end it after this long: 90s, 15m, 2h')
    .option('--restartable', 'place it again on another machine when its machine is lost')
    .option('--lease <time>', 'the same, when that machine was out of reach for so long: 1m to 24h (10m)')
    .option('--unsafe-output', 'with -t: let through what reaches beyond the screen (clipboard, titles, any link)')
    .option('-q, --quiet', 'only the command speaks')
    .option(
      '--kernel <kernel>',
      'run a notebook cell by cell, by a language or a kernelspec: run --kernel python train.ipynb',
    )
    .option('-o, --output <file>', 'with --kernel: where the executed notebook goes (default: NAME.executed.ipynb)')
    .option('--session <session>', 'with --kernel: in this session instead of a new one')
    .option('--resume', 'with --kernel: go on with a notebook whose run was left or cut off')
    .option('--allow-errors', 'with --kernel: go on behind a cell with an error')
    .argument('[command...]', 'the command; without one an idle session is started (with -d)')
    .action(runSession);
}

async function runSession(command: string[], options: RunOptions): Promise<void> {
  const argv = command[0] === '--' ? command.slice(1) : command;
  const { kernel } = options;
  if (kernel !== undefined)
    return (await import('../kernel/run-notebook.ts')).runNotebook(argv, { ...options, kernel });
  if (argv.length === 0 && !options.detach)
    throw new CliFailure('there is no command to run', {
      status: exitStatus.usage,
      hint: 'causeway run -it -- bash   or, for an idle session: causeway run -d',
    });
  if (options.detach && options.rm)
    throw new CliFailure('--rm removes the session behind its command, and -d does not wait for that', {
      status: exitStatus.usage,
      hint: 'leave one of them out',
    });
  if (options.tty && !process.stdin.isTTY)
    throw new CliFailure('-t needs a terminal on standard input', { status: exitStatus.usage, hint: 'leave -t out' });
  const api = new Api();
  const takesInput = argv.length > 0 && wantsInput(options);
  const body = newSessionBody({ argv, takesInput, tty: Boolean(options.tty) }, options);
  await awaitImage(api.context.url, options.image, Boolean(options.quiet));
  const created = await createSession(api, body);
  const end = await attachMain(api, created, options, takesInput);
  if (end === undefined) return;
  if (options.rm) await api.raw('DELETE', `/v1/sessions/${created.id}`, { query: { force: true, purge: true } });
  process.exitCode = statusOf(end);
  if (!options.quiet && end.reason !== 'exited')
    process.stderr.write(`causeway: ${created.name} ended: ${end.reason}\n`);
}

/** Standard input goes along when asked to, and whenever it is a file or a pipe. */
function wantsInput(options: RunOptions): boolean {
  if (options.interactive || options.tty) return true;
  try {
    const stat = fstatSync(0);
    return stat.isFile() || stat.isFIFO() || stat.isSocket();
  } catch {
    return false;
  }
}

/** Follows the main process; undefined when this client left and the session goes on. */
async function attachMain(
  api: Api,
  created: Session,
  options: RunOptions,
  takesInput: boolean,
): Promise<ProcessEnd | undefined> {
  const quiet = Boolean(options.quiet);
  if (options.detach && !takesInput) {
    process.stdout.write(`${created.name}\n`);
    return undefined;
  }
  const abandoned = new AbortController();
  const leave = () => {
    const look = options.tty ? 'attach' : 'logs -f';
    if (!quiet) process.stderr.write(`causeway: ${created.name} goes on; see it: causeway ${look} ${created.name}\n`);
    abandoned.abort();
  };
  const ask = () => {
    if (!quiet) process.stderr.write(`causeway: asked ${created.name} to stop; Ctrl-C again leaves it alone\n`);
    void api.raw('DELETE', `/v1/sessions/${created.id}`).catch(() => undefined);
  };
  const unhook = options.tty ? () => undefined : onInterrupts(ask, leave);
  try {
    const placed = await waitForSession(api, created.id, (each) => each.state === 'RUNNING', {
      quiet,
      signal: abandoned.signal,
    });
    if (placed.state === 'ERROR' || placed.state === 'CANCELLED') throw neverRan(placed);
    return await followMain(api, placed, options, takesInput, abandoned.signal, leave);
  } catch (error) {
    if (abandoned.signal.aborted) {
      process.exitCode = 130;
      return undefined;
    }
    throw error;
  } finally {
    unhook();
  }
}

async function followMain(
  api: Api,
  session: Session,
  options: RunOptions,
  takesInput: boolean,
  abandoned: AbortSignal,
  leave: () => void,
): Promise<ProcessEnd | undefined> {
  const raw = Boolean(options.tty);
  const input = takesInput ? new InputLog() : undefined;
  const filter = raw ? filterFor({ unsafe: options.unsafeOutput === true, queries: true }) : undefined;
  const io = localIo(Boolean(options.quiet), filter);
  const target = processTarget('main', undefined, input);
  if (options.detach) target.onInputEnded = () => follower.detach();
  const follower = new ProcessFollower(dialSession(api, session.id, 'exec'), target, io);
  abandoned.addEventListener('abort', () => follower.detach());
  const endInput = input === undefined ? undefined : readLocalInput(input, { raw, onDetach: leave });
  const endWindow = raw ? followWindow(follower) : undefined;
  try {
    const end = await follower.run();
    if (end === undefined && options.detach) process.stdout.write(`${session.name}\n`);
    return end ?? (await endedBehindUs(api, session, abandoned));
  } finally {
    endWindow?.();
    await answersRead(filter);
    endInput?.();
  }
}

/** The follower gave up without an exit: left on purpose, or the session ended without its process being seen. */
async function endedBehindUs(api: Api, session: Session, abandoned: AbortSignal): Promise<ProcessEnd | undefined> {
  if (abandoned.aborted) process.exitCode = 130;
  const now = await api.json(Session, 'GET', `/v1/sessions/${session.id}`);
  if (abandoned.aborted || !isTerminal(now.state) || now.result === undefined) return undefined;
  return { exitCode: now.result.exitCode, signal: now.result.signal, reason: now.result.reason };
}

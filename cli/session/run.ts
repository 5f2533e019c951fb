/** `causeway run`: starts a session, passes standard input, shows its output, and ends as its command ended. */
import { randomUUID } from 'node:crypto';
import { fstatSync } from 'node:fs';
import type { Command } from 'commander';
import { Session, type NewSession } from '../../schema/api/session.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { awaitImage } from '../instance/await-image.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { hintFor } from '../http/hints.ts';
import { durationSeconds, refuseOption } from '../options.ts';
import { followWindow, localIo, onInterrupts, readLocalInput } from '../process/local-io.ts';
import { InputLog } from '../process/input-log.ts';
import { ProcessFollower, processTarget, statusOf, type ProcessEnd } from '../process/follow.ts';
import { plain } from '../terminal/table.ts';
import { dialSession } from '../tunnel/dial.ts';
import { waitForSession } from './wait.ts';

interface RunOptions {
  interactive?: boolean;
  tty?: boolean;
  detach?: boolean;
  rm?: boolean;
  env?: string[];
  cpu?: string;
  mem?: string;
  gpu?: string;
  image: string;
  name?: string;
  project?: string;
  resourceGroup?: string;
  timeout?: string;
  restartable?: boolean;
  quiet?: boolean;
}
/** Which option each field of the request comes from, for refusals. */
const typed = {
  name: '--name',
  project: '--project',
  image: '--image',
  command: 'the command',
  env: '-e',
  'resources.cpu': '--cpu',
  'resources.mem': '--mem',
  'resources.cuda.device': '--gpu',
  resourceGroup: '--resource-group',
};
const maxTimeoutSeconds = 31_536_000;
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
    .option('-q, --quiet', 'only the command speaks')
    .argument('[command...]', 'the command; without one an idle session is started (with -d)')
    .action(runSession);
}

async function runSession(command: string[], options: RunOptions): Promise<void> {
  const argv = command[0] === '--' ? command.slice(1) : command;
  if (argv.length === 0 && !options.detach)
    throw new CliFailure('there is no command to run', {
      status: exitStatus.usage,
      hint: 'causeway run -it -- bash   or, for an idle session: causeway run -d',
    });
  if (options.tty && !process.stdin.isTTY)
    throw new CliFailure('-t needs a terminal on standard input', { status: exitStatus.usage, hint: 'leave -t out' });
  const api = new Api();
  const takesInput = argv.length > 0 && wantsInput(options);
  const body = bodyOf(argv, options, takesInput);
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

function bodyOf(argv: readonly string[], options: RunOptions, takesInput: boolean): NewSession {
  const gpus = options.gpu === undefined ? {} : { 'cuda.device': options.gpu };
  const resources = {
    ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
    ...(options.mem === undefined ? {} : { mem: options.mem }),
    ...gpus,
  };
  return {
    type: options.tty || argv.length === 0 ? 'interactive' : 'batch',
    image: options.image,
    ...(argv.length === 0 ? {} : { command: [...argv] }),
    ...(takesInput ? { stdin: true } : {}),
    ...(options.tty ? { tty: true } : {}),
    env: environmentOf(options),
    ...(Object.keys(resources).length === 0 ? {} : { resources }),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.project === undefined ? {} : { project: options.project }),
    ...(options.resourceGroup === undefined ? {} : { resourceGroup: options.resourceGroup }),
    ...(options.timeout === undefined
      ? {}
      : { timeoutMs: Math.round(durationSeconds('--timeout', options.timeout, [1, maxTimeoutSeconds]) * 1000) }),
    ...(options.restartable ? { restartable: {} } : {}),
  };
}

function environmentOf(options: RunOptions): Record<string, string> {
  const env: Record<string, string> = options.tty ? { TERM: process.env['TERM'] ?? 'xterm-256color' } : {};
  for (const pair of options.env ?? []) {
    const at = pair.indexOf('=');
    if (at > 0) env[pair.slice(0, at)] = pair.slice(at + 1);
    else if (process.env[pair] !== undefined) env[pair] = process.env[pair];
    else if (at === 0) throw refuseOption('-e', pair, 'there is no name before =', 'NAME=VALUE');
    else
      throw new CliFailure(`-e ${plain(pair)}: it is not set here either`, {
        status: exitStatus.usage,
        hint: `-e ${plain(pair)}=VALUE`,
      });
  }
  return env;
}

async function createSession(api: Api, body: NewSession): Promise<Session> {
  try {
    return await api.json(Session, 'POST', '/v1/sessions', {
      body,
      typed,
      headers: { 'idempotency-key': randomUUID() },
    });
  } catch (error) {
    if (error instanceof CliFailure)
      throw new CliFailure(error.message, { hint: error.hint, code: error.code, status: exitStatus.notRun });
    throw error;
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
    if (!quiet) process.stderr.write(`causeway: ${created.name} goes on; see it: causeway logs -f ${created.name}\n`);
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

function neverRan(session: Session): CliFailure {
  const why = session.reason === undefined ? session.state : (session.reason.detail ?? session.reason.code);
  return new CliFailure(`${session.name} did not start: ${why}`, {
    status: exitStatus.notRun,
    code: session.reason?.code,
    hint: hintFor(session.reason?.code ?? '') ?? `causeway inspect ${session.name}`,
  });
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
  const io = localIo(Boolean(options.quiet));
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

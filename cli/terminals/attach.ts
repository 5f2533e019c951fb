/** `causeway attach`: this terminal as a view of one that goes on in a session. */
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import type { Session } from '../../schema/api/session.ts';
import { Terminal, terminalBounds, type TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { newId } from '../../schema/ids.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { statusOf } from '../process/follow.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import { filterFor, readLocalInput, windowSize } from '../process/local-io.ts';
import { findSession } from '../session/find.ts';
import { type Dialler, dialLink, dialSession } from '../tunnel/dial.ts';
import { pickTerminal, terminalsOf, usualTerminal } from './find.ts';
import { parseLink } from './link.ts';
import { emptyScreen, lastLine, leftScreen } from './modes.ts';
import { TerminalViewer, type ViewerIo } from './viewer.ts';

interface AttachOptions {
  link?: string;
  terminal?: string;
  new?: boolean;
  readOnly?: boolean;
  unsafeOutput?: boolean;
}

/** Registers `attach`. */
export function registerAttach(program: Command): void {
  program
    .command('attach')
    .description('look at a terminal of a session, and type into it; Ctrl-P Ctrl-Q leaves it, and it goes on')
    .passThroughOptions()
    .option(
      '--terminal <id>',
      'this one, by name or id (default: the main one, else the newest that runs, else a new shell)',
    )
    .option('--link <url>', 'the one that somebody shared, only to look at')
    .option('--new', 'a new one')
    .option('--read-only', 'only look')
    .option('--unsafe-output', 'let through what reaches beyond the screen (clipboard, titles, any link)')
    .argument('[session]', 'name or id')
    .argument('[command...]', 'what to run in a new one; a shell if left out')
    .action(attach);
}

async function attach(name: string | undefined, command: string[], options: AttachOptions): Promise<void> {
  const argv = command[0] === '--' ? command.slice(1) : command;
  const isMade = options.new === true || argv.length > 0;
  if (options.link !== undefined) return attachByLink(options.link, name === undefined && !isMade, options);
  if (name === undefined)
    throw new CliFailure('attach needs a session', { status: exitStatus.usage, hint: 'causeway attach SESSION' });
  const isReadOnly = options.readOnly === true;
  if (!process.stdin.isTTY && !isReadOnly)
    throw new CliFailure('attach needs a terminal on standard input', {
      status: exitStatus.usage,
      hint: '--read-only',
    });
  if (isReadOnly && isMade) throw new CliFailure('--read-only can not make a terminal', { status: exitStatus.usage });
  if (options.terminal !== undefined && isMade)
    throw new CliFailure('--terminal names one that is there', { status: exitStatus.usage, hint: 'leave it out' });
  const api = new Api();
  const session = await findSession(api, name);
  const terminal = await choose(api, session, argv, options);
  const dial = dialSession(api, session.id, `terminals/${terminal.id}`);
  const input = isReadOnly ? undefined : new InputLog();
  const { missedBytes, hasLeft } = await look(dial, terminal.id, input, options).catch((error: unknown) => {
    if (input === undefined || !(error instanceof CliFailure) || error.code !== 'access_denied') throw error;
    process.stderr.write('causeway: you may look at it, and not type; Ctrl-C leaves it\n');
    return look(dial, terminal.id, undefined, options);
  });
  tellMissed(missedBytes);
  if (hasLeft)
    process.stderr.write(
      `causeway: the terminal goes on; see it: causeway attach --terminal ${terminal.id.slice(-6)} ${session.name}\n`,
    );
}

/** Whoever has a link needs nothing else, and is signed in nowhere. */
async function attachByLink(link: string, isAlone: boolean, options: AttachOptions): Promise<void> {
  if (!isAlone || options.terminal !== undefined)
    throw new CliFailure('--link names the terminal: nothing else does', { status: exitStatus.usage });
  const { context, terminalId } = parseLink(link);
  const dial = dialLink(new Api(context), terminalId);
  const { missedBytes } = await look(dial, terminalId, undefined, options).catch((error: unknown) => {
    // Signing in would not help: the token is the link's own.
    if (!(error instanceof CliFailure) || error.code?.startsWith('auth_') !== true) throw error;
    const { status, code } = error;
    throw new CliFailure('the link is good no more', { status, code, hint: 'ask who shared it for another one' });
  });
  tellMissed(missedBytes);
}

/** Shows a terminal until it ends or is left. `input`: what is typed; undefined: nothing is. */
async function look(
  dial: Dialler,
  terminalId: string,
  input: InputLog | undefined,
  options: AttachOptions,
): Promise<{ missedBytes: number; hasLeft: boolean }> {
  const filter = () => filterFor({ unsafe: options.unsafeOutput === true, queries: false });
  const typing = input && { log: input, writer: randomBytes(12).toString('base64url') };
  const viewer = new TerminalViewer(
    dial,
    { terminalId, window: boundedWindow, ...(typing === undefined ? {} : { typing }) },
    localView(filter),
  );
  const leave = () => viewer.leave();
  const endInput = input === undefined ? readToLeave(leave) : readLocalInput(input, { raw: true, onDetach: leave });
  const resized = () => viewer.resized();
  process.stdout.on('resize', resized);
  process.on('SIGTERM', leave).on('SIGHUP', leave);
  try {
    const end = await viewer.run();
    process.exitCode = end === undefined ? 0 : statusOf(end);
    return { missedBytes: viewer.missedBytes, hasLeft: end === undefined };
  } finally {
    if (process.stdout.isTTY) process.stdout.write(leftScreen);
    process.stdout.off('resize', resized);
    process.off('SIGTERM', leave).off('SIGHUP', leave);
    endInput();
  }
}

/** `causeway attach NAME`: the main one or the newest that runs, else a new one. */
async function choose(api: Api, session: Session, argv: string[], options: AttachOptions): Promise<Terminal> {
  const path = `/v1/sessions/${session.id}/terminals`;
  if (options.new !== true && argv.length === 0) {
    const items = await terminalsOf(api, session);
    const { terminal: wanted } = options;
    const found = wanted === undefined ? usualTerminal(items) : pickTerminal(items, session, wanted);
    if (found !== undefined) return found;
    if (options.readOnly === true)
      throw new CliFailure(`${session.name} has no terminal that runs`, { hint: `causeway attach ${session.name}` });
  }
  const env = { TERM: process.env['TERM'] ?? 'xterm-256color' };
  // By its id a lost answer makes no second one.
  const id = newId('terminal', Date.now(), randomBytes(10));
  const body = { id, ...(argv.length === 0 ? {} : { argv }), env, window: boundedWindow() };
  return api.json(Terminal, 'POST', path, { body });
}

/** The size of this terminal, as far as a terminal of a session can have it. */
function boundedWindow(): TerminalWindow {
  const { rows, columns } = windowSize();
  return { rows: Math.min(rows, terminalBounds.rows), columns: Math.max(2, Math.min(columns, terminalBounds.columns)) };
}

function localView(makeFilter: () => ReturnType<typeof filterFor>): ViewerIo {
  let filter = makeFilter();
  let isFirst = true;
  const write = (bytes: Uint8Array | string) =>
    new Promise<void>((resolve, reject) => {
      process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  return {
    clear: async () => {
      filter = makeFilter();
      if (!process.stdout.isTTY) return;
      await write(emptyScreen(windowSize().rows, { keep: isFirst }));
      isFirst = false;
    },
    write: (bytes) => write(filter?.push(bytes) ?? bytes),
    cut: () => {
      const text = ' causeway: the connection was lost; the terminal goes on, resuming as soon as there is a way ... ';
      if (process.stdout.isTTY) process.stdout.write(lastLine(text.slice(0, windowSize().columns)));
      else process.stderr.write(`${text.trim()}\n`);
    },
  };
}

/** Of who only looks: Ctrl-C, Ctrl-P Ctrl-Q or q leaves. The returned function ends it. */
function readToLeave(leave: () => void): () => void {
  const { stdin } = process;
  const isTerminal = stdin.isTTY;
  const onData = (bytes: Buffer) => {
    if (/[\x03q]|\x10\x11/.test(bytes.toString('latin1'))) leave();
  };
  // Whoever tried to type before has paused it.
  if (isTerminal) stdin.setRawMode(true).on('data', onData).resume();
  process.on('SIGINT', leave);
  return () => {
    process.off('SIGINT', leave);
    if (isTerminal) stdin.off('data', onData).setRawMode(false).pause();
    stdin.unref?.();
  };
}

function tellMissed(bytes: number): void {
  if (bytes > 0) process.stderr.write(`causeway: ${bytes} bytes went by unseen; the screen was right at any time\n`);
}

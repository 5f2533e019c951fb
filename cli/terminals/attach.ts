/** `causeway attach`: this terminal as a view of one that goes on in a session. */
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import type { Session } from '../../schema/api/session.ts';
import { TerminalList } from '../../schema/api/terminal.ts';
import { Terminal, terminalBounds, type TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { statusOf } from '../process/follow.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import { filterFor, readLocalInput, windowSize } from '../process/local-io.ts';
import { findSession } from '../session/find.ts';
import { dialSession } from '../tunnel/dial.ts';
import { emptyScreen, lastLine, leftScreen } from './modes.ts';
import { TerminalViewer, type ViewerIo } from './viewer.ts';

interface AttachOptions {
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
    .option('--terminal <id>', 'this one (default: the newest that runs, else a new one with a shell)')
    .option('--new', 'a new one')
    .option('--read-only', 'only look')
    .option('--unsafe-output', 'let through what reaches beyond the screen (clipboard, titles, any link)')
    .argument('<session>', 'name or id')
    .argument('[command...]', 'what to run in a new one; a shell if left out')
    .action(attach);
}

async function attach(name: string, command: string[], options: AttachOptions): Promise<void> {
  const argv = command[0] === '--' ? command.slice(1) : command;
  const isReadOnly = options.readOnly === true;
  if (!process.stdin.isTTY && !isReadOnly)
    throw new CliFailure('attach needs a terminal on standard input', {
      status: exitStatus.usage,
      hint: '--read-only',
    });
  if (isReadOnly && (options.new === true || argv.length > 0))
    throw new CliFailure('--read-only can not make a terminal', { status: exitStatus.usage });
  if (options.terminal !== undefined && (options.new === true || argv.length > 0))
    throw new CliFailure('--terminal names one that is there', { status: exitStatus.usage, hint: 'leave it out' });
  const api = new Api();
  const session = await findSession(api, name);
  const terminal = await choose(api, session, argv, options);
  const input = new InputLog();
  const typing = { log: input, writer: randomBytes(12).toString('base64url') };
  const filter = () => filterFor({ unsafe: options.unsafeOutput === true, queries: false });
  const viewer = new TerminalViewer(
    dialSession(api, session.id, `terminals/${terminal.id}`),
    { terminalId: terminal.id, window: boundedWindow, ...(isReadOnly ? {} : { typing }) },
    localView(filter),
  );
  const leave = () => viewer.leave();
  const endInput = isReadOnly ? readToLeave(leave) : readLocalInput(input, { raw: true, onDetach: leave });
  const resized = () => viewer.resized();
  process.stdout.on('resize', resized);
  process.on('SIGTERM', leave).on('SIGHUP', leave);
  try {
    const end = await viewer.run();
    process.exitCode = end === undefined ? 0 : statusOf(end);
    if (process.stdout.isTTY) process.stdout.write(leftScreen);
    tell(session, terminal, viewer, end === undefined);
  } catch (error) {
    if (process.stdout.isTTY) process.stdout.write(leftScreen);
    throw error;
  } finally {
    process.stdout.off('resize', resized);
    process.off('SIGTERM', leave).off('SIGHUP', leave);
    endInput();
  }
}

/** `causeway attach NAME`: the newest that runs, else a new one. */
async function choose(api: Api, session: Session, argv: string[], options: AttachOptions): Promise<Terminal> {
  const path = `/v1/sessions/${session.id}/terminals`;
  if (options.new !== true && argv.length === 0) {
    const { items } = await api.json(TerminalList, 'GET', path);
    const { terminal: wanted } = options;
    const found =
      wanted === undefined
        ? items.filter(({ state }) => state === 'running').toSorted((a, b) => b.startedAtMs - a.startedAtMs)
        : items.filter(({ id }) => id === wanted || id.endsWith(wanted));
    if (wanted !== undefined && found.length !== 1)
      throw new CliFailure(
        found.length === 0 ? `${session.name} has no terminal ${wanted}` : `${found.length} terminals end in ${wanted}`,
        { hint: `causeway terminals ${session.name}`, code: 'terminal_not_found' },
      );
    if (found[0] !== undefined) return found[0];
    if (options.readOnly === true)
      throw new CliFailure(`${session.name} has no terminal that runs`, { hint: `causeway attach ${session.name}` });
  }
  const env = { TERM: process.env['TERM'] ?? 'xterm-256color' };
  const body = { ...(argv.length === 0 ? {} : { argv }), env, window: boundedWindow() };
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
  if (isTerminal) stdin.setRawMode(true).on('data', onData);
  process.on('SIGINT', leave);
  return () => {
    process.off('SIGINT', leave);
    if (isTerminal) stdin.off('data', onData).setRawMode(false).pause();
    stdin.unref?.();
  };
}

function tell(session: Session, terminal: Terminal, viewer: TerminalViewer, hasLeft: boolean): void {
  if (viewer.missedBytes > 0)
    process.stderr.write(`causeway: ${viewer.missedBytes} bytes went by unseen; the screen was right at any time\n`);
  if (hasLeft)
    process.stderr.write(
      `causeway: the terminal goes on; see it: causeway attach --terminal ${terminal.id.slice(-6)} ${session.name}\n`,
    );
}

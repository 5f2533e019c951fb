/**
 * Processes of tests: started with their output collected, awaited by what they say, stopped or killed by their id
 * alone, and never left behind (the kernel kills them when the test runner dies, whatever way it died).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { until } from './wait.ts';

/** One line of a program's structured log; lines that are not JSON objects have `text` alone. */
export type LogLine = { readonly text: string; readonly from: 'stdout' | 'stderr' } & Record<string, unknown>;

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface StartOptions {
  /** Added to this process's environment without its own CAUSEWAY_* variables; undefined removes one. */
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** Network namespace to run in (`ip netns` name). */
  netns?: string;
  /** Everything it prints is appended here as well. */
  logFile?: string;
  /** Name in messages, default the command. */
  name?: string;
  /** Keeps stdin open to write to (default: /dev/null). */
  stdin?: boolean;
}

export interface Started {
  readonly name: string;
  readonly pid: number;
  readonly child: ChildProcess;
  /** The last 20,000 lines of both streams, oldest first. */
  readonly lines: readonly LogLine[];
  readonly exited: Promise<Exit>;
  readonly exit: Exit | undefined;
  /** Waits for a line, also one already printed; fails at once with the last lines when the process ends first. */
  line(match: string | ((line: LogLine) => boolean), options?: { timeoutMs?: number; what?: string }): Promise<LogLine>;
  /** Everything printed so far, as text (for messages and searches). */
  output(): string;
  kill(signal: NodeJS.Signals): void;
  /** SIGKILL, and waits for the end. */
  kill9(): Promise<Exit>;
  /** SIGTERM, then SIGKILL after the grace (default 10 s), and waits for the end. */
  stop(graceMs?: number): Promise<Exit>;
  [Symbol.asyncDispose](): Promise<void>;
}

const maxLines = 20_000;
/** How long the pipes of an ended program are read on. */
const drainMs = 500;
const running = new Set<ChildProcess>();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** Starts a program. It gets no shell, and dies with this process. */
export function start(command: string, args: readonly string[], options: StartOptions = {}): Started {
  const inNamespace = options.netns === undefined ? [] : ['nsenter', `--net=/run/netns/${options.netns}`];
  const argv = ['--pdeathsig', 'KILL', ...inNamespace, command, ...args];
  const child = spawn('setpriv', argv, {
    cwd: options.cwd,
    env: environment(options.env),
    stdio: [options.stdin === true ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  });
  return track(child, options.name ?? command, options.logFile);
}

function environment(added: StartOptions['env'] = {}): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([key]) => !key.startsWith('CAUSEWAY_') && key !== 'NODE_OPTIONS',
  );
  return { ...Object.fromEntries(inherited), ...added };
}

function track(child: ChildProcess, name: string, logFile: string | undefined): Started {
  running.add(child);
  const log = logFile === undefined ? undefined : createWriteStream(logFile, { flags: 'a' });
  const lines: LogLine[] = [];
  collect(child, 'stdout', lines, log);
  collect(child, 'stderr', lines, log);
  let exit: Exit | undefined;
  const exited = new Promise<Exit>((resolve) => {
    const end = (code: number | null, signal: NodeJS.Signals | null, text?: string): void => {
      if (exit !== undefined) return;
      running.delete(child);
      if (text !== undefined) lines.push({ text, from: 'stderr' });
      exit = { code, signal };
      log?.end();
      resolve(exit);
    };
    child.once('error', (error) => end(127, null, error.message));
    child.once('close', end);
    // Its own children may hold the pipes open for ever: what is in them by now is enough.
    child.once('exit', (code, signal) => setTimeout(end, drainMs, code, signal));
  });
  const output = (): string => lines.map((line) => line.text).join('\n');
  const kill = (signal: NodeJS.Signals): void => {
    if (exit === undefined) child.kill(signal);
  };
  const stop = async (graceMs = 10_000): Promise<Exit> => {
    kill('SIGTERM');
    const timer = setTimeout(() => kill('SIGKILL'), graceMs);
    return exited.finally(() => clearTimeout(timer));
  };
  return {
    name,
    child,
    lines,
    exited,
    output,
    kill,
    stop,
    get pid() {
      return child.pid ?? 0;
    },
    get exit() {
      return exit;
    },
    kill9: () => (kill('SIGKILL'), exited),
    line: (match, { timeoutMs, what } = {}) => awaitLine({ name, lines, ended: () => exit }, match, timeoutMs, what),
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

function collect(child: ChildProcess, from: 'stdout' | 'stderr', lines: LogLine[], log: WriteStream | undefined): void {
  const stream = child[from];
  if (stream === null) return;
  createInterface({ input: stream, crlfDelay: Infinity }).on('line', (text) => {
    if (log?.writable === true) log.write(`${text}\n`);
    lines.push({ ...parsed(text), text, from });
    if (lines.length > maxLines) lines.splice(0, lines.length - maxLines);
  });
}

function parsed(text: string): Record<string, unknown> {
  if (!text.startsWith('{')) return {};
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** True for a line of a structured log with this message, whichever of its two usual names the field has. */
export function isMessage(line: LogLine, message: string): boolean {
  return line['msg'] === message || line['message'] === message;
}

async function awaitLine(
  program: { name: string; lines: readonly LogLine[]; ended(): Exit | undefined },
  match: string | ((line: LogLine) => boolean),
  timeoutMs?: number,
  what?: string,
): Promise<LogLine> {
  const fits = typeof match === 'string' ? (line: LogLine) => isMessage(line, match) : match;
  const wanted =
    what ?? (typeof match === 'string' ? `${program.name} to say "${match}"` : `a line of ${program.name}`);
  try {
    return await until(() => program.lines.find(fits), {
      what: wanted,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      giveUp: () => {
        const exit = program.ended();
        return exit && !program.lines.some(fits) ? `it ended with ${exit.signal ?? exit.code}` : undefined;
      },
    });
  } catch (error) {
    const tail = program.lines.slice(-30).map((line) => line.text);
    throw new Error(`${(error as Error).message}\nlast lines of ${program.name}:\n${tail.join('\n')}`, {
      cause: error,
    });
  }
}

/** Runs a program to its end and returns what it printed; anything but exit code 0 is an error with its output. */
export async function runToEnd(command: string, args: readonly string[], options: StartOptions = {}): Promise<string> {
  const program = start(command, args, options);
  const { code, signal } = await program.exited;
  if (code !== 0) {
    throw new Error(`${command} ${args.join(' ')} ended with ${signal ?? code}:\n${program.output()}`);
  }
  return program.output();
}

/** `causeway repl`: a person and a kernel of a session, line by line. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Command } from 'commander';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { findSession } from '../session/find.ts';
import { ask as askPerson } from '../terminal/ask.ts';
import { dialSession } from '../tunnel/dial.ts';
import { CodeRun, KernelSocket, type RunRequest } from './code-run.ts';
import { consoleIo, kernelOf } from './exec-code.ts';
import { isUnfinished } from './unfinished.ts';

const historyLines = 1000;

/** Registers `repl`. */
export function registerRepl(program: Command): void {
  program
    .command('repl')
    .description('type code into a session: history, completion by Tab, Ctrl-C interrupts, Ctrl-D leaves')
    .option(
      '-l, --language <language>',
      'python, node, bash, ruby, perl or r (default: that of the first kernel there, else python)',
    )
    .option('--kernel <kernel>', 'in this kernel: its id, or a kernelspec of the image (a kernel of Jupyter)')
    .argument('<session>', 'name or id')
    .action(repl);
}

async function repl(name: string, options: { language?: string; kernel?: string }): Promise<void> {
  if (!process.stdin.isTTY)
    throw new CliFailure('repl needs a terminal', { status: exitStatus.usage, hint: 'causeway exec-code -s SESSION' });
  const api = new Api();
  const session = await findSession(api, name);
  const talk = new Talk(new KernelSocket(dialSession(api, session.id, 'execute')), kernelOf(options));
  await talk.run();
}

class Talk {
  readonly #socket: KernelSocket;
  #which: Pick<RunRequest, 'kernelId' | 'spec' | 'language'>;
  #reader!: Interface;
  #current: CodeRun | undefined;
  /** Aborts the question that the program asks, which is nobody's when its run is over. */
  #asking = new AbortController();
  /** Lines of what is not finished yet. */
  #typed = '';
  /** What was typed and not taken yet. */
  readonly #lines: string[] = [];
  #wake: () => void = () => undefined;
  #isOver = false;

  constructor(socket: KernelSocket, which: Pick<RunRequest, 'kernelId' | 'spec' | 'language'>) {
    this.#socket = socket;
    this.#which = which;
  }

  async run(): Promise<void> {
    this.#open();
    // Starts the kernel, and learns which it is.
    await this.#execute('');
    try {
      for (let line = await this.#line(); line !== undefined; line = await this.#line()) {
        const isBlank = line.trim() === '';
        const wasOpen = this.#typed !== '';
        this.#typed += `${wasOpen ? '\n' : ''}${line}`;
        if (isUnfinished(this.#typed) && !(isBlank && wasOpen)) continue;
        const code = this.#typed;
        this.#typed = '';
        if (code.trim() !== '') await this.#execute(code);
      }
    } finally {
      this.#close();
    }
  }

  /** The next line, of what was pasted or typed ahead first; undefined at the end of input. */
  async #line(): Promise<string | undefined> {
    this.#reader.setPrompt(this.#typed === '' ? '> ' : '. ');
    this.#reader.prompt();
    while (this.#lines.length === 0 && !this.#isOver) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#lines.shift();
  }

  async #execute(code: string): Promise<void> {
    const run = this.#newRun({ mode: 'query', code });
    this.#current = run;
    try {
      const outcome = await run.run();
      this.#keepTo(run);
      if (outcome === undefined || outcome.reason === 'finished') return;
      process.stderr.write(`causeway: the kernel ended: ${outcome.reason}; the next line starts another\n`);
      delete this.#which.kernelId;
    } finally {
      this.#current = undefined;
      this.#asking.abort();
    }
  }

  #newRun(
    request: NonNullable<RunRequest['request']>,
    io = consoleIo((prompt, password) => this.#ask(prompt, password)),
  ) {
    return new CodeRun(this.#socket, { runId: `run-${randomBytes(12).toString('hex')}`, ...this.#which, request }, io);
  }

  /** What is typed next goes to the same kernel, whatever else the session starts. */
  #keepTo({ kernelId }: CodeRun): void {
    if (kernelId !== undefined) this.#which = { ...this.#which, kernelId };
  }

  async #ask(prompt: string, password: boolean): Promise<string | undefined> {
    if (password) {
      this.#reader.pause();
      const answer = await askPerson(prompt, true);
      this.#reader.resume();
      return answer;
    }
    const ahead = this.#lines.shift();
    if (ahead !== undefined) return ahead;
    const asking = new AbortController();
    this.#asking = asking;
    return new Promise((resolve) => {
      asking.signal.addEventListener('abort', () => resolve(undefined), { once: true });
      this.#reader.question(prompt, { signal: asking.signal }, resolve);
    });
  }

  async #completeOrNothing(line: string, done: (error: null, found: [string[], string]) => void): Promise<void> {
    let found: [string[], string] = [[], line];
    try {
      found = await this.#complete(line);
    } catch {
      // Nobody asked for more than help.
    }
    done(null, found);
  }

  async #complete(line: string): Promise<[string[], string]> {
    const found: [string[], string] = [[], ''];
    const silent = consoleIo(() => Promise.resolve(undefined));
    const run = this.#newRun(
      { mode: 'complete', code: `${this.#typed}${this.#typed === '' ? '' : '\n'}${line}` },
      {
        ...silent,
        record: (record) => {
          if (record.kind === 'completion') {
            found[0] = record.matches;
            found[1] = line.slice(line.length - record.replaces);
          }
          return Promise.resolve();
        },
      },
    );
    await run.run();
    return found;
  }

  #open(): void {
    this.#reader = createInterface({
      input: process.stdin,
      output: process.stdout,
      history: readHistory(),
      historySize: historyLines,
      removeHistoryDuplicates: true,
      completer: (line: string, done: (error: Error | null, found?: [string[], string]) => void) => {
        void this.#completeOrNothing(line, done);
      },
    });
    this.#reader.on('line', (line) => {
      this.#lines.push(line);
      this.#wake();
    });
    this.#reader.on('close', () => {
      this.#isOver = true;
      this.#asking.abort();
      this.#wake();
    });
    this.#reader.on('history', (lines: string[]) => writeHistory(lines));
    this.#reader.on('SIGINT', () => {
      if (this.#current !== undefined) return this.#current.interrupt();
      this.#typed = '';
      process.stdout.write('\n');
      this.#reader.write(null, { ctrl: true, name: 'u' });
      this.#reader.setPrompt('> ');
      this.#reader.prompt();
    });
  }

  #close(): void {
    this.#current?.leave();
    this.#reader.close();
    this.#socket.drop();
    process.stdout.write('\n');
  }
}

const historyFile = join(process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local/state'), 'causeway/repl-history');

/** Newest first. */
function readHistory(): string[] {
  try {
    return readFileSync(historyFile, 'utf8').split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

function writeHistory(lines: readonly string[]): void {
  try {
    mkdirSync(dirname(historyFile), { recursive: true, mode: 0o700 });
    writeFileSync(historyFile, lines.join('\n'), { mode: 0o600 });
  } catch {
    // Without a place for it there is no history, and nothing else is missing.
  }
}

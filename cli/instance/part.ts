/**
 * One supervised program: started, watched by the JSON lines it prints, started again with back-off when it ends, stopped with a
 * grace. It runs in a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone, and the kernel kills it
 * when the supervisor is gone: a new `up` always starts parts anew, on the state that they left.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import { backoffMs, STABLE_MS } from './backoff.ts';
import type { LogFile } from './log-file.ts';
import type { PartState } from './state.ts';

/** A line of a part's structured log, from either stream; what is not JSON has `msg` "text". */
export type PartLine = { msg: string; [field: string]: unknown };

export type PartSpec = {
  name: string;
  /** Asked anew for each start. A refusal counts as an end of the part and is tried again. */
  command: () => Promise<{ args: string[]; env: Record<string, string> }>;
  /** The `msg` of the line by which it says that it serves. */
  readyLine: string;
  /** How long it may take to stop before it is killed. */
  graceMs: number;
  onLine?: (line: PartLine) => void;
};

/** The environment of a part: this process's own without settings of Causeway and of npm, which are for the supervisor. */
function inheritedEnvironment(): Record<string, string> {
  const own = Object.entries(process.env).filter(([name]) => !/^(CAUSEWAY_|UPSTASH_|npm_|HOST$|PORT$)/.test(name));
  return Object.fromEntries(own.map(([name, value]) => [name, value ?? '']));
}

export class Part {
  readonly #spec: PartSpec;
  readonly #log: LogFile;
  readonly #onChange: () => void;
  #child: ChildProcess | undefined;
  #state: PartState['state'] = 'stopped';
  #sinceMs = Date.now();
  #restarts = 0;
  #failures = 0;
  #startedMs = 0;
  #said: string | undefined;
  #lastExit: PartState['lastExit'];
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;
  #waiters: { ready: (line: PartLine) => void; ended: (how: string) => void }[] = [];

  constructor(spec: PartSpec, log: LogFile, onChange: () => void) {
    this.#spec = spec;
    this.#log = log;
    this.#onChange = onChange;
  }

  get view(): PartState {
    const pid = this.#child?.pid;
    return {
      name: this.#spec.name,
      state: this.#state,
      ...(pid === undefined ? {} : { pid }),
      restarts: this.#restarts,
      sinceMs: this.#sinceMs,
      ...(this.#lastExit ? { lastExit: this.#lastExit } : {}),
    };
  }

  /** Starts it and resolves with its ready line; rejects with what it said when it ends before that. It is kept up either way. */
  start(): Promise<PartLine> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ ready: resolve, ended: (how) => reject(new Error(how)) });
      this.#stopping = false;
      void this.#spawn();
    });
  }

  /** Stops it for good. Resolves when it is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      const hard = setTimeout(() => child.kill('SIGKILL'), this.#spec.graceMs);
      child.kill('SIGTERM');
      await gone;
      clearTimeout(hard);
    }
    this.#become('stopped');
  }

  /** SIGKILL at once, for a person who will not wait. */
  kill(): void {
    this.#stopping = true;
    this.#child?.kill('SIGKILL');
  }

  async #spawn(): Promise<void> {
    this.#become('starting');
    this.#startedMs = Date.now();
    this.#said = undefined;
    let command: Awaited<ReturnType<PartSpec['command']>>;
    try {
      command = await this.#spec.command();
    } catch (error) {
      this.#ended(error instanceof Error ? error.message : String(error));
      return;
    }
    if (this.#stopping) return;
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, ...command.args], {
      env: { ...inheritedEnvironment(), ...command.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child = child;
    this.#onChange();
    for (const input of [child.stdout, child.stderr]) createInterface({ input }).on('line', (text) => this.#hear(text));
    child.on('error', (error) => this.#ended(error.message));
    child.on('exit', (code, signal) => this.#ended(signal === null ? `exit ${code}` : signal));
  }

  #hear(text: string): void {
    this.#log.write(text);
    const line = toLine(text);
    if (line.msg === 'text' && text.trim() !== '') this.#said = text.trim();
    else if (typeof line['error'] === 'string') this.#said = `${line.msg}: ${line['error']}`;
    if (line.msg === this.#spec.readyLine) this.#become('running');
    this.#spec.onLine?.(line);
    if (line.msg !== this.#spec.readyLine) return;
    for (const { ready } of this.#waiters.splice(0)) ready(line);
  }

  #ended(how: string): void {
    this.#child = undefined;
    if (this.#stopping) return;
    const said = this.#said;
    this.#lastExit = { atMs: Date.now(), how, ...(said === undefined ? {} : { said }) };
    this.#failures = Date.now() - this.#startedMs > STABLE_MS ? 1 : this.#failures + 1;
    this.#become('waiting');
    for (const { ended } of this.#waiters.splice(0)) ended(said === undefined ? how : `${how}: ${said}`);
    this.#timer = setTimeout(() => {
      this.#restarts += 1;
      void this.#spawn();
    }, backoffMs(this.#failures));
  }

  #become(state: PartState['state']): void {
    this.#state = state;
    this.#sinceMs = Date.now();
    this.#onChange();
  }
}

function toLine(text: string): PartLine {
  try {
    const value = JSON.parse(text) as Record<string, unknown> | null;
    const msg = value?.['msg'] ?? value?.['message'];
    if (typeof msg === 'string') return { ...value, msg };
  } catch {
    // not JSON: a line of some library
  }
  return { msg: 'text', text };
}

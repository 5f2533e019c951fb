/** The CLI as a person runs it against a stack: from a shell with pipes, or in a terminal. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from './wait.ts';

const cli = join(import.meta.dirname, '../../cli/index.ts');

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  /** What it has printed so far; in a terminal all of it is stdout. */
  readonly seen: Ran;
  readonly done: Promise<Ran>;
  /** Types into its standard input. */
  type(text: string): void;
  /** Waits for output that matches, also of before. */
  says(pattern: RegExp, from?: 'stdout' | 'stderr'): Promise<void>;
  /** The largest resident memory so far, in bytes; looked at while it runs. */
  peakBytes(): number;
}

/** A CLI signed in to `url` with `token`, its configuration in `dir`. */
export class Cli {
  readonly #env: NodeJS.ProcessEnv;

  constructor(url: string, token: string, dir: string, env: Record<string, string> = {}) {
    const config = join(dir, 'config');
    this.#env = {
      ...process.env,
      ...env,
      CAUSEWAY_URL: url,
      CAUSEWAY_TOKEN: token,
      XDG_CONFIG_HOME: config,
      NO_COLOR: '1',
    };
  }

  /** Starts it with pipes; its input stays open unless `input` is given. */
  start(args: readonly string[], input?: string | Uint8Array): Running {
    const running = track(spawn(process.execPath, [cli, ...args], { env: this.#env }));
    if (input !== undefined) running.child.stdin?.end(input);
    return running;
  }

  /** Runs it to its end, by default without input. */
  run(args: readonly string[], input: string | Uint8Array = ''): Promise<Ran> {
    return this.start(args, input).done;
  }

  /** Starts it in a terminal of its own: what is typed goes through the terminal's line discipline, Ctrl-C included. */
  terminal(args: readonly string[]): Running {
    const line = [process.execPath, cli, ...args]
      .map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`)
      .join(' ');
    // `exec`, since a shell that stays (dash does) takes a Ctrl-C for its own end, whatever the CLI made of it
    return track(spawn('script', ['-qfec', `exec ${line}`, '/dev/null'], { env: { ...this.#env, TERM: 'xterm' } }));
  }
}

function track(child: ChildProcess): Running {
  const seen: Ran = { status: null, stdout: '', stderr: '' };
  let peak = 0;
  const looking = setInterval(() => (peak = Math.max(peak, peakOf(child.pid))), 100);
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (seen.stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (seen.stderr += text));
  child.stdin?.on('error', () => undefined);
  const done = new Promise<Ran>((resolve) => {
    child.on('close', (status) => {
      clearInterval(looking);
      seen.status = status;
      resolve(seen);
    });
  });
  return {
    child,
    seen,
    done,
    type: (text) => void child.stdin?.write(text),
    says: async (pattern, from = 'stdout') => {
      await until(() => pattern.test(seen[from]), {
        what: `${String(pattern)} in ${from}`,
        timeoutMs: 60_000,
        giveUp: () => (seen.status === null ? undefined : `it ended: ${JSON.stringify(seen)}`),
      });
    },
    peakBytes: () => peak,
  };
}

/** The largest resident memory that a process has had, in bytes; 0 when it is gone. */
export function peakOf(pid: number | undefined): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

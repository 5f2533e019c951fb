/** Starts the edge's process from another Node program (tests, benchmarks) and waits until it serves. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** One line that the process said. */
export type Line = { time: number; msg: string; [key: string]: unknown };

export type Edge = {
  /** `http://host:port` */
  url: string;
  /** The Node process. */
  pid: number;
  /** The workerd that serves now; another one after a restart. */
  workerdPid: () => number;
  /** Everything said so far, oldest first. */
  lines: Line[];
  /** Resolves with the first line, from the beginning, that fits; rejects when the process ends before. */
  waitFor: (fits: (line: Line) => boolean) => Promise<Line>;
  /** Drains, stops, and resolves with the exit code. Idempotent. */
  stop: () => Promise<number | null>;
  /** kill -9 of Node; workerd dies with it. Resolves when both are gone. */
  kill9: () => Promise<void>;
};

export type EdgeOptions = {
  state: string;
  host?: string;
  /** Serves TLS with keys and certificates that are kept here. */
  tlsDir?: string;
  /** 0 = any free one. */
  port?: number;
  /** Bindings of the Worker, CAUSEWAY_* and UPSTASH_*. */
  vars?: Record<string, string>;
  /** Another Worker than `edge/index.ts`, without Durable Objects; it exports an entrypoint `Front`. */
  worker?: string;
};

/** Starts the edge; rejects with what it said when it ends before it is ready. It dies with the caller. */
export async function startEdge({
  state,
  host = '127.0.0.1',
  port = 0,
  vars = {},
  worker,
  tlsDir,
}: EdgeOptions): Promise<Edge> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(CAUSEWAY|UPSTASH)_/.test(name));
  const program = join(import.meta.dirname, 'index.ts');
  const flags = ['--state', state, '--host', host, '--port', String(port), ...(worker ? ['--worker', worker] : [])];
  if (tlsDir !== undefined) flags.push('--tls-dir', tlsDir);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, program, ...flags], {
    env: { ...Object.fromEntries(inherited), ...vars },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: Line[] = [];
  const waitFor = listen(child, lines);
  const ready = await waitFor((line) => line.msg === 'ready');
  const exited = () => child.exitCode !== null || child.signalCode !== null;
  const end = async (signal: NodeJS.Signals) => {
    if (exited()) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  };
  return {
    url: String(ready['url']),
    pid: child.pid ?? 0,
    workerdPid: () => Number(lines.findLast((l) => l.msg === 'ready' || l.msg === 'workerd restarted')?.['workerdPid']),
    lines,
    waitFor,
    stop: async () => {
      await end('SIGTERM');
      return child.exitCode;
    },
    kill9: () => end('SIGKILL'),
  };
}

/** Gathers the lines of a process and lets others wait for one. */
function listen(child: ChildProcess, lines: Line[]): Edge['waitFor'] {
  type Waiter = { fits: (line: Line) => boolean; resolve: (line: Line) => void; reject: (error: Error) => void };
  const waiters = new Set<Waiter>();
  let ended: Error | undefined;
  const { stdout, stderr } = child;
  if (!stdout || !stderr) throw new Error('the edge needs pipes');
  let complaints = '';
  stderr.setEncoding('utf8').on('data', (text: string) => (complaints = (complaints + text).slice(-4_000)));
  createInterface({ input: stdout }).on('line', (text) => {
    const line = toLine(text);
    lines.push(line);
    for (const waiter of waiters)
      if (waiter.fits(line)) {
        waiters.delete(waiter);
        waiter.resolve(line);
      }
  });
  child.on('close', (code, signal) => {
    const said = lines.slice(-5).map((line) => JSON.stringify(line));
    ended = new Error(`the edge ended (${signal ?? `exit ${code}`}):\n${[...said, complaints].join('\n')}`);
    for (const waiter of waiters) waiter.reject(ended);
    waiters.clear();
  });
  return (fits) =>
    new Promise((resolve, reject) => {
      const known = lines.find(fits);
      if (known) resolve(known);
      else if (ended) reject(ended);
      else waiters.add({ fits, resolve, reject });
    });
}

function toLine(text: string): Line {
  try {
    return JSON.parse(text) as Line;
  } catch {
    return { time: Date.now(), msg: 'text', text };
  }
}

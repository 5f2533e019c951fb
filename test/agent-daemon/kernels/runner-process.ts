/** A runner as an ordinary process, fed and read as the agent does it: what it prints is read by the shared reader. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { kernelArgv, runnerFiles } from '../../../agent-daemon/kernels/languages.ts';
import type { Language } from '../../../schema/api/kernel-parts.ts';
import { type KernelItem, KernelLogReader, type KernelRecord } from '../../../schema/protocol/kernel-log.ts';
import { until } from '../../support/wait.ts';

export const kernelId = `krn_${'0'.repeat(26)}`;
export const runnersFolder = fileURLToPath(new URL('../../../agent-daemon/kernels/runners/', import.meta.url));
type StreamName = 'stdout' | 'stderr';
type Said<Kind extends KernelRecord['kind']> = Extract<KernelRecord, { kind: Kind }>;

/** What one run brought. */
export interface Ran {
  stdout: string;
  stderr: string;
  records: KernelRecord[];
  exitCode: number;
}

export class RunnerProcess {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly items: { stream: StreamName; item: KernelItem }[] = [];
  exit: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  /** Bytes of each stream as they came, for readers of a test's own. */
  readonly raw: Record<StreamName, Buffer[]> = { stdout: [], stderr: [] };
  #count = 0;

  constructor(language: Language, { command, cwd = '/' }: { command?: string; cwd?: string } = {}) {
    const runner = readFileSync(`${runnersFolder}${runnerFiles[language]}`);
    const [program = '', ...args] = kernelArgv(language, runner.byteLength, kernelId);
    const env = { PATH: process.env['PATH'], HOME: '/tmp' };
    this.child = spawn(command ?? program, args, { cwd, env, detached: true, stdio: 'pipe' });
    this.child.on('exit', (code, signal) => (this.exit = { code, signal }));
    for (const stream of ['stdout', 'stderr'] as const) {
      const reader = new KernelLogReader(kernelId, 0);
      let offset = 0;
      this.child[stream].on('data', (bytes: Buffer) => {
        this.raw[stream].push(bytes);
        for (const item of reader.push(offset, bytes)) this.items.push({ stream, item });
        offset += bytes.byteLength;
      });
    }
    this.child.stdin.on('error', () => undefined);
    this.child.stdin.write(runner);
  }

  /** Asks for something under a fresh id, which it returns. */
  ask(verb: 'run' | 'shell' | 'complete' | 'mark', payload = ''): string {
    const id = `r${++this.#count}`;
    this.send(verb, id, payload);
    return id;
  }

  send(verb: string, id: string, payload: string): void {
    this.child.stdin.write(`${verb} ${id} ${Buffer.byteLength(payload)}\n${payload}`);
  }

  interrupt(): void {
    process.kill(-this.child.pid!, 'SIGINT');
  }

  /** The record of this kind, of this run if one is named, when it has come. */
  async said<Kind extends KernelRecord['kind']>(kind: Kind, id?: string): Promise<Said<Kind>> {
    const found = await until(
      () => this.#records('stdout').find((each) => each.kind === kind && (id ?? each.id) === each.id),
      {
        what: `${kind} of ${id ?? 'any'}`,
        everyMs: 5,
        giveUp: () =>
          this.exit === undefined ? undefined : `it ended: ${JSON.stringify(this.exit)} ${this.text('stderr')}`,
      },
    );
    return found as Said<Kind>;
  }

  /** Everything between the end of the run before and the end of this one, of both streams. */
  async ran(id: string): Promise<Ran> {
    const { exitCode } = await this.said('finished', id);
    await until(() => this.#records('stderr').some((each) => each.kind === 'mark' && each.id === id), { what: 'mark' });
    const of = (stream: StreamName) => {
      const all = this.items.filter((each) => each.stream === stream).map(({ item }) => item);
      const isEnd = (item: KernelItem) =>
        item.kind === 'record' && ['finished', 'mark', 'ready'].includes(item.record.kind);
      const end = all.findLastIndex((item) => isEnd(item) && item.kind === 'record' && item.record.id === id);
      const start = all.slice(0, end).findLastIndex(isEnd);
      return all.slice(start + 1, end);
    };
    const [stdout, stderr] = [of('stdout'), of('stderr')];
    return { stdout: textOf(stdout), stderr: textOf(stderr), records: recordsOf(stdout), exitCode };
  }

  /** Runs code to its end. */
  run(code: string): Promise<Ran> {
    return this.ran(this.ask('run', code));
  }

  text(stream: StreamName): string {
    return textOf(this.items.filter((each) => each.stream === stream).map(({ item }) => item));
  }

  async stop(): Promise<void> {
    if (this.exit === undefined && this.child.pid !== undefined) process.kill(-this.child.pid, 'SIGKILL');
    await until(() => this.exit, { what: 'the end of the runner' });
  }

  #records(stream: StreamName): KernelRecord[] {
    return recordsOf(this.items.filter((each) => each.stream === stream).map(({ item }) => item));
  }
}

function textOf(items: readonly KernelItem[]): string {
  return Buffer.concat(items.flatMap((item) => (item.kind === 'bytes' ? [item.bytes] : []))).toString();
}

function recordsOf(items: readonly KernelItem[]): KernelRecord[] {
  return items.flatMap((item) => (item.kind === 'record' ? [item.record] : []));
}

/** The bridge to a kernel as an ordinary process, fed and read as the agent does it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { executeRequest, isDone, MessageReader } from '../../support/jupyter-messages.ts';
import { until } from '../../support/wait.ts';
import { initBinary } from '../init/harness.ts';
import type { Step } from './fake-kernel.ts';

const fakeKernel = fileURLToPath(new URL('fake-kernel.ts', import.meta.url));
/** The command line of the fake kernel, as a kernelspec has it. */
export const fakeArgv = [process.execPath, '--disable-warning=ExperimentalWarning', fakeKernel, '{connection_file}'];

export class BridgeProcess {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly reader = new MessageReader();
  stderr = '';
  exit: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  readonly #closed: Promise<void>;

  constructor({
    argv = fakeArgv,
    options = [],
    env = {},
  }: { argv?: string[]; options?: string[]; env?: Record<string, string> } = {}) {
    this.child = spawn(initBinary, ['kernel', ...options, '--', ...argv], {
      env: { PATH: process.env['PATH'], HOME: '/tmp', ASAN_OPTIONS: process.env['ASAN_OPTIONS'] ?? '', ...env },
      detached: true,
      stdio: 'pipe',
    });
    this.child.stdout.on('data', (bytes: Buffer) => this.reader.push(bytes));
    this.child.stderr.on('data', (bytes: Buffer) => (this.stderr += bytes.toString()));
    this.child.stdin.on('error', () => undefined);
    this.child.on('exit', (code, signal) => (this.exit = { code, signal }));
    this.#closed = new Promise((resolve) => void this.child.on('close', () => resolve()));
  }

  get messages() {
    return this.reader.messages;
  }

  async whenReady(): Promise<this> {
    await until(() => this.notes.some(({ kind }) => kind === 'ready') || this.exit !== undefined, {
      what: `the kernel to answer: ${this.stderr}`,
    });
    return this;
  }

  get notes(): Record<string, unknown>[] {
    return this.messages.filter(({ channel }) => channel === 'causeway').map(({ content }) => content);
  }

  say(record: Uint8Array): void {
    this.child.stdin.write(record);
  }

  /** Has the fake kernel do something, and returns the id of the request. */
  cell(...steps: Step[]): string {
    const { id, record } = executeRequest(JSON.stringify(steps));
    this.say(record);
    return id;
  }

  async whenDone(id: string, timeoutMs = 60_000): Promise<void> {
    await until(() => isDone(this.messages, id), { what: `the end of a cell; ${this.stderr}`, timeoutMs });
  }

  async whenClosed(): Promise<void> {
    await this.#closed;
  }

  /** Memory that it has now, in KiB. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.exit === undefined) process.kill(-(this.child.pid ?? 0), 'SIGKILL');
    this.child.stdout.resume();
    await this.#closed;
  }
}

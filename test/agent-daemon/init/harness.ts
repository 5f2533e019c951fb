/** A real causeway-init, as an ordinary process or as PID 1 of a namespace, against a real InitLink. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { InitLink } from '../../../agent-daemon/init/link.ts';
import type { InitLinkOptions, InitStatus, ListedProcess } from '../../../agent-daemon/init/link-options.ts';
import type { ProcessExit, SpawnSpec, StreamNumber } from '../../../agent-daemon/init/messages.ts';
import type { SessionKey } from '../../../agent-daemon/init/session-key.ts';
import { newId } from '../../../schema/ids.ts';
import { start, type Started } from '../../support/process.ts';
import { tmpDir, type TmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { clock, quietLog, random, timers } from './ports.ts';
import { systemSoon } from '../../../agent-daemon/platform.ts';
import { unixDoor } from '../../../agent-daemon/init/door.ts';

export const initFolder = fileURLToPath(new URL('../../../agent-daemon/init/', import.meta.url));
/** The committed binary, or the one that a run with sanitizers names. */
export const initBinary = process.env['CAUSEWAY_TEST_INIT'] ?? `${initFolder}bin/causeway-init-x86_64`;

export const newProcessId = (): string => newId('process', Date.now(), randomBytes(10));

/** A command for the shell, with a PATH. */
export function shell(script: string, more: Partial<SpawnSpec> = {}): SpawnSpec {
  return { processId: newProcessId(), argv: ['/bin/sh', '-c', script], env: { PATH: '/usr/bin:/bin' }, ...more };
}

export interface Gap {
  from: number;
  to: number;
}

interface Piece {
  offset: number;
  timeMs: number;
  bytes: Buffer;
}

/** What an agent would have on its disk, and everything that it was told. */
export class AgentRecord {
  readonly #pieces = new Map<string, Piece[]>();
  readonly #gaps = new Map<string, Gap[]>();
  readonly #reached = new Map<string, number>();
  readonly exits = new Map<string, ProcessExit>();
  readonly exitsTold: { processId: string; exit: ProcessExit }[] = [];
  readonly lists: ListedProcess[][] = [];
  connects = 0;
  disconnects = 0;
  status: InitStatus | undefined;
  leaseExpired = 0;

  pieces(processId: string, stream: StreamNumber = 1): Piece[] {
    return this.#pieces.get(`${processId}/${stream}`) ?? [];
  }

  gaps(processId: string, stream: StreamNumber = 1): Gap[] {
    return this.#gaps.get(`${processId}/${stream}`) ?? [];
  }

  bytes(processId: string, stream: StreamNumber = 1): Buffer {
    return Buffer.concat(this.pieces(processId, stream).map((piece) => piece.bytes));
  }

  text(processId: string, stream: StreamNumber = 1): string {
    return this.bytes(processId, stream).toString();
  }

  /** Bytes that arrived or are known to be lost. */
  reached(processId: string, stream: StreamNumber = 1): number {
    return this.#reached.get(`${processId}/${stream}`) ?? 0;
  }

  addOutput(processId: string, stream: StreamNumber, offset: number, timeMs: number, bytes: Uint8Array): void {
    this.#move(processId, stream, offset, offset + bytes.length);
    const name = `${processId}/${stream}`;
    const pieces = this.#pieces.get(name) ?? [];
    this.#pieces.set(name, pieces);
    pieces.push({ offset, timeMs, bytes: Buffer.from(bytes) });
  }

  addGap(processId: string, stream: StreamNumber, from: number, to: number): void {
    this.#move(processId, stream, from, to);
    this.#gaps.set(`${processId}/${stream}`, [...this.gaps(processId, stream), { from, to }]);
  }

  addExit(processId: string, exit: ProcessExit): void {
    this.exits.set(processId, exit);
    this.exitsTold.push({ processId, exit });
  }

  /** [I22] Each output and each gap begins where the last one ended. */
  #move(processId: string, stream: StreamNumber, from: number, to: number): void {
    if (from !== this.reached(processId, stream)) throw new Error(`${from} is not contiguous`);
    this.#reached.set(`${processId}/${stream}`, to);
  }
}

export interface SessionOptions {
  /** In a PID namespace of its own. */
  asPidOne?: boolean;
  /** Arguments behind the socket. */
  args?: string[];
  binary?: string;
  /** Runs the init by this command, e.g. `prlimit --nofile=32`. */
  prefix?: string[];
}

/** One session of a test: a directory, an init that is started on demand, and links to it one after the other. */
export class TestSession {
  readonly root: TmpDir = tmpDir('init');
  readonly dir: string;
  record = new AgentRecord();
  key: SessionKey | undefined;
  link: InitLink;
  child: Started | undefined;
  acknowledges = true;
  readonly #options: SessionOptions;

  constructor(options: SessionOptions = {}) {
    this.#options = options;
    this.dir = `${this.root.path}/run`;
    mkdirSync(this.dir);
    this.link = this.openLink();
  }

  /** Another agent: the record and the key are all that it has. */
  openLink(overrides: Partial<InitLinkOptions> = {}): InitLink {
    const { record } = this;
    const link = new InitLink({
      dir: this.dir,
      door: unixDoor,
      soon: systemSoon,
      sessionKey: this.key,
      saveSessionKey: async (key) => void (this.key = key),
      clock,
      timers,
      random,
      log: quietLog,
      onConnected: (status) => {
        record.connects++;
        record.status = status;
      },
      onProcesses: (list) => {
        record.lists.push(list);
        for (const { processId, resumed } of list)
          if (!resumed)
            for (const stream of [1, 2] as const) link.resume(processId, stream, record.reached(processId, stream));
      },
      onOutput: (processId, stream, offset, timeMs, bytes) => {
        record.addOutput(processId, stream, offset, timeMs, bytes);
        if (this.acknowledges) link.ack(processId, stream, offset + bytes.length);
      },
      onGap: (processId, stream, from, to) => {
        record.addGap(processId, stream, from, to);
        if (this.acknowledges) link.ack(processId, stream, to);
      },
      onDisconnected: () => void record.disconnects++,
      onExit: (processId, exit) => record.addExit(processId, exit),
      onLeaseExpired: () => void record.leaseExpired++,
      ...overrides,
    });
    this.link = link;
    return link;
  }

  /** Listens, starts the init and waits for it. */
  async start(): Promise<this> {
    await this.link.listen();
    const { asPidOne = false, args = [], binary = initBinary, prefix = [] } = this.#options;
    const namespace = asPidOne ? ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'] : [];
    const [file = '', ...rest] = [...namespace, ...prefix, binary, `${this.dir}/agent.sock`, ...args];
    this.child = start(file, rest, { name: 'init' });
    await this.link.ready();
    return this;
  }

  /** The agent dies and another one comes. */
  async replaceAgent(overrides: Partial<InitLinkOptions> = {}): Promise<InitLink> {
    await this.link.close();
    const link = this.openLink(overrides);
    await link.ready();
    return link;
  }

  /** The init's process id on the host. */
  get initPid(): number {
    const pid = this.child?.pid ?? 0;
    if (!this.#options.asPidOne) return pid;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
  }

  get initExited(): boolean {
    return this.child?.exit !== undefined;
  }

  /** Ends the init as the engine would: a signal from outside. */
  signalInit(signal: NodeJS.Signals): void {
    process.kill(this.initPid, signal);
  }

  /** Waits until a process ended and everything that it wrote has arrived. */
  async finished(processId: string): Promise<ProcessExit> {
    const { record } = this;
    return until(
      () => {
        const exit = record.exits.get(processId);
        if (!exit?.final) return undefined;
        const streams = [1, 2] as const;
        return streams.every((stream) => record.reached(processId, stream) === exit.ends[stream]) ? exit : undefined;
      },
      { what: `the end of ${processId}`, everyMs: 5 },
    );
  }

  /** Runs a process to its end. */
  async run(spec: SpawnSpec): Promise<{ exit: ProcessExit; out: string; err: string }> {
    await this.link.spawn(spec);
    const exit = await this.finished(spec.processId);
    return { exit, out: this.record.text(spec.processId, 1), err: this.record.text(spec.processId, 2) };
  }

  async outputHas(processId: string, text: string): Promise<void> {
    await until(() => this.record.text(processId).includes(text), { what: `"${text}" in the output`, everyMs: 5 });
  }

  /** A file beside the run directory, for scripts to write to. */
  file(name: string, content?: string | Uint8Array): string {
    const path = `${this.root.path}/${name}`;
    if (content !== undefined) writeFileSync(path, content);
    return path;
  }

  /** The next agent has lost its disk. */
  forget(): void {
    this.record = new AgentRecord();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.link.close();
    if (this.child && !this.initExited) {
      // As an ordinary process the init ends its family when it is told to leave; killed, it would leave orphans.
      if (this.#options.asPidOne) this.signalInit('SIGKILL');
      else await this.#shutDown();
      await this.child.exited;
    }
    this.root.remove();
  }

  async #shutDown(): Promise<void> {
    this.signalInit('SIGCONT');
    const link = this.openLink({ onProcesses: () => {} });
    await link.ready();
    await link.shutdown(true).catch(() => {});
    await link.close();
  }
}

/**
 * The kernels of one session as an agent has them, over a real causeway-init.
 */
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import type { z } from 'zod';
import { channelsStream } from '../../../agent-daemon/kernels/channels.ts';
import { executeStream, kernelCall, kernelsCall, kernelspecsCall } from '../../../agent-daemon/kernels/streams.ts';
import { SessionKernels } from '../../../agent-daemon/kernels/session-kernels.ts';
import type { Session } from '../../../agent-daemon/sessions/session.ts';
import { Calls, type Reply } from '../../../agent-daemon/tunnel/calls.ts';
import { decodeRecords } from '../../../agent-daemon/tunnel/record-file.ts';
import type { SpawnSpec } from '../../../agent-daemon/init/messages.ts';
import type { ProcessRecord } from '../../../agent-daemon/output/process-record.ts';
import { recordOf } from '../../../agent-daemon/sessions/main-process.ts';
import type { Supervisor } from '../../../agent-daemon/processes/supervisor.ts';
import { systemTimers } from '../../../agent-daemon/platform.ts';
import type { Kernel } from '../../../schema/api/kernel-parts.ts';
import type { Refusal } from '../../../schema/errors.ts';
import { newId } from '../../../schema/ids.ts';
import { defaultOutputPolicy, type OutputPolicy } from '../../../schema/api/session-parts.ts';
import type { CallInput } from '../../../schema/protocol/calls.ts';
import { ExecuteEvent, type ExecuteInput } from '../../../schema/protocol/execute.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { openRunLog, type RunItem } from '../../../schema/protocol/run-log.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import type { VirtualTime } from '../../support/virtual-time.ts';
import { until } from '../../support/wait.ts';
import { initBinary } from '../init/harness.ts';
import { InitBench } from '../init-bench.ts';
import { TestStream } from '../processes/test-stream.ts';
import { sessionId } from '../support.ts';
import { fakeArgv } from './bridge-process.ts';
import { type ChannelsAsk, ChannelsReader } from './channels-reader.ts';
import { runnersFolder } from './runner-process.ts';

type Ask = Omit<Extract<StreamOpen, { op: 'execute' }>, 'op'>;
const never = new AbortController().signal;

export class KernelBench extends InitBench {
  output: OutputPolicy = defaultOutputPolicy;
  /** The next kernels are noted, and never asked for. */
  holdsSpawns = false;
  /** Another init than that of this version, as in a container of an earlier one. */
  initPath = initBinary;
  heldSpawns = 0;
  /** The next start of this process is kept here, and its init never hears of it. */
  losesSpawnOf: string | undefined;
  lostSpawns = 0;
  /** The session has ended. */
  hasEnded = false;
  /** What starting a process is refused with. */
  spawnRefusal: Refusal | undefined;
  refusedSpawns = 0;
  /** What a process is given is in its hands, and not confirmed before this. */
  inputConfirmed = Promise.resolve();
  writtenInputs = 0;
  /** The name under which one waits in the container. */
  kernelInAdvance: string | undefined;
  readonly startedSpecs: string[] = [];
  kernels!: SessionKernels;
  #readers: { isDone: boolean; cut(): unknown }[] = [];

  constructor() {
    super('krn');
  }

  /** File of what is kept of kernels and runs. */
  get kernelsPath(): string {
    return `${this.dir.path}/kernels`;
  }

  protected async begin(): Promise<void> {
    this.kernels = new SessionKernels(
      {
        sessionId,
        generation: 1,
        path: this.kernelsPath,
        wereLeft: existsSync(this.kernelsPath),
        initPath: this.initPath,
        kernelInAdvance: () => this.kernelInAdvance,
        startsSpec: (name) => void this.startedSpecs.push(name),
        supervisor: () => (this.hasEnded ? undefined : this.#between()),
        hasEnded: () => this.hasEnded,
        spawnOf: (processId, argv, more = {}) => {
          if (this.holdsSpawns) return new Promise(() => void this.heldSpawns++);
          const env = { PATH: process.env['PATH'] ?? '', HOME: `${this.dir.path}/home`, ...more };
          const { onFull, blockMs } = this.output;
          const cwd = `${this.dir.path}/home`;
          const spec = { processId, argv, env, cwd, stdin: 'open' as const, output: { onFull, blockMs } };
          return Promise.resolve({ spec, record: recordOf(spec, this.output, Date.now()) });
        },
      },
      { ...this.ports(), spools: this.spools, runnersPath: runnersFolder },
    );
    await this.kernels.adopt();
  }

  protected async end(): Promise<void> {
    for (const reader of this.#readers.splice(0)) if (!reader.isDone) reader.cut();
    await this.kernels.close();
  }

  #between(): Supervisor {
    const { supervisor } = this;
    const spawn = (how: 'spawn' | 'spawnOnce') => async (spec: SpawnSpec, record: ProcessRecord) => {
      if (this.spawnRefusal !== undefined) {
        this.refusedSpawns++;
        throw this.spawnRefusal;
      }
      if (spec.processId !== this.losesSpawnOf) return supervisor[how](spec, record);
      await this.spools.create({ sessionId, generation: 1, processId: spec.processId }, record);
      this.lostSpawns++;
      return new Promise<never>(() => undefined);
    };
    const writeInput: Supervisor['writeInput'] = async (...what) => {
      this.writtenInputs++;
      await supervisor.writeInput(...what);
      await this.inputConfirmed;
    };
    return new Proxy(supervisor, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (name === 'spawn' || name === 'spawnOnce') return spawn(name);
        if (name === 'writeInput') return writeInput;
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }

  /** The agent had died before it kept the first record of which `isFirst` is true. */
  forgetFrom(isFirst: (record: Record<string, Record<string, unknown>>) => boolean): void {
    const bytes = readFileSync(this.kernelsPath);
    const { records, goodBytes } = decodeRecords(bytes);
    const first = (records as Parameters<typeof isFirst>[0][]).findIndex(isFirst);
    if (first < 0 || goodBytes !== bytes.byteLength) throw new Error('no such record');
    let at = 0;
    for (let n = 0; n < first; n++) at += 8 + bytes.readUInt32BE(at);
    truncateSync(this.kernelsPath, at);
  }

  /** Kernelspecs of the home of the session, as `kernel.json`. */
  putSpecs(specs: Readonly<Record<string, object>>): void {
    for (const [name, spec] of Object.entries(specs)) {
      const folder = `${this.dir.path}/home/.local/share/jupyter/kernels/${name}`;
      mkdirSync(folder, { recursive: true });
      writeFileSync(`${folder}/kernel.json`, JSON.stringify(spec));
    }
  }

  channels(ask: ChannelsAsk): ChannelsReader {
    const of = { find: () => this.#session, timers: systemTimers(this.log) };
    const reader = new ChannelsReader(ask, channelsStream(of));
    this.#readers.push(reader);
    return reader;
  }

  async specs() {
    return (await kernelspecsCall({ find: () => this.#session })({ sessionId, generation: 1 }, never)).specs;
  }

  execute(ask: Ask): RunReader {
    const of = { find: () => this.#session, timers: systemTimers(this.log) };
    const reader = new RunReader(ask, executeStream(of));
    this.#readers.push(reader);
    return reader;
  }

  run(code: string, more: Partial<Ask> = {}): RunReader {
    return this.execute({ runId: freshRunId(), request: { mode: 'query', code }, ...more });
  }

  async list(): Promise<Kernel[]> {
    return (await kernelsCall({ find: () => this.#session })({ sessionId, generation: 1 }, never)).kernels;
  }

  async act(kernelId: string, act: CallInput<'kernel'>['act']): Promise<Kernel> {
    const of = { find: () => this.#session, timers: systemTimers(this.log) };
    return (await kernelCall(of)({ sessionId, generation: 1, kernelId, act }, never)).kernel;
  }

  /** As the edge asks for it, which waits for its answer on a clock of the test's own. */
  call(kernelId: string, act: CallInput<'kernel'>['act'], time: VirtualTime): Promise<Reply> {
    const refuse = () => Promise.reject(new Error('not in this test'));
    const calls = {
      echo: refuse,
      processes: refuse,
      kernels: refuse,
      kernel: kernelCall({ find: () => this.#session, timers: time }),
      kernelspecs: refuse,
      terminals: refuse,
      terminal: refuse,
      upgrade: refuse,
      describe: refuse,
      upgradeState: refuse,
    };
    const input = { sessionId, generation: 1, kernelId, act };
    const call = { type: 'call' as const, callId: newId('call', 0, crypto.getRandomValues(new Uint8Array(10))), input };
    return new Calls(calls, { clock: time, timers: time, log: this.log }).answer({
      ...call,
      op: 'kernel',
      deadlineMs: limits.callDeadlineMs,
    });
  }

  get #session(): Pick<Session, 'state' | 'supervisor' | 'kernels'> {
    return { state: 'running', supervisor: this.supervisor, kernels: this.kernels };
  }
}

/** With a kernelspec `fake`. */
export async function withBench<Own extends KernelBench>(own: Own, act: (own: Own) => Promise<void>): Promise<void> {
  await own.start();
  try {
    own.putSpecs({ fake: { argv: fakeArgv, display_name: 'Fake', language: 'fake' } });
    await act(own);
  } finally {
    await own.stop();
  }
}

export const freshKernelId = () => newId('kernel', Date.now(), crypto.getRandomValues(new Uint8Array(10)));

let runs = 0;
export const freshRunId = () => `run${++runs}`;

/** A client of one run: everything that it was sent, read as the edge and the CLI read it. */
export class RunReader {
  readonly stream = new TestStream<ExecuteEvent>((message) => ExecuteEvent.parse(message));
  readonly runId: string;
  readonly done: Promise<void>;
  error: unknown;
  isDone = false;

  constructor(ask: Ask, serve: ReturnType<typeof executeStream>) {
    this.runId = ask.runId;
    const open = { op: 'execute' as const, ...ask };
    this.done = serve({ sessionId, generation: 1, actorId: 'usr_test', open }, this.stream).then(
      () => void (this.isDone = true),
      (error: unknown) => {
        this.error = error;
        throw error;
      },
    );
    this.done.catch(() => undefined);
  }

  get events(): ExecuteEvent[] {
    return this.stream.events;
  }

  event<Kind extends ExecuteEvent['kind']>(kind: Kind): Promise<Extract<ExecuteEvent, { kind: Kind }>> {
    return until(() => this.events.find((event) => event.kind === kind) as Extract<ExecuteEvent, { kind: Kind }>, {
      what: `${kind} of ${this.runId} (so far ${JSON.stringify(this.events)})`,
      everyMs: 5,
      giveUp: () => (this.error === undefined ? undefined : String(this.error)),
    });
  }

  say(control: z.infer<typeof ExecuteInput> | { kind: 'interrupt' }): void {
    this.stream.control(control);
  }

  /** The client, its socket or the hub is gone. Returns how far it was, each byte of which it has whole. */
  cut(): { stdout: number; stderr: number } {
    this.stream.cut();
    return this.position;
  }

  get position(): { stdout: number; stderr: number } {
    const begun = this.events.find((event) => event.kind === 'begun');
    const from = begun?.kind === 'begun' ? begun.from : { stdout: 0, stderr: 0 };
    return begun === undefined ? from : this.#read().position;
  }

  text(name: 'stdout' | 'stderr' = 'stdout'): string {
    const isOf = (item: RunItem) => item.kind === 'bytes' && item.stream === name;
    return Buffer.concat(
      this.#read().items.flatMap((item) => (isOf(item) && 'bytes' in item ? [item.bytes] : [])),
    ).toString();
  }

  get records() {
    return this.#read().items.flatMap((item) => (item.kind === 'record' ? [item.record] : []));
  }

  /** What it was told that is missing. */
  get lost(): string[] {
    return this.#read().items.flatMap((item) => (item.kind === 'lost' ? [item.words] : []));
  }

  async whenText(text: string): Promise<void> {
    await until(() => this.text().includes(text), { what: `"${text}"`, everyMs: 5 });
  }

  /** How it ended, when it has. */
  async outcome() {
    await this.done;
    const last = this.events.at(-1);
    if (last?.kind !== 'finished') throw new Error(`no end: ${JSON.stringify(this.events)}`);
    return last.outcome;
  }

  #read(): { items: RunItem[]; position: { stdout: number; stderr: number } } {
    const begun = this.events.find((event) => event.kind === 'begun');
    if (begun?.kind !== 'begun') return { items: [], position: { stdout: 0, stderr: 0 } };
    const reader = openRunLog(begun, this.runId);
    const items: RunItem[] = [];
    const taken = { stdout: 0, stderr: 0 };
    const at = { ...begun.from };
    for (const { channel, offset } of this.stream.writes) {
      const name = channel === channels.stdout ? 'stdout' : 'stderr';
      if (channel !== channels.stdout && channel !== channels.stderr) continue;
      const bytes = this.stream.received[name][taken[name]++]!;
      if (offset !== at[name]) items.push(...reader.skip(name, offset));
      items.push(...reader.push(name, offset, bytes));
      at[name] = offset + bytes.byteLength;
    }
    return { items, position: reader.position };
  }
}

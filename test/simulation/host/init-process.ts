/** One process of a model init: its program in virtual time, its pipes, and how it ended. */
import type { ProcessExit, ProcessState, SpawnSpec } from '../../../agent-daemon/init/messages.ts';
import type { Clock, Timers } from '../../../schema/ports.ts';
import { type Ring, StreamModel } from './init-output.ts';
import type { BridgeWatch, Interpreter, InterpreterPorts } from './interpreters.ts';
import { bridgeOf } from './jupyter-bridge.ts';
import { kernelOf } from './kernel-program.ts';
import { type Program, programOf, patternBytes, type Step } from './programs.ts';
import { specsToolOf } from './specs-tool.ts';

const pipeBytes = 64 * 1024;
const enoent = 2;
const reapMs = 0.3;
const [sigint, sigterm] = [2, 15];

export interface ProcessHost {
  clock: Clock;
  timers: Timers;
  ring: Ring;
  /** Something is to be told: the process started, ended or has output. */
  changed(process: ModelProcess): void;
  /** A kernel begins to run what was asked for under this id. */
  ran(runId: string): void;
  /** A process with a terminal takes what was typed. */
  typed(processId: string, bytes: Uint8Array): void;
  /** Such a process has ended. */
  hungUp(processId: string): void;
  /** Who watches the bridge that this process is. */
  watch(processId: string): BridgeWatch;
  /** Names under which kernels wait that were started in advance. */
  waiting: Set<string>;
  /** One of them was taken. */
  took(): void;
}

type End = Pick<ProcessExit, 'kind' | 'value' | 'errno' | 'timeMs' | 'message'>;

/** What a program has written to one stream and the init has not read: the next of the pattern, or bytes of its own. */
class Written {
  pending = 0;
  #bytes: Buffer[] = [];
  #produced = 0;

  pattern(count: number): void {
    this.pending += count;
  }

  push(bytes: Buffer): void {
    this.#bytes.push(bytes);
    this.pending += bytes.byteLength;
  }

  peek(count: number): Buffer {
    if (this.#bytes.length === 0) return patternBytes(this.#produced, this.#produced + count);
    if (this.#bytes.length > 1) this.#bytes = [Buffer.concat(this.#bytes)];
    return this.#bytes[0]!.subarray(0, count);
  }

  consume(count: number): void {
    this.pending -= count;
    this.#produced += count;
    if (this.#bytes.length > 0) this.#bytes = [this.#bytes[0]!.subarray(count)];
    if (this.#bytes[0]?.byteLength === 0) this.#bytes = [];
  }

  /** What did not fit into the pipe was never written. */
  cut(): void {
    this.pending = Math.min(this.pending, pipeBytes);
  }
}

export class ModelProcess {
  readonly spec: SpawnSpec;
  readonly pid: number;
  readonly stdout: StreamModel;
  readonly stderr: StreamModel;
  readonly #host: ProcessHost;
  readonly #program: Program | undefined;
  readonly #interpreter: Interpreter | undefined;
  readonly #written = { stdout: new Written(), stderr: new Written() };
  readonly #startedMs: number;
  #started = false;
  #end: End | undefined;
  #cancel: () => void = () => undefined;
  #cancelEnd: () => void = () => undefined;
  #isWriting = false;
  #isEchoing = false;
  stdinOffset = 0;
  stdinOpen: boolean;
  /** What the pipe of stdin holds when the program does not read it. */
  #stdinHeld = 0;
  stdinStalled = false;
  /** Of a program that does not read yet. */
  #unread: Buffer[] = [];
  #isReading = false;
  /** The agent was away with the ring full for too long: the oldest goes. */
  gaveUp = false;
  blockedAtMs: number | undefined;

  constructor(spec: SpawnSpec, pid: number, host: ProcessHost) {
    this.spec = spec;
    this.pid = pid;
    this.#host = host;
    this.#program = programOf(spec.argv);
    const ports: InterpreterPorts = {
      timers: host.timers,
      write: (stream, bytes) => this.#write(stream, bytes),
      isFull: () => this.#written.stdout.pending > pipeBytes,
      exit: (value) => this.#endsSoon({ kind: 'code', value }),
      dies: (value) => this.#endsSoon({ kind: 'signal', value }),
      reads: () => this.#beginsToRead(),
      ran: (runId) => host.ran(runId),
      watch: () => host.watch(spec.processId),
      waiting: host.waiting,
      took: () => host.took(),
    };
    const { argv } = spec;
    this.#interpreter = kernelOf(argv, ports) ?? bridgeOf(argv, ports) ?? specsToolOf(argv, ports);
    this.#startedMs = host.clock.nowMs();
    this.stdinOpen = spec.stdin === 'open' || spec.tty !== undefined;
    this.stdout = new StreamModel(host.ring);
    this.stderr = new StreamModel(host.ring);
    this.#cancel = host.timers.after(1, () => this.#exec());
  }

  get id(): string {
    return this.spec.processId;
  }

  get started(): boolean {
    return this.#started;
  }

  get exited(): boolean {
    return this.#end !== undefined;
  }

  get isFinal(): boolean {
    return this.#end !== undefined && this.#written.stdout.pending + this.#written.stderr.pending === 0;
  }

  get drops(): boolean {
    return this.gaveUp || this.spec.output?.onFull === 'drop';
  }

  get exit(): ProcessExit | undefined {
    if (this.#end === undefined) return undefined;
    return { ...this.#end, final: this.isFinal, ends: { 1: this.stdout.end, 2: this.stderr.end } };
  }

  get state(): ProcessState {
    const { exit } = this;
    return {
      processId: this.id,
      pid: this.pid,
      tty: this.spec.tty !== undefined,
      stdinOpen: this.stdinOpen,
      started: this.#started,
      startedMs: this.#startedMs,
      stdinOffset: this.stdinOffset,
      acked: { 1: this.stdout.acked, 2: this.stderr.acked },
      ends: { 1: this.stdout.end, 2: this.stderr.end },
      ...(exit === undefined ? {} : { exit }),
    };
  }

  /** False when there is nobody to hear it. */
  signal(signal: number): boolean {
    if (this.#end !== undefined) return false;
    if (signal === sigint && this.#interpreter !== undefined) this.#interpreter.interrupt();
    else if (signal !== sigterm || !this.#takesTerm()) this.#endsSoon({ kind: 'signal', value: signal });
    return true;
  }

  /** It catches SIGTERM, or ignores it. */
  #takesTerm(): boolean {
    return this.#interpreter?.terminate() ?? this.#program?.ignoresTerm ?? false;
  }

  /** Takes what the pipe of stdin takes of bytes at `offset`. */
  write(offset: number, bytes: Uint8Array): void {
    if (!this.stdinOpen || offset > this.stdinOffset || offset + bytes.length <= this.stdinOffset) return;
    const fresh = Buffer.from(bytes.subarray(this.stdinOffset - offset));
    const room = this.#isEchoing ? pipeBytes - this.#written.stdout.pending : pipeBytes - this.#stdinHeld;
    const taken = fresh.subarray(0, Math.max(0, room));
    this.stdinOffset += taken.byteLength;
    this.stdinStalled = taken.byteLength < fresh.byteLength;
    if (this.spec.tty !== undefined) this.#host.typed(this.id, taken);
    if (this.#isReading) this.#interpreter?.read(taken);
    else if (this.#isEchoing) this.#write('stdout', taken);
    else {
      this.#stdinHeld += taken.byteLength;
      this.#unread.push(taken);
    }
  }

  /** False when not all input was written yet. */
  closeInput(offset: number): boolean {
    if (!this.stdinOpen) return true;
    if (offset !== this.stdinOffset) return false;
    this.stdinOpen = false;
    if (this.#isEchoing || this.#interpreter !== undefined) this.#endsSoon({ kind: 'code', value: 0 });
    return true;
  }

  /** Reads the pipe into the ring as far as there is room; by policy the oldest makes room. */
  pump(): void {
    this.#drain();
    if (this.#isWriting && this.#written.stdout.pending <= pipeBytes) {
      this.#isWriting = false;
      this.#step();
    }
    this.#host.changed(this);
  }

  #write(stream: 'stdout' | 'stderr', bytes: Buffer): void {
    this.#written[stream].push(bytes);
    this.pump();
  }

  #drain(): void {
    this.#read('stdout');
    this.#read('stderr');
    if (this.#written.stdout.pending < pipeBytes && this.stdinStalled) {
      this.stdinStalled = false;
      this.#host.changed(this);
    }
  }

  #read(name: 'stdout' | 'stderr'): void {
    const written = this.#written[name];
    while (written.pending > 0) {
      const wanted = Math.min(written.pending, pipeBytes);
      const { ring } = this.#host;
      if (this.drops) this.#makeRoom(Math.ceil(wanted / ring.chunkBytes));
      const taken = this[name].take(written.peek(wanted), ring.allowance(this.#held), this.#host.clock.nowMs());
      if (taken === 0 && !this.drops) {
        this.blockedAtMs ??= this.#host.clock.bootMs();
        break;
      }
      if (taken === 0) this[name].discard(wanted);
      written.consume(taken === 0 ? wanted : taken);
      this.blockedAtMs = undefined;
    }
  }

  /** The container ends: nothing of it runs on. */
  destroy(): void {
    if (this.spec.tty !== undefined) this.#host.hungUp(this.id);
    this.#cancel();
    this.#cancelEnd();
    this.#interpreter?.end();
    this.#end ??= { kind: 'signal', value: 9, errno: 0, timeMs: 0, message: '' };
  }

  release(): void {
    this.stdout.free();
    this.stderr.free();
  }

  get #held(): number {
    return this.stdout.chunks + this.stderr.chunks;
  }

  #makeRoom(wanted: number): void {
    while (this.#host.ring.allowance(this.#held) < wanted && this.#held > 0)
      (this.stdout.chunks > 0 ? this.stdout : this.stderr).dropOldest();
  }

  #exec(): void {
    this.#started = true;
    if (this.#interpreter !== undefined) {
      this.#interpreter.start();
      this.#host.changed(this);
      return;
    }
    if (this.#program === undefined) {
      const message = `exec: No such file or directory`;
      this.#ends({ kind: 'failed', value: 127, errno: enoent, message });
      return;
    }
    this.#step();
    this.#host.changed(this);
  }

  #beginsToRead(): void {
    this.#isReading = true;
    this.#stdinHeld = 0;
    for (const bytes of this.#unread.splice(0)) this.#interpreter?.read(bytes);
  }

  /** Runs the program to its next wait. */
  #step(): void {
    while (this.#end === undefined && !this.#isWriting && !this.#isEchoing) {
      const next = this.#program?.steps.next();
      if (next === undefined || next.done === true) return;
      if (!this.#do(next.value)) return;
    }
  }

  /** False when the program waits. */
  #do(step: Step): boolean {
    switch (step.kind) {
      case 'write':
        this.#written.stdout.pattern(step.bytes);
        this.#drain();
        this.#isWriting = this.#written.stdout.pending > pipeBytes;
        this.#host.changed(this);
        return !this.#isWriting;
      case 'wait':
        this.#cancel = this.#host.timers.after(step.ms, () => this.#step());
        return false;
      case 'exit':
        this.#ends({ kind: 'code', value: step.code });
        return false;
      case 'echo':
        this.#isEchoing = true;
        this.#stdinHeld = 0;
        for (const bytes of this.#unread.splice(0)) this.#write('stdout', bytes);
        if (!this.stdinOpen) this.#ends({ kind: 'code', value: 0 });
        return false;
      case 'idle':
        return false;
    }
  }

  /** A process is dead a moment after it was told to go, and its parent hears of it then. */
  #endsSoon(how: Pick<End, 'kind' | 'value'>): void {
    this.#cancelEnd();
    this.#cancelEnd = this.#host.timers.after(reapMs, () => this.#ends(how));
  }

  #ends(how: Partial<End> & Pick<End, 'kind' | 'value'>): void {
    if (this.#end !== undefined) return;
    if (this.spec.tty !== undefined) this.#host.hungUp(this.id);
    this.#cancel();
    this.#cancelEnd();
    this.#interpreter?.end();
    this.#written.stdout.cut();
    this.#written.stderr.cut();
    this.#isWriting = false;
    this.stdinOpen = false;
    this.#started = true;
    this.#end = { errno: 0, message: '', timeMs: this.#host.clock.nowMs(), ...how };
    this.pump();
  }
}

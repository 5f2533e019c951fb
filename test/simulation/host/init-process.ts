/** One process of a model init: its program in virtual time, its pipes, and how it ended. */
import type { ProcessExit, ProcessState, SpawnSpec } from '../../../agent-daemon/init/messages.ts';
import type { Clock, Timers } from '../../../schema/ports.ts';
import { type Ring, StreamModel } from './init-output.ts';
import { type Program, programOf, patternBytes, type Step } from './programs.ts';

const pipeBytes = 64 * 1024;
const enoent = 2;
const reapMs = 0.3;
const sigterm = 15;

export interface ProcessHost {
  clock: Clock;
  timers: Timers;
  ring: Ring;
  /** Something is to be told: the process started, ended or has output. */
  changed(process: ModelProcess): void;
}

type End = Pick<ProcessExit, 'kind' | 'value' | 'errno' | 'timeMs' | 'message'>;

export class ModelProcess {
  readonly spec: SpawnSpec;
  readonly pid: number;
  readonly stdout: StreamModel;
  readonly stderr: StreamModel;
  readonly #host: ProcessHost;
  readonly #program: Program | undefined;
  readonly #startedMs: number;
  #started = false;
  #end: End | undefined;
  #cancel: () => void = () => undefined;
  #cancelEnd: () => void = () => undefined;
  /** Written by the program and not read by the init: a length, or the bytes themselves when it echoes. */
  #pending = 0;
  #echo: Buffer[] = [];
  #produced = 0;
  #isWriting = false;
  #isEchoing = false;
  stdinOffset = 0;
  stdinOpen: boolean;
  /** What the pipe of stdin holds when the program does not read it. */
  #stdinHeld = 0;
  stdinStalled = false;
  /** The agent was away with the ring full for too long: the oldest goes. */
  gaveUp = false;
  blockedAtMs: number | undefined;

  constructor(spec: SpawnSpec, pid: number, host: ProcessHost) {
    this.spec = spec;
    this.pid = pid;
    this.#host = host;
    this.#program = programOf(spec.argv);
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
    return this.#end !== undefined && this.#pending === 0;
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
    if (signal !== sigterm || this.#program?.ignoresTerm !== true) this.#endsSoon({ kind: 'signal', value: signal });
    return true;
  }

  /** Takes what the pipe of stdin takes of bytes at `offset`. */
  write(offset: number, bytes: Uint8Array): void {
    if (!this.stdinOpen || offset > this.stdinOffset || offset + bytes.length <= this.stdinOffset) return;
    const fresh = Buffer.from(bytes.subarray(this.stdinOffset - offset));
    const room = this.#isEchoing ? pipeBytes - this.#pending : pipeBytes - this.#stdinHeld;
    const taken = fresh.subarray(0, Math.max(0, room));
    this.stdinOffset += taken.byteLength;
    this.stdinStalled = taken.byteLength < fresh.byteLength;
    if (!this.#isEchoing) {
      this.#stdinHeld += taken.byteLength;
      return;
    }
    this.#echo.push(taken);
    this.#pending += taken.byteLength;
    this.pump();
  }

  /** False when not all input was written yet. */
  closeInput(offset: number): boolean {
    if (!this.stdinOpen) return true;
    if (offset !== this.stdinOffset) return false;
    this.stdinOpen = false;
    if (this.#isEchoing) this.#endsSoon({ kind: 'code', value: 0 });
    return true;
  }

  /** Reads the pipe into the ring as far as there is room; by policy the oldest makes room. */
  pump(): void {
    this.#drain();
    if (this.#isWriting && this.#pending <= pipeBytes) {
      this.#isWriting = false;
      this.#step();
    }
    this.#host.changed(this);
  }

  #drain(): void {
    while (this.#pending > 0) {
      const wanted = Math.min(this.#pending, pipeBytes);
      const { ring } = this.#host;
      if (this.drops) this.#makeRoom(Math.ceil(wanted / ring.chunkBytes));
      const bytes = this.#peek(wanted);
      const taken = this.stdout.take(bytes, ring.allowance(this.#held), this.#host.clock.nowMs());
      if (taken === 0 && !this.drops) {
        this.blockedAtMs ??= this.#host.clock.bootMs();
        break;
      }
      if (taken === 0) this.stdout.discard(wanted);
      this.#consume(taken === 0 ? wanted : taken);
      this.blockedAtMs = undefined;
    }
    if (this.#pending < pipeBytes && this.stdinStalled) {
      this.stdinStalled = false;
      this.#host.changed(this);
    }
  }

  /** The container ends: nothing of it runs on. */
  destroy(): void {
    this.#cancel();
    this.#cancelEnd();
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
    while (this.#host.ring.allowance(this.#held) < wanted && this.#held > 0) this.stdout.dropOldest();
  }

  #peek(count: number): Buffer {
    if (this.#isEchoing) return Buffer.concat(this.#echo).subarray(0, count);
    return patternBytes(this.#produced, this.#produced + count);
  }

  #consume(count: number): void {
    this.#pending -= count;
    this.#produced += count;
    if (this.#isEchoing) this.#echo = [Buffer.concat(this.#echo).subarray(count)];
  }

  #exec(): void {
    this.#started = true;
    if (this.#program === undefined) {
      const message = `exec: No such file or directory`;
      this.#ends({ kind: 'failed', value: 127, errno: enoent, message });
      return;
    }
    this.#step();
    this.#host.changed(this);
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
        this.#pending += step.bytes;
        this.#drain();
        this.#isWriting = this.#pending > pipeBytes;
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
    this.#cancel();
    this.#cancelEnd();
    // What did not fit into the pipe was never written.
    this.#pending = Math.min(this.#pending, pipeBytes);
    this.#isWriting = false;
    this.stdinOpen = false;
    this.#started = true;
    this.#end = { errno: 0, message: '', timeMs: this.#host.clock.nowMs(), ...how };
    this.pump();
  }
}

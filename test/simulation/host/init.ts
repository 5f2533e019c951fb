/**
 * A model of causeway-init: PID 1 of a simulated container, which speaks the frames of SPEC.md and outlives agent and
 * engine. It runs programs of `programs.ts` and nothing else; what it tells of them is what the real one would tell.
 */
import type { Duplex } from 'node:stream';
import { firstSocketName } from '../../../agent-daemon/init/listener.ts';
import {
  nonceBytes,
  protocolVersion,
  type FromInit,
  type SpawnSpec,
  type ToInit,
} from '../../../agent-daemon/init/messages.ts';
import { agentProof, helloTag, initProof, sameDigest, socketName } from '../../../agent-daemon/init/session-key.ts';
import type { Clock, Random, Timers } from '../../../schema/ports.ts';
import { encodeFromInit, type ReceivedFrame, ToInitReader } from './init-codec.ts';
import { Ring } from './init-output.ts';
import { ModelProcess } from './init-process.ts';
import type { BridgeWatch } from './interpreters.ts';

const dialMs = 100;
const dialMaxMs = 1000;
const handshakeMs = 5000;
const silenceMs = 30_000;
const maxProcesses = 4096;
const maxDataBytes = 64 * 1024;
/** What may wait in the connection before output waits as well. */
const sendBytes = 80 * 1024;
const [sigkill, sigterm] = [9, 15];

export interface ModelInitOptions {
  clock: Clock;
  timers: Timers;
  random: Random;
  memoryBytes: number;
  /** Dials the socket of this name in the container's run directory; undefined when nobody listens there. */
  dial(name: string): Duplex | undefined;
  /** A process starts; true when it need not be told of another. */
  began?(): boolean;
  /** The init has exited, and the container with it. */
  exited(code: number): void;
  /** The lease ran out: nothing runs in the container any more, though it stays. */
  fenced?(): void;
  /** A kernel begins to run what was asked for under this id. */
  ran?(runId: string): void;
  /** A process with a terminal takes what was typed. */
  typed?(processId: string, bytes: Uint8Array): void;
  /** Such a process has ended. */
  hungUp?(processId: string): void;
  /** A kernel was taken that had been started in advance. */
  took?(): void;
  /** Who watches the bridge to a kernel of Jupyter that this process is. */
  watch?(processId: string): BridgeWatch;
  /** It is told that what a stream wrote before `offset` is safe. */
  forgets?(processId: string, stream: 'stdout' | 'stderr', offset: number): void;
}

const unwatched: BridgeWatch = {
  wrote: () => undefined,
  ran: () => undefined,
  did: () => undefined,
  ended: () => undefined,
};

type State = 'down' | 'greeting' | 'proving' | 'open';

export class ModelInit {
  readonly #options: ModelInitOptions;
  readonly #ring: Ring;
  readonly #processes = new Map<string, ModelProcess>();
  #key: Buffer | undefined;
  #nonce: Uint8Array = new Uint8Array(nonceBytes);
  #state: State = 'down';
  #connection: Duplex | undefined;
  #reader = new ToInitReader();
  #dialWaitMs = dialMs;
  #heardAtMs = 0;
  #contactLostAtMs: number;
  #cancelLink: () => void = () => undefined;
  #cancelLease: () => void = () => undefined;
  #cancelKill: () => void = () => undefined;
  #cancelGiveUp: () => void = () => undefined;
  #killAtMs = Number.POSITIVE_INFINITY;
  #hasBegun = false;
  readonly #waiting = new Set<string>();
  #leaseExpired = false;
  #terminating = false;
  #shutsDown = false;
  #nextPid = 2;
  /** Ends that the agent was not told yet on this connection, and whether the final one was told. */
  readonly #toldExits = new Map<string, boolean>();
  readonly #toldStarts = new Set<string>();
  #isDead = false;

  constructor(options: ModelInitOptions) {
    this.#options = options;
    this.#ring = new Ring(options.memoryBytes);
    this.#contactLostAtMs = options.clock.bootMs();
    this.#cancelLink = options.timers.after(1, () => this.#dial());
  }

  /** For a checker: every process that was started and not released, with what it wrote so far. */
  get processes(): readonly ModelProcess[] {
    return [...this.#processes.values()];
  }

  get isConnected(): boolean {
    return this.#state === 'open';
  }

  /** SIGKILL to PID 1, or the end of the host: everything in the container is gone. */
  kill(): void {
    this.#leave(128 + sigkill);
  }

  // ---- contact ----

  #dial(): void {
    const stream = this.#options.dial(this.#key === undefined ? firstSocketName : socketName(this.#key));
    if (stream === undefined) {
      this.#cancelLink = this.#options.timers.after(this.#dialWaitMs, () => this.#dial());
      this.#dialWaitMs = Math.min(dialMaxMs, this.#dialWaitMs * 2);
      return;
    }
    this.#connection = stream;
    this.#state = 'greeting';
    this.#reader = new ToInitReader();
    this.#heardAtMs = this.#options.clock.bootMs();
    stream.on('data', (chunk: Buffer) => this.#read(stream, chunk));
    stream.on('drain', () => this.#flush());
    stream.on('end', () => this.#hangUp(stream));
    stream.on('close', () => this.#hangUp(stream));
    this.#nonce = this.#options.random.bytes(nonceBytes);
    const tag = this.#key === undefined ? new Uint8Array(nonceBytes) : helloTag(this.#key, this.#nonce);
    const hasKey = this.#key !== undefined;
    this.#write({ type: 'hello', version: protocolVersion, hasKey, nonce: this.#nonce, tag });
    this.#watch(handshakeMs);
  }

  #watch(forMs: number): void {
    this.#cancelLink();
    const stream = this.#connection;
    this.#cancelLink = this.#options.timers.after(forMs, () => {
      const leftMs =
        this.#heardAtMs + (this.#state === 'open' ? silenceMs : handshakeMs) - this.#options.clock.bootMs();
      if (leftMs > 0) this.#watch(leftMs);
      else if (stream !== undefined) this.#hangUp(stream);
    });
  }

  #hangUp(stream: Duplex): void {
    if (this.#connection !== stream || this.#isDead) return;
    this.#connection = undefined;
    stream.removeAllListeners('data').removeAllListeners('drain').removeAllListeners('end').removeAllListeners('close');
    stream.destroy();
    if (this.#state === 'open') this.#contactLostAtMs = this.#options.clock.bootMs();
    this.#state = 'down';
    this.#cancelLink();
    this.#cancelLink = this.#options.timers.after(this.#dialWaitMs, () => this.#dial());
    this.#planGivingUp();
  }

  #read(stream: Duplex, chunk: Buffer): void {
    if (this.#connection !== stream) return;
    this.#heardAtMs = this.#options.clock.bootMs();
    try {
      for (const received of this.#reader.push(chunk)) {
        const isGood = this.#state === 'open' ? this.#obey(received) : this.#shakeHands(received.frame);
        if (!isGood) return this.#hangUp(stream);
        if (this.#isDead) return;
      }
    } catch {
      return this.#hangUp(stream);
    }
    this.#flush();
  }

  #shakeHands(frame: ToInit): boolean {
    if (this.#state === 'proving') {
      if (frame.type !== 'welcome') return false;
      this.#open();
      return true;
    }
    if (frame.type === 'key' && this.#key === undefined) this.#key = Buffer.from(frame.secret);
    else if (frame.type !== 'challenge' || this.#key === undefined) return false;
    else if (!sameDigest(agentProof(this.#key, this.#nonce, frame.nonce), frame.secret)) return false;
    this.#write({ type: 'proof', proof: initProof(this.#key, this.#nonce, frame.nonce) });
    this.#state = 'proving';
    return true;
  }

  #open(): void {
    this.#state = 'open';
    this.#dialWaitMs = dialMs;
    this.#watch(silenceMs);
    this.#cancelGiveUp();
    this.#toldExits.clear();
    for (const process of this.#processes.values()) {
      process.gaveUp = false;
      process.stdout.resumed = false;
      process.stderr.resumed = false;
      this.#write({ type: 'state', state: process.state });
      if (process.started) this.#toldStarts.add(process.id);
      this.#tellExit(process);
    }
    const [leaseExpired, terminating] = [this.#leaseExpired, this.#terminating];
    const bootMs = Math.floor(this.#options.clock.bootMs());
    this.#write({ type: 'ready', leaseExpired, terminating, ringBytes: this.#ring.bytes, bootMs });
  }

  // ---- commands ----

  #obey({ seq, frame }: ReceivedFrame): boolean {
    switch (frame.type) {
      case 'spawn':
        this.#spawn(seq, frame.spec);
        return true;
      case 'lease':
        this.#setLease(frame.deadlineBootMs);
        break;
      case 'terminate':
        this.#terminate(frame.graceMs);
        break;
      case 'shutdown':
        this.#write({ type: 'done', seq });
        this.#shutsDown = true;
        if (frame.now) this.#leaveSoon();
        else this.#leaveIfEmpty();
        return true;
      case 'ping':
        this.#write({ type: 'pong', seq });
        return true;
      case 'key':
      case 'challenge':
      case 'welcome':
        return false;
      default:
        return this.#command(seq, frame);
    }
    this.#write({ type: 'done', seq });
    return true;
  }

  #command(seq: number, frame: Extract<ToInit, { processId: string }>): boolean {
    const process = this.#processes.get(frame.processId);
    if (process === undefined) return this.#commandNobody(seq, frame);
    switch (frame.type) {
      case 'stdin':
        process.write(frame.offset, frame.bytes);
        this.#tellInput(process);
        return true;
      case 'stdinClose':
        return this.#answer(seq, process.closeInput(frame.offset), 'not all input was written');
      case 'resize':
        return this.#answer(seq, process.spec.tty !== undefined && !process.exited, 'no terminal');
      case 'signal':
        return this.#answer(seq, process.signal(frame.signal), 'nothing to signal');
      case 'release':
        if (process.exited) this.#release(process);
        this.#answer(seq, process.exited, 'still running');
        this.#leaveIfEmpty();
        return true;
      case 'ack':
        this.#options.forgets?.(frame.processId, frame.stream === 1 ? 'stdout' : 'stderr', frame.offset);
        return this.#moveStream(process, frame);
      case 'resume':
        return this.#moveStream(process, frame);
    }
  }

  #commandNobody(seq: number, frame: Extract<ToInit, { processId: string }>): boolean {
    const { processId } = frame;
    if (frame.type === 'release') this.#write({ type: 'done', seq });
    else if (frame.type === 'stdin')
      this.#write({ type: 'stdinAck', processId, offset: frame.offset, room: false, closed: true });
    else if (frame.type !== 'ack' && frame.type !== 'resume') this.#refuse(seq, 'unknown_process', 'no such process');
    return true;
  }

  /** False when the agent claims what can not be. */
  #moveStream(process: ModelProcess, frame: Extract<ToInit, { type: 'ack' | 'resume' }>): boolean {
    const stream = frame.stream === 1 ? process.stdout : process.stderr;
    if (frame.offset > stream.end) return false;
    if (frame.type === 'ack') {
      stream.acknowledge(frame.offset);
      for (const each of this.#processes.values()) each.pump();
      return true;
    }
    stream.resumed = true;
    stream.sent = frame.offset;
    return true;
  }

  #spawn(seq: number, spec: SpawnSpec): void {
    const known = this.#processes.get(spec.processId);
    if (known !== undefined) {
      this.#toldStarts.delete(spec.processId);
      return this.#tell(known);
    }
    if (this.#leaseExpired) return this.#refuse(seq, 'lease_expired', '');
    if (this.#terminating) return this.#refuse(seq, 'terminating', '');
    if (this.#processes.size >= maxProcesses) return this.#refuse(seq, 'limit', '');
    const { clock, timers } = this.#options;
    const changed = (process: ModelProcess): void => this.#changed(process);
    const ran = (runId: string): void => this.#options.ran?.(runId);
    const watch = (processId: string): BridgeWatch => this.#options.watch?.(processId) ?? unwatched;
    const typed = (processId: string, bytes: Uint8Array): void => this.#options.typed?.(processId, bytes);
    const hungUp = (processId: string): void => this.#options.hungUp?.(processId);
    const took = (): void => this.#options.took?.();
    const host = { clock, timers, ring: this.#ring, changed, ran, watch, typed, hungUp, took, waiting: this.#waiting };
    const process = new ModelProcess(spec, this.#nextPid++, host);
    this.#processes.set(spec.processId, process);
    if (!this.#hasBegun) this.#hasBegun = this.#options.began?.() ?? true;
  }

  #setLease(deadlineBootMs: number): void {
    this.#cancelLease();
    const { clock, timers } = this.#options;
    this.#cancelLease = timers.after(Math.max(0, deadlineBootMs - clock.bootMs()), () => {
      if (clock.bootMs() < deadlineBootMs) return this.#setLease(deadlineBootMs);
      this.#leaseExpired = true;
      this.#signalAll(sigkill);
      this.#options.fenced?.();
      this.#write({ type: 'leaseExpired' });
      this.#flush();
    });
  }

  #terminate(graceMs: number): void {
    const { clock, timers } = this.#options;
    this.#terminating = true;
    this.#signalAll(sigterm);
    const killAtMs = clock.bootMs() + graceMs;
    if (killAtMs >= this.#killAtMs) return;
    this.#killAtMs = killAtMs;
    this.#cancelKill();
    this.#cancelKill = timers.after(graceMs, () => {
      this.#killAtMs = Number.POSITIVE_INFINITY;
      this.#signalAll(sigkill);
      this.#flush();
    });
  }

  #signalAll(signal: number): void {
    for (const process of this.#processes.values()) process.signal(signal);
  }

  #release(process: ModelProcess): void {
    process.release();
    this.#processes.delete(process.id);
    this.#toldExits.delete(process.id);
    this.#toldStarts.delete(process.id);
  }

  #leaveIfEmpty(): void {
    if (this.#shutsDown && this.#processes.size === 0) this.#leaveSoon();
  }

  /** What was said is on its way first. */
  #leaveSoon(): void {
    this.#options.timers.after(1, () => this.#leave());
  }

  #leave(code = 0): void {
    if (this.#isDead) return;
    this.#isDead = true;
    for (const cancel of [this.#cancelLink, this.#cancelLease, this.#cancelKill, this.#cancelGiveUp]) cancel();
    for (const process of this.#processes.values()) process.destroy();
    this.#connection?.removeAllListeners();
    this.#connection?.destroy();
    this.#connection = undefined;
    this.#state = 'down';
    this.#options.exited(code);
  }

  // ---- what is told ----

  #changed(process: ModelProcess): void {
    if (this.#isDead || !this.#processes.has(process.id)) return;
    if (process.blockedAtMs !== undefined) this.#planGivingUp();
    this.#tell(process);
    this.#flush();
  }

  #tell(process: ModelProcess): void {
    if (this.#state !== 'open') return;
    if (process.started && !this.#toldStarts.has(process.id)) {
      this.#toldStarts.add(process.id);
      this.#write({ type: 'spawned', processId: process.id, pid: process.pid });
    }
    if (process.stdinStalled) this.#tellInput(process);
    this.#tellExit(process);
  }

  #tellExit(process: ModelProcess): void {
    const { exit } = process;
    if (exit === undefined || this.#toldExits.get(process.id) === exit.final) return;
    if (!this.#toldExits.has(process.id) && process.spec.stdin === 'open') this.#tellInput(process);
    this.#toldExits.set(process.id, exit.final);
    this.#write({ type: 'exit', processId: process.id, exit });
  }

  #tellInput({ id, stdinOffset, stdinStalled, stdinOpen }: ModelProcess): void {
    this.#write({ type: 'stdinAck', processId: id, offset: stdinOffset, room: !stdinStalled, closed: !stdinOpen });
  }

  /** Streams in turn, a frame each, while the connection takes them. */
  #flush(): void {
    for (let moved = true; moved && this.#state === 'open';) {
      moved = false;
      for (const process of this.#processes.values()) {
        for (const stream of [1, 2] as const) moved = this.#sendNext(process, stream) || moved;
      }
    }
  }

  #sendNext(process: ModelProcess, stream: 1 | 2): boolean {
    if ((this.#connection?.writableLength ?? Infinity) > sendBytes) return false;
    const next = (stream === 1 ? process.stdout : process.stderr).next(maxDataBytes);
    if (next === undefined) return false;
    const processId = process.id;
    if (next.kind === 'gap') this.#write({ type: 'gap', processId, stream, from: next.from, to: next.to });
    else
      this.#write({ type: 'output', processId, stream, offset: next.offset, timeMs: next.timeMs, bytes: next.bytes });
    return true;
  }

  /** [I23] Out of contact with the ring full, a process may lose its oldest output after its blockMs. */
  #planGivingUp(): void {
    if (this.#state === 'open') return;
    this.#cancelGiveUp();
    let first = Number.POSITIVE_INFINITY;
    for (const process of this.#processes.values()) first = Math.min(first, this.#giveUpAtMs(process));
    if (first === Number.POSITIVE_INFINITY) return;
    const { clock, timers } = this.#options;
    this.#cancelGiveUp = timers.after(Math.max(0, first - clock.bootMs()), () => {
      for (const process of this.#processes.values()) {
        if (this.#giveUpAtMs(process) > clock.bootMs()) continue;
        process.gaveUp = true;
        process.pump();
      }
      this.#planGivingUp();
    });
  }

  #giveUpAtMs(process: ModelProcess): number {
    if (process.blockedAtMs === undefined || process.drops) return Number.POSITIVE_INFINITY;
    return Math.max(process.blockedAtMs, this.#contactLostAtMs) + (process.spec.output?.blockMs ?? 600_000);
  }

  #answer(seq: number, isDone: boolean, message: string): true {
    if (isDone) this.#write({ type: 'done', seq });
    else this.#refuse(seq, 'wrong_state', message);
    return true;
  }

  #refuse(seq: number, refusal: Extract<FromInit, { type: 'refused' }>['refusal'], message: string): void {
    this.#write({ type: 'refused', seq, refusal, message });
  }

  #write(frame: FromInit): void {
    if (this.#state === 'down') return;
    this.#connection?.write(encodeFromInit(frame));
  }
}

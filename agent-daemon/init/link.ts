/**
 * The agent's end of the conversation with one causeway-init (SPEC.md). It survives any number of reconnects: what was
 * asked for is asked again, output goes on at the offset where it stopped, and nothing is delivered twice. It must never
 * acknowledge output by itself: only the caller knows when the bytes are safe.
 */
import type { Duplex } from 'node:stream';
import { InitCaller } from './caller.ts';
import { encode, FrameReader } from './codec.ts';
import { Followed } from './followed.ts';
import type { KeyStore } from './handshake.ts';
import type { InitLinkOptions, LinkState } from './link-options.ts';
import { InitListener } from './listener.ts';
import type { FromInit, ProcessState, SignalScope, SpawnSpec, StreamNumber, ToInit } from './messages.ts';
import { InitRefusal } from './refusal.ts';
import { Requests } from './requests.ts';
import type { SessionKey } from './session-key.ts';

const pingMs = 10_000;
const silenceMs = 30_000;
/** Output that was handed to `onOutput` and is not settled; beyond this the connection is not read. */
const maxUnsettledBytes = 1024 * 1024;

export class InitLink {
  readonly #options: InitLinkOptions;
  readonly #keys: KeyStore;
  readonly #listener: InitListener;
  #caller: InitCaller | undefined;
  #key: SessionKey | undefined;
  #connection: Duplex | undefined;
  #state: LinkState = 'idle';
  readonly #requests = new Requests();
  readonly #followed = new Map<string, Followed>();
  /** What the init told at this connect. */
  readonly #listed = new Map<string, ProcessState>();
  /** Ends that were told before the list was complete. */
  #earlyExits: (FromInit & { type: 'exit' })[] = [];
  readonly #acks = new Map<string, ToInit>();
  #unsettledBytes = 0;
  #paused = false;
  #heardMs = 0;
  /** What the init's boot clock is ahead of ours. */
  #bootOffsetMs = 0;
  #stopPinging = (): void => {};
  #ready: PromiseWithResolvers<void> = newReady();

  constructor(options: InitLinkOptions) {
    this.#options = options;
    this.#key = options.sessionKey;
    this.#keys = {
      key: () => this.#key,
      saveKey: async (key) => {
        await options.saveSessionKey(key);
        this.#key = key;
      },
    };
    const { dir, door, clock, random, timers, log } = options;
    this.#listener = new InitListener({
      dir,
      door,
      keys: this.#keys,
      clock,
      random,
      timers,
      onInit: (socket) => this.#connected(socket),
      onRefused: (reason) => log.warn('refused a connection to the socket of an init', { dir, reason }),
    });
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Resolves when the init can dial in: call it before the container starts. Over stdio it waits for `attach`. */
  async listen(): Promise<void> {
    if (this.#state !== 'idle') return;
    this.#setState('waiting');
    if (this.#options.transport !== 'stdio') await this.#listener.listen();
  }

  /** Talks over the stdin and stdout of an init that was started with `--stdio`. Again after each loss of them. */
  attach(stream: Duplex): void {
    const { random, timers } = this.#options;
    if (this.#state === 'closed') {
      stream.destroy();
      return;
    }
    this.#setState('waiting');
    this.#caller?.stop();
    this.#caller = new InitCaller(
      { keys: this.#keys, random, timers, onInit: (connection) => this.#connected(connection) },
      stream,
    );
    this.#caller.start();
  }

  /** Resolves when the init is connected and has told all its processes. Listens if nothing was done for that yet. */
  async ready(): Promise<void> {
    await this.listen();
    await this.#ready.promise;
  }

  /** Lets go of the init, which goes on. What still waits for an answer rejects with `closed`. */
  async close(): Promise<void> {
    this.#setState('closed');
    this.#listener.stop();
    this.#caller?.stop();
    this.#connection?.destroy();
    this.#stopPinging();
    const error = new InitRefusal('closed', 'the link to the init was closed');
    this.#ready.reject(error);
    this.#requests.fail(error);
    for (const { stdin } of this.#followed.values()) stdin.fail(error);
  }

  /**
   * Starts a process. Resolves when it became its program, or failed to, which `onExit` tells; rejects with
   * `InitRefusal` when nothing was started. The same id again reports the same process. Output needs no `resume`.
   */
  spawn(spec: SpawnSpec): Promise<{ pid: number }> {
    const { processId } = spec;
    const followed = this.#follow(processId);
    if (followed.spawning) return followed.spawning.promise;
    const isNew = !this.#listed.has(processId);
    const spawning = Promise.withResolvers<{ pid: number }>();
    followed.spawning = spawning;
    if (isNew) followed.startsHere();
    this.#request({ type: 'spawn', spec }).catch((error: unknown) => {
      if (isNew) this.#followed.delete(processId);
      followed.spawning = undefined;
      spawning.reject(error);
    });
    return spawning.promise;
  }

  /**
   * Writes bytes that lie at `offset` of the process's stdin; what it has already is skipped. Resolves with the offset
   * behind them when the pipe took all, so awaiting it is the backpressure. Rejects with `stdin_closed`. In order.
   */
  writeStdin(processId: string, offset: number, bytes: Uint8Array): Promise<number> {
    return this.#follow(processId).stdin.write(offset, bytes);
  }

  /** Half-closes stdin behind everything that was given to `writeStdin` (a terminal gets ^D). */
  async closeStdin(processId: string): Promise<void> {
    const { stdin } = this.#follow(processId);
    await stdin.settled();
    await this.#request({ type: 'stdinClose', processId, offset: stdin.offset });
  }

  resize(processId: string, rows: number, cols: number): Promise<void> {
    return this.#request({ type: 'resize', processId, rows, cols });
  }

  /** To the process's group, or only to it, or to its session: background jobs, and what is left after its end. */
  signal(processId: string, signal: number, scope: SignalScope = 'group'): Promise<void> {
    return this.#request({ type: 'signal', processId, signal, scope });
  }

  /** Everything before `offset` is safe: the init forgets it. Gathered, and sent again after a reconnect. */
  ack(processId: string, stream: StreamNumber, offset: number): void {
    if (!this.#follow(processId).acknowledge(stream, offset)) return;
    if (this.#acks.size === 0) this.#options.soon(() => this.#flushAcks());
    this.#acks.set(`${processId}/${stream}`, { type: 'ack', processId, stream, offset });
  }

  /** With a stream: its output from `offset` on, also from an earlier one while it flows. Without: reads again after `pause`. */
  resume(): void;
  resume(processId: string, stream: StreamNumber, offset: number): void;
  resume(processId?: string, stream?: StreamNumber, offset?: number): void {
    if (processId === undefined || stream === undefined || offset === undefined) {
      this.#paused = false;
      this.#regulate();
      return;
    }
    this.#follow(processId).resume(stream, offset);
    this.#send({ type: 'resume', processId, stream, offset });
  }

  /** Reads nothing more: the init keeps what its ring holds, and lets the processes wait. */
  pause(): void {
    this.#paused = true;
    this.#regulate();
  }

  /** Forgets an ended process at both ends, acknowledged or not. Its id may be used again. */
  async release(processId: string): Promise<void> {
    await this.#request({ type: 'release', processId });
    this.#followed.get(processId)?.stdin.fail(new InitRefusal('unknown_process', 'the process was released'));
    this.#followed.delete(processId);
    this.#listed.delete(processId);
  }

  /** All processes are killed `seconds` from now (CLOCK_BOOTTIME), unless another lease comes. Being late shortens it. */
  lease(seconds: number): Promise<void> {
    return this.#request({ type: 'lease', deadlineBootMs: Math.round(this.#options.clock.bootMs() + seconds * 1000) });
  }

  /** SIGTERM to everything, SIGKILL after `graceMs`. Nothing can be spawned any more. */
  terminate(graceMs: number): Promise<void> {
    return this.#request({ type: 'terminate', graceMs });
  }

  /** The init exits, and the container with it: when all processes ended and are released, or `now`. */
  shutdown(now = false): Promise<void> {
    return this.#request({ type: 'shutdown', now });
  }

  #setState(state: LinkState): void {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    this.#options.onState?.(state);
  }

  #follow(processId: string): Followed {
    const known = this.#followed.get(processId);
    if (known) return known;
    const followed = new Followed(processId, (frame) => this.#send(frame));
    this.#followed.set(processId, followed);
    const state = this.#listed.get(processId);
    if (this.#state === 'connected')
      followed.stdin.acknowledged(state?.stdinOffset ?? 0, true, state?.stdinOpen === false);
    return followed;
  }

  #send(frame: ToInit, seq = 0): void {
    if (this.#state === 'connected') this.#connection?.write(encode(this.#toTheirClock(frame), seq));
  }

  /** A deadline is kept by our clock, of which the origin is not theirs, until it is sent. */
  #toTheirClock(frame: ToInit): ToInit {
    if (frame.type !== 'lease') return frame;
    return { ...frame, deadlineBootMs: Math.max(1, frame.deadlineBootMs + this.#bootOffsetMs) };
  }

  /** Resolves when the init did it. Throws RangeError for values that do not fit. */
  async #request(frame: ToInit): Promise<void> {
    if (this.#state === 'closed') throw new InitRefusal('closed', 'the link to the init was closed');
    const seq = this.#requests.nextSeq();
    encode(this.#toTheirClock(frame), seq);
    const answer = this.#requests.wait(seq, frame);
    this.#send(frame, seq);
    await answer;
  }

  #flushAcks(): void {
    const frames = [...this.#acks.values()].map((frame) => encode(frame));
    this.#acks.clear();
    if (this.#state === 'connected') this.#connection?.write(Buffer.concat(frames));
  }

  // ---- the connection ----

  #connected(connection: Duplex): void {
    if (this.#state === 'closed') {
      connection.destroy();
      return;
    }
    const reader = new FrameReader();
    this.#connection = connection;
    this.#listed.clear();
    this.#earlyExits = [];
    connection.on('error', () => {});
    connection.on('close', () => this.#disconnected(connection));
    connection.on('data', (chunk: Buffer) => this.#read(connection, reader, chunk));
    this.#heardMs = this.#options.clock.bootMs();
    this.#ping();
    this.#regulate();
  }

  #read(connection: Duplex, reader: FrameReader, chunk: Buffer): void {
    if (this.#connection !== connection) return;
    this.#heardMs = this.#options.clock.bootMs();
    try {
      for (const frame of reader.push(chunk)) this.#receive(frame);
    } catch (error) {
      this.#options.log.error('an init broke the protocol', { dir: this.#options.dir, error: String(error) });
      connection.destroy();
    }
  }

  /** An init that is silent for 30 s is given up; one that we do not read can not be heard. */
  #ping(): void {
    const { clock, timers } = this.#options;
    this.#stopPinging = timers.after(pingMs, () => {
      if (this.#connection?.isPaused()) this.#heardMs = clock.bootMs();
      if (clock.bootMs() - this.#heardMs > silenceMs) {
        this.#connection?.destroy();
        return;
      }
      this.#send({ type: 'ping' });
      this.#ping();
    });
  }

  #disconnected(connection: Duplex): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#stopPinging();
    if (this.#state === 'closed') return;
    const wasConnected = this.#state === 'connected';
    this.#setState('waiting');
    for (const { stdin } of this.#followed.values()) stdin.disconnected();
    this.#requests.disconnected();
    if (wasConnected) {
      this.#ready = newReady();
      this.#options.onDisconnected?.();
    }
    if (this.#caller !== undefined || this.#options.transport === 'stdio') return; // whoever attached does it again
    this.#listener.listen().catch((error: unknown) => {
      this.#options.log.error('can not listen for an init', { dir: this.#options.dir, error: String(error) });
    });
  }

  #regulate(): void {
    if (this.#paused || this.#unsettledBytes > maxUnsettledBytes) this.#connection?.pause();
    else this.#connection?.resume();
  }

  #receive(frame: FromInit): void {
    switch (frame.type) {
      case 'state':
        this.#listed.set(frame.state.processId, frame.state);
        break;
      case 'ready':
        this.#becomeReady(frame);
        break;
      case 'spawned':
        this.#spawned(frame.processId, frame.pid);
        break;
      case 'stdinAck':
        this.#followed.get(frame.processId)?.stdin.acknowledged(frame.offset, frame.room, frame.closed);
        break;
      case 'output':
        this.#output(frame);
        break;
      case 'gap':
        this.#gap(frame);
        break;
      case 'exit':
        if (this.#state === 'connected') this.#options.onExit?.(frame.processId, frame.exit);
        else this.#earlyExits.push(frame);
        break;
      case 'leaseExpired':
        this.#options.onLeaseExpired?.();
        break;
      case 'done':
      case 'refused':
        this.#requests.answered(frame);
        break;
      case 'pong':
        break;
      case 'hello':
      case 'proof':
        throw new Error('a frame of the handshake after the handshake');
    }
  }

  #becomeReady({ leaseExpired, terminating, ringBytes, bootMs }: FromInit & { type: 'ready' }): void {
    this.#bootOffsetMs = Math.floor(bootMs - this.#options.clock.bootMs());
    this.#setState('connected');
    const listed = [...this.#listed.values()].map((state) => ({ ...state, resumed: this.#goOn(state) }));
    this.#options.onConnected?.({ leaseExpired, terminating, ringBytes });
    this.#options.onProcesses?.(listed);
    this.#requests.repeat((frame, seq) => this.#send(frame, seq));
    for (const [processId, { stdin }] of this.#followed)
      if (!this.#listed.has(processId)) stdin.acknowledged(0, true, false);
    for (const { processId, exit } of this.#earlyExits.splice(0)) this.#options.onExit?.(processId, exit);
    if (leaseExpired) this.#options.onLeaseExpired?.();
    this.#ready.resolve();
  }

  /** Takes up a process where this link left it. True when its output goes on. */
  #goOn(state: ProcessState): boolean {
    const followed = this.#followed.get(state.processId);
    for (const frame of followed?.goOn(state) ?? []) this.#send(frame);
    return followed?.isResumed ?? false;
  }

  #spawned(processId: string, pid: number): void {
    this.#requests.spawned(processId);
    const followed = this.#followed.get(processId);
    followed?.spawning?.resolve({ pid });
    if (followed) followed.spawning = undefined;
  }

  #output(frame: FromInit & { type: 'output' }): void {
    const { processId, stream, timeMs } = frame;
    const followed = this.#followed.get(processId);
    const piece = followed?.takeOutput(frame);
    if (!followed || !piece) return;
    const settled = this.#options.onOutput?.(processId, stream, piece.offset, timeMs, piece.bytes);
    if (settled) void this.#settle(settled, piece.bytes.length, () => followed.takeBack(stream, piece.offset));
  }

  async #settle(settled: Promise<void>, size: number, takeBack: () => void): Promise<void> {
    this.#unsettledBytes += size;
    this.#regulate();
    try {
      await settled;
    } catch (error) {
      this.#options.log.error('output was not taken and comes again', { error: String(error) });
      takeBack();
      this.#connection?.destroy();
    } finally {
      this.#unsettledBytes -= size;
      this.#regulate();
    }
  }

  #gap(frame: FromInit & { type: 'gap' }): void {
    const { processId, stream, to } = frame;
    const followed = this.#followed.get(processId);
    const from = followed?.takeGap(frame);
    if (!followed || from === undefined) return;
    const settled = this.#options.onGap?.(processId, stream, from, to);
    if (settled) void this.#settle(settled, 0, () => followed.takeBack(stream, from));
  }
}

/** Nobody may be waiting when it is rejected. */
function newReady(): PromiseWithResolvers<void> {
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {});
  return ready;
}

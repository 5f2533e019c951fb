/**
 * Where the init of one session dials in. The directory is mounted into the container, so everything of the tenant can
 * reach a socket in it. Hence: it listens only while no init is connected; the socket's name is a secret after first
 * contact and the directory can not be listed; a stranger is closed at its first frame, or after 2 s, or when 16 others
 * came after it; one handshake at a time and two a second.
 */
import type { Duplex } from 'node:stream';
import type { Clock, Random, Timers } from '../../schema/ports.ts';
import { encode, FrameReader, MalformedFrame } from './codec.ts';
import { Handshake, refuseHello, type Hello, type KeyStore } from './handshake.ts';
import type { InitDoor } from './link-options.ts';
import type { FromInit } from './messages.ts';
import { socketName } from './session-key.ts';

/** The name that the init dials at first contact. */
export const firstSocketName = 'agent.sock';

const authenticateMs = 2000;
const handshakeEveryMs = 500;
const maxStrangers = 16;
const reportEveryMs = 1000;
/** HELLO and PROOF are small; nobody unknown gets a larger buffer. */
const maxHandshakePayload = 128;

export interface ListenerOptions {
  dir: string;
  door: InitDoor;
  keys: KeyStore;
  clock: Clock;
  random: Random;
  timers: Timers;
  /** An authenticated connection, paused. The listener has stopped; `listen()` again when it is over. */
  onInit(socket: Duplex): void;
  /** Who was refused and why; for the log, at most once a second. */
  onRefused(reason: string): void;
}

interface Stranger {
  socket: Duplex;
  reader: FrameReader;
  cancelTimer: () => void;
  /** `waiting`: nothing may come from the other end now. */
  handshake?: Handshake | 'waiting';
}

export class InitListener {
  readonly #options: ListenerOptions;
  /** What ends each of the open sockets. */
  #open: (() => void)[] = [];
  readonly #strangers = new Set<Stranger>();
  #handshaking: Stranger | undefined;
  #nextHandshakeAtMs = -Infinity;
  #nextReportAtMs = -Infinity;
  #stopped = true;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  /** Resolves when the init can dial in. */
  async listen(): Promise<void> {
    this.#stopped = false;
    const { dir, door, keys } = this.#options;
    const key = keys.key();
    if (key?.confirmed) await door.remove(dir, firstSocketName);
    else await this.#listenAs(firstSocketName);
    if (key) await this.#listenAs(socketName(key.bytes));
    if (this.#stopped) this.stop();
  }

  /** Closes the listening sockets and everybody who is not authenticated. */
  stop(): void {
    this.#stopped = true;
    for (const stranger of this.#strangers) this.#dismiss(stranger);
    for (const close of this.#open.splice(0)) close();
  }

  async #listenAs(name: string): Promise<void> {
    if (this.#stopped) return;
    const { dir, door } = this.#options;
    this.#open.push(await door.listen(dir, name, (stream) => this.#accept(stream)));
  }

  #accept(socket: Duplex): void {
    const { timers } = this.#options;
    const cancelTimer = timers.after(authenticateMs, () => this.#refuse(stranger, 'too slow'));
    const stranger: Stranger = { socket, reader: new FrameReader(maxHandshakePayload), cancelTimer };
    this.#strangers.add(stranger);
    socket.on('error', () => this.#dismiss(stranger));
    socket.on('close', () => this.#dismiss(stranger));
    socket.on('data', (chunk: Buffer) => this.#read(stranger, chunk));
    for (const oldest of this.#strangers) {
      if (this.#strangers.size <= maxStrangers) break;
      if (oldest !== this.#handshaking) this.#refuse(oldest, 'too many connections');
    }
  }

  #dismiss(stranger: Stranger): void {
    stranger.cancelTimer();
    this.#strangers.delete(stranger);
    if (this.#handshaking === stranger) this.#handshaking = undefined;
    stranger.socket.destroy();
  }

  #refuse(stranger: Stranger, reason: string): void {
    const { clock } = this.#options;
    if (!this.#strangers.has(stranger)) return;
    this.#dismiss(stranger);
    if (clock.bootMs() < this.#nextReportAtMs) return;
    this.#nextReportAtMs = clock.bootMs() + reportEveryMs;
    this.#options.onRefused(reason);
  }

  /** One frame is due at a time: HELLO, then PROOF. Whoever sends anything else is no init. */
  #read(stranger: Stranger, chunk: Buffer): void {
    try {
      const [frame, ...more] = stranger.reader.push(chunk);
      if (!frame) return;
      if (more.length > 0 || stranger.reader.pending) throw new MalformedFrame('more than one frame at a time');
      if (!stranger.handshake) this.#greet(stranger, frame);
      else if (stranger.handshake === 'waiting') throw new MalformedFrame('a frame before its turn');
      else this.#guard(stranger, this.#finish(stranger, stranger.handshake, frame));
    } catch (error) {
      if (!(error instanceof MalformedFrame)) throw error;
      this.#refuse(stranger, error.message);
    }
  }

  #guard(stranger: Stranger, step: Promise<void>): void {
    step.catch((error: unknown) => this.#refuse(stranger, String(error)));
  }

  /** Decides by the first frame alone whether this may be the init. */
  #greet(stranger: Stranger, hello: FromInit): void {
    const { keys, clock, timers } = this.#options;
    if (hello.type !== 'hello') throw new MalformedFrame('not a HELLO');
    const reason = refuseHello(hello, keys.key()) ?? (this.#handshaking && 'another handshake is under way');
    if (reason) return this.#refuse(stranger, reason);
    this.#handshaking = stranger;
    stranger.handshake = 'waiting';
    const waitMs = Math.max(0, this.#nextHandshakeAtMs - clock.bootMs());
    this.#nextHandshakeAtMs = clock.bootMs() + waitMs + handshakeEveryMs;
    stranger.cancelTimer();
    stranger.cancelTimer = timers.after(waitMs, () => this.#guard(stranger, this.#begin(stranger, hello)));
  }

  async #begin(stranger: Stranger, hello: Hello): Promise<void> {
    const { keys, random, timers } = this.#options;
    stranger.cancelTimer = timers.after(authenticateMs, () => this.#refuse(stranger, 'too slow'));
    const handshake = new Handshake(keys, random, hello);
    const answer = await handshake.answer(random);
    stranger.handshake = handshake;
    if (this.#strangers.has(stranger)) stranger.socket.write(answer);
  }

  async #finish(stranger: Stranger, handshake: Handshake, frame: FromInit): Promise<void> {
    stranger.handshake = 'waiting';
    if (!(await handshake.accept(frame))) return this.#refuse(stranger, 'a wrong proof');
    if (!this.#strangers.delete(stranger)) return;
    const { socket } = stranger;
    stranger.cancelTimer();
    this.#handshaking = undefined;
    socket.pause();
    socket.removeAllListeners('data').removeAllListeners('error').removeAllListeners('close');
    this.stop();
    socket.write(encode({ type: 'welcome' }));
    this.#options.onInit(socket);
  }
}

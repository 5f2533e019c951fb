/**
 * Between the WebSocket of a Jupyter client and the channels of a kernel in the tunnel (SPEC rule S17). The agent keeps
 * what the kernel says and what it is told; this only moves records, knows its place, and opens the tunnel's stream again
 * from there when it was cut, which the client does not notice. Memory is bounded: towards the client by what it may not
 * have read (`unproven.ts`), towards the kernel by what its agent has not kept (`kept-input.ts`).
 */
import { type ErrorCode, Refusal } from '../../../schema/errors.ts';
import type { Clock, Log, Random, Timers } from '../../../schema/ports.ts';
import { BridgeNote, bridgeChannel, ChannelsEvent, wordsOfNote } from '../../../schema/protocol/channels.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { parseJson } from '../../../schema/protocol/json.ts';
import { closeCodes } from '../../../schema/protocol/limits.ts';
import { StreamOver } from '../../../schema/protocol/stream.ts';
import { type OpenedStream, refusalOf } from '../../tunnel/client-stream.ts';
import { type ClientSocket, clientMessageBytes } from './client-socket.ts';
import type { Askers } from './askers.ts';
import type { Executions } from './executions.ts';
import {
  FramingError,
  joinRecord,
  type LogPosition,
  type LogRecord,
  type Message,
  splitMessage,
} from '../../../schema/protocol/jupyter-framing.ts';
import { heals } from './heals.ts';
import { KeptInput } from './kept-input.ts';
import { headingOf, noteOf, spoken } from './messages.ts';
import type { Place } from './places.ts';
import { Replay } from './replay.ts';
import { isAnswerToGateway, type Requests } from './requests.ts';
import { scanExecutions } from './scan.ts';
import { Standing } from './standing.ts';
import { hexOf, Voice } from './voice.ts';

export interface BridgePorts {
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  /** Opens the kernel's channels behind a place, absent: from now on. Starts what is not there yet. @throws Refusal */
  open(after: LogPosition | undefined, writer?: string): Promise<OpenedStream>;
  /** May the person still? Rejects when nobody can tell. */
  stillAllowed(): Promise<boolean>;
  /** Why the kernel can not be reached for good, in words. */
  explain(refusal: Refusal): Promise<string>;
  /** Resolves with true as soon as the session runs, with false after `withinMs`, or when that can not be told. */
  whenStarted(withinMs: number): Promise<boolean>;
  /** True when the kernel's end is one that somebody asked for. */
  isRestarted(): boolean;
  /** True while this machine stops. */
  isDraining(): boolean;
}

/** What a kernel and its client are known by, and how far they are. */
export interface BridgeMemory {
  executions: Executions;
  askers: Askers;
  requests: Requests;
  /** The client's `session_id`, by which it is known when it comes back. */
  session: string | undefined;
  /** Absent: the client can not come back. */
  place: Place | undefined;
  /** Where the client goes on, and what it is told again before; absent: it is new here. */
  back: { after: LogPosition; replay: Replay | undefined } | undefined;
  /** Keeps what was read of the log. */
  keep(executions: Executions): void;
}

/** Not kept by the agent yet, of one client. */
const maxInputBytes = 64 * 1024 * 1024;
/** How long the last words of a client that is gone may take to its agent: the platform lets work go on for 30 s. */
const lastWordsMs = 20_000;
/** Of the log of a kernel that is read to learn what runs in it; behind more, somebody new is told nothing of before. */
const maxScanBytes = 64 * 1024 * 1024;
/** Between looks whether somebody has started a dead kernel again, and whether a session runs by now. */
const deadPauseMs = 2_000;
const startPauseMs = 400;
const pausesMs = [100, 200, 400, 800, 1_500, 3_000, 5_000] as const;
const missingWords = (bytes: number) =>
  `${bytes} bytes of the kernel's messages are missing here: more were said than are kept`;
const inputChannels = new Set(['shell', 'control', 'stdin']);

/** What is said of the client, not of the kernel: its close codes. */
const faults: Partial<Record<ErrorCode, number>> = {
  auth_revoked: closeCodes.revoked,
  access_denied: closeCodes.refused,
  kernel_message_invalid: 1007,
  kernel_message_too_large: closeCodes.tooBig,
  kernel_writer_replaced: closeCodes.goingAway,
};

export class ChannelBridge {
  readonly #socket: ClientSocket;
  readonly #voice: Voice;
  readonly #ports: BridgePorts;
  #memory: BridgeMemory;
  readonly #writer: string;
  readonly #input = new KeptInput(maxInputBytes);
  #opened: OpenedStream | undefined;
  readonly #standing: Standing;
  #ended: Extract<ChannelsEvent, { kind: 'ended' }> | undefined;
  /** The next stream is opened at once: it begins elsewhere in the log. */
  #isAgain = false;
  /** Nothing was told it yet of what runs. */
  #isNew: boolean;
  /** The client is gone, or sent away. */
  #isOver = false;
  /** What it said last is with its agent, or has to be left. */
  #isDone = false;
  #isDead = false;
  /** The place where it goes on is not kept any more: it goes on with what comes. */
  #isLost = false;
  #isStarting = false;
  #wake: (() => void) | undefined;
  readonly #up = Promise.withResolvers<void>();

  constructor(socket: ClientSocket, ports: BridgePorts, memory: BridgeMemory) {
    this.#socket = socket;
    this.#voice = new Voice(socket, ports);
    this.#ports = ports;
    this.#memory = memory;
    this.#standing = new Standing(memory.place, this, memory.back);
    this.#isNew = memory.back === undefined;
    this.#writer = hexOf(ports.random.bytes(16));
    socket.listen({ message: (message) => this.#fromClient(message), gone: () => this.#leave() });
  }

  /** Resolves when the kernel answers, or there is nothing to wait for. */
  get whenUp(): Promise<void> {
    return this.#up.promise;
  }

  /** Until the client is gone or sent away. */
  async run(): Promise<void> {
    for (let tries = 0; !this.#isDone; tries++) {
      try {
        await this.#follow(await this.#ports.open(this.#standing.asked, this.#writer), () => (tries = 0));
      } catch (error) {
        await this.#refused(refusalOf(error));
      }
      if (!this.#isDone) await this.#pause(tries);
    }
  }

  // ---- from the kernel ----

  /** Until the stream is over. Says when it begins: most streams end by a cut. @throws Refusal, StreamOver, FramingError */
  async #follow(opened: OpenedStream, begins: () => void): Promise<void> {
    let hasBegun = false;
    this.#isAgain = false;
    this.#ended = undefined;
    this.#opened = opened;
    try {
      if (this.#isDone) return;
      this.#input.sendOn(opened.stream, opened.opened.inputOffset ?? 0);
      for await (const item of opened.stream.read()) {
        if (item.end) continue;
        if (item.channel === channels.control) {
          const event = ChannelsEvent.parse(parseJson(item.bytes));
          // It is said once, and first: else something came again on the way, or in another order.
          if (hasBegun === (event.kind === 'begun')) throw new StreamOver({ code: 'tunnel_closed' });
          hasBegun = true;
          begins();
          await this.#hear(event);
        } else if (item.channel === channels.stdout) {
          if (!hasBegun) throw new StreamOver({ code: 'tunnel_closed' });
          this.#mustBeAt(item.offset);
          for (const record of this.#standing.read(item.bytes)) await this.#deliver(record);
        }
        if (this.#isDone || this.#isAgain) break;
      }
      await this.#startIsOver();
    } finally {
      this.#input.cut();
      this.#opened = undefined;
      opened.close();
    }
  }

  async #hear(event: ChannelsEvent): Promise<void> {
    switch (event.kind) {
      case 'begun':
        this.#isDead = false;
        this.#isLost = false;
        this.#isStarting = false;
        await this.#begin(event);
        return;
      case 'gap':
        if (event.stream === 'stdout') await this.#miss(event.to);
        return;
      case 'taken':
        this.#input.taken(event.offset);
        if (this.#isOver && this.#input.heldBytes === 0) this.#isDone = true;
        return;
      case 'ended':
        this.#mustBeAt(event.end);
        this.#ended = event;
        return;
      case 'state':
        if (event.state !== 'starting') this.#up.resolve();
        return;
    }
  }

  /** What was lost on the way, or came in another order, is asked for again. @throws StreamOver */
  #mustBeAt(offset: number): void {
    if (offset !== this.#standing.next) throw new StreamOver({ code: 'tunnel_closed' });
  }

  async #begin({ starts, from }: { starts: number; from: number }): Promise<void> {
    if (this.#isNew) return this.#meet({ starts, offset: from });
    const missing = this.#standing.begin({ starts, offset: from });
    if (missing !== undefined) await this.#tellMissing(missing);
  }

  /**
   * Somebody new, or who is not remembered here, with the log ending at `end`: is told anew what it asked for itself; else it
   * is shown what runs, and the last that ran.
   */
  async #meet(end: LogPosition): Promise<void> {
    this.#isNew = false;
    this.#standing.begin(end);
    if (end.offset === 0 || end.offset > maxScanBytes) return;
    if (!this.#memory.executions.knows(end.starts, end.offset)) {
      const log = await this.#ports.open({ starts: end.starts, offset: 0 });
      const executions = await scanExecutions(log, end, () => this.#isOver);
      this.#memory = { ...this.#memory, executions };
      this.#memory.keep(executions);
    }
    const { session, executions: known } = this.#memory;
    const before = known.behind(end.starts, 0).filter(({ from }) => from < end.offset);
    const own = before.filter((each) => each.session === session);
    const executions = own.length > 0 ? own : before.filter((each) => each.to === undefined || each === known.last);
    if (executions.length === 0) return;
    this.#standing.tellAgain(new Replay({ executions, until: end.offset, session }));
    // The stream that began here is left for one that begins there.
    this.#isAgain = true;
  }

  async #miss(to: number): Promise<void> {
    if (this.#standing.at) await this.#tellMissing(this.#standing.skip(to));
  }

  /** In what it may belong to. Whether that has ended the kernel is asked. */
  async #tellMissing(bytes: number): Promise<void> {
    const { running } = this.#memory.requests;
    for (const parent of running.length === 0 ? [undefined] : running.map(({ header }) => header))
      if (bytes > 0) await this.#tell(missingWords(bytes), parent);
    this.#askWhatRuns();
  }

  async #deliver({ offset, end, message: bytes }: LogRecord): Promise<void> {
    const { at, isReplaced } = this.#standing;
    if (!at) return;
    if (isReplaced) return this.#close(closeCodes.goingAway, 'you are here again');
    const message = splitMessage(bytes);
    this.#memory.executions.see(at.starts, { offset, end }, message);
    for (const over of this.#memory.requests.see(message, end)) await this.#send((voice) => voice.end(over));
    await this.#pass(offset, message, bytes);
    if (this.#isOver) return;
    this.#standing.sent(end);
  }

  async #pass(offset: number, message: Message, bytes: Uint8Array): Promise<void> {
    if (message.channel === bridgeChannel) return this.#note(message);
    if (isAnswerToGateway(message)) return;
    const { session } = headingOf(message);
    if (session !== '') this.#voice.session = session;
    const { replay } = this.#standing;
    if (replay?.isOfBefore(offset)) {
      for (const parent of this.#standing.takeCleared()) await this.#send((voice) => voice.clear(parent));
      const shown = replay.pass(offset, message);
      if (shown) await this.#send((voice) => voice.say(shown));
      return;
    }
    if (this.#memory.askers.isForOthers(message)) return;
    if (bytes.byteLength > clientMessageBytes)
      return this.#tell(
        `a message of ${bytes.byteLength} bytes is too large to be shown; outputs?after=${offset} has it`,
        message.parts[1],
      );
    await this.#send((voice) => voice.say(message, bytes));
  }

  async #note(message: Message): Promise<void> {
    const note = BridgeNote.safeParse(noteOf(message)).data;
    const words = note && wordsOfNote(note);
    if (words !== undefined) await this.#tell(words, message.parts[1]);
    if (note?.kind === 'lost' || note?.kind === 'too-large') this.#askWhatRuns();
  }

  /** The stream ended by itself: with it a start of the kernel, or the kernel. */
  async #startIsOver(): Promise<void> {
    if (this.#ended === undefined || this.#standing.at === undefined) return;
    const { restarts, reason } = this.#ended;
    // A client that is told of it comes back at once, and is not to meet the end again.
    this.#standing.startIsOver();
    this.#memory.requests.clear();
    if (!restarts) await this.#die(reason);
    else if (!this.#ports.isRestarted()) await this.#send((voice) => voice.status('restarting'));
  }

  async #die(reason: string): Promise<void> {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#up.resolve();
    await this.#tell(`the kernel has ended (${reason})`);
    await this.#send((voice) => voice.status('dead'));
  }

  // ---- from the client ----

  #fromClient(said: Message | Uint8Array<ArrayBuffer> | FramingError): void {
    if (this.#isOver) return;
    if (said instanceof FramingError) return this.#close(said.isTooLarge ? closeCodes.tooBig : 1007, said.message);
    this.#noteProof();
    const record = said instanceof Uint8Array ? said : joinRecord(said);
    const message = said instanceof Uint8Array ? splitMessage(said.subarray(4)) : said;
    const { channel } = message;
    // As jupyter-server does: whoever names a channel that is not for clients is not heard.
    if (!inputChannels.has(channel)) return this.#ports.log.debug('a message on no channel of clients', { channel });
    this.#memory.askers.hear(message);
    this.#memory.requests.hear(message);
    if (!this.#input.push(record)) this.#close(closeCodes.policy, 'too much waits for the kernel: send it slower');
  }

  /** Behind a place where messages are missing, for a client that waits for something. */
  #askWhatRuns(): void {
    const { random, clock } = this.#ports;
    const id = this.#memory.requests.missed(hexOf(random.bytes(8)));
    if (id === undefined || this.#isOver) return;
    const speaker = { id, session: 'causeway', nowMs: clock.nowMs() };
    // Where too much waits already it is not asked: what is missing next, or a restart, ends the wait.
    this.#input.push(joinRecord(spoken('shell', 'kernel_info_request', {}, speaker)));
  }

  #noteProof(): void {
    this.#socket.heard();
    const safe = this.#standing.proven(this.#ports.clock.bootMs());
    if (safe !== undefined) this.#memory.requests.forget(safe);
  }

  /** The client is gone. What it said last is still given to its agent. */
  #leave(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#input.heldBytes === 0) return this.#finish();
    this.#ports.timers.after(lastWordsMs, () => this.#finish());
  }

  #finish(): void {
    this.#isDone = true;
    this.#up.resolve();
    this.#opened?.close();
    this.#wake?.();
  }

  // ---- to the client ----

  /** Sends what `say` says; a client that never reads is sent away. */
  async #send(say: (voice: Voice) => Promise<boolean>): Promise<void> {
    if (this.#isOver || (await say(this.#voice))) return;
    this.#close(closeCodes.policy, 'nothing was read for long: come back under the same session_id');
  }

  #tell(words: string, parent?: Uint8Array): Promise<void> {
    return this.#send((voice) => voice.tell(words, parent));
  }

  // ---- ends and pauses ----

  async #refused(error: unknown): Promise<void> {
    if (this.#isDone) return;
    if (!(error instanceof Refusal)) {
      this.#ports.log.error('the channels of a kernel failed', { error: String(error) });
      return this.#close(1011, 'internal');
    }
    const fault = faults[error.code];
    if (fault !== undefined) return this.#close(fault, error.message);
    if (error.code === 'kernel_dead') return this.#die(error.message);
    if (error.code === 'session_output_gone' && this.#standing.at && !this.#isLost) return this.#lose();
    if (!heals.has(error.code)) return this.#giveUp(error);
    const wasStarting = this.#isStarting;
    this.#isStarting = error.code === 'session_not_running';
    if (this.#isStarting && !wasStarting) await this.#send((voice) => voice.status('starting'));
  }

  async #lose(): Promise<void> {
    this.#isLost = true;
    this.#memory.requests.clear();
    this.#standing.lose();
    await this.#tell('what the kernel said meanwhile is not kept any more');
  }

  async #giveUp(refusal: Refusal): Promise<void> {
    const words = await this.#ports.explain(refusal).catch(() => refusal.message);
    await this.#tell(words);
    await this.#send((voice) => voice.status('dead'));
    this.#close(closeCodes.gone, words);
  }

  /** Before the next try; whoever may not any more is sent away. */
  async #pause(tries: number): Promise<void> {
    const pauseMs = this.#pauseMs(tries);
    await new Promise<void>((resolve) => {
      const cancel = this.#ports.timers.after(pauseMs, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
      if (this.#isStarting) void this.#ports.whenStarted(pauseMs).then((runs) => runs && this.#wake?.());
    });
    this.#wake = undefined;
    if (this.#isDone) return;
    if (this.#ports.isDraining()) return this.#close(1012, 'the control plane restarts');
    const allowed = await this.#ports.stillAllowed().catch(() => undefined);
    if (allowed === false) this.#close(closeCodes.revoked, 'auth_revoked');
    else if (allowed === undefined) this.#close(closeCodes.moved, 'access could not be checked');
  }

  #pauseMs(tries: number): number {
    if (this.#isDead) return deadPauseMs;
    if (this.#ended || this.#isAgain) return 0;
    const pauseMs = pausesMs[Math.min(tries, pausesMs.length - 1)]!;
    return this.#isStarting ? Math.min(pauseMs, startPauseMs) : pauseMs;
  }

  #close(code: number, reason: string): void {
    if (this.#isOver) return this.#finish();
    this.#isOver = true;
    this.#socket.close(code, reason);
    this.#finish();
  }
}

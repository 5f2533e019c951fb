/**
 * One control connection, from hello to its end (SPEC rules M1-M11): intents in, acknowledgements and events out, calls,
 * pings. It holds only what belongs to this socket; what must outlive it is in the journal.
 */
import type { Clock, Log, Timers } from '../../schema/ports.ts';
import { decodeFrames, encodeFrames, FrameError, frameTypes } from '../../schema/protocol/frame.ts';
import { JsonJoiner, jsonFrames } from '../../schema/protocol/json.ts';
import { closeCodes, limits } from '../../schema/protocol/limits.ts';
import { type Report, type Slots, ToAgent, type ToEdge, type ToEdgeHello } from '../../schema/protocol/messages.ts';
import type { Calls } from './calls.ts';
import type { IntentQueue } from './intents.ts';
import type { Journal } from './journal.ts';
import type { PingLeases } from './leases.ts';
import { isReportDue } from './reports.ts';
import type { Socket, SocketEvents } from './socket.ts';

type Message<Type extends ToAgent['type']> = Extract<ToAgent, { type: Type }>;
export type Welcome = Message<'welcome'>;

/** How a connection ended, for the loop that dials. */
export interface ControlEnd {
  /** Set when the hub refused the hello or closed with a code of ours. */
  refused?: { code: string; detail: string; retryAfterMs?: number };
  /** The edge asked to dial again: after this many ms, without back-off. */
  goAwayMs?: number;
  /** How long the socket was accepted, ms. */
  acceptedMs: number;
  closeCode: number;
  /** The other end, or something on the way, ended it without a word. */
  wasReset: boolean;
}

export interface ControlDeps {
  clock: Clock;
  timers: Timers;
  log: Log;
  /** Uniform in [0, 1). */
  fraction(): number;
  /** Fine-grained, never goes back. */
  nowMs(): number;
  /** A ping was answered after so long. */
  pinged(tookMs: number): void;
  journal: Journal;
  intents: IntentQueue;
  calls: Calls;
  leases: PingLeases;
  hello: ToEdgeHello;
  /** The ledger accepted this hello. Throwing or rejecting ends the connection. */
  welcomed(welcome: Welcome): Promise<void>;
  /** The edge was put back to an older state: what it confirmed since is recorded anew. */
  retell(): Promise<void>;
  dial(request: Message<'dial'>): void;
  /** Something happened on the loop; the watchdog wants to know. */
  beat(): void;
}

const greetingMs = 15_000;
const eventsPerMessage = 100;

export class ControlConnection implements SocketEvents {
  readonly #deps: ControlDeps;
  readonly #socket: Socket;
  readonly #joiner = new JsonJoiner();
  readonly ended: Promise<ControlEnd>;
  #end!: (end: ControlEnd) => void;
  /** `leaving`: whatever comes is for the next socket. */
  #state: 'greeting' | 'live' | 'leaving' | 'over' = 'greeting';
  #acceptedAtMs: number | undefined;
  #heardAtMs: number;
  #epoch = 0;
  #sentIndex = 0;
  #refused: ControlEnd['refused'];
  #redialAtMs: number | undefined;
  #isGivenUp = false;
  #spreadMs = 0;
  /** Of pings that are not answered yet: on the boot clock, which counts suspend, and on the fine one. */
  #pingsSent: { bootMs: number; fineMs: number }[] = [];
  #lastReport: { report: Report; atMs: number } | undefined;
  #reportedAtMs: number | undefined;
  #proven = false;
  readonly #cancels = new Set<() => void>();

  constructor(socket: Socket, deps: ControlDeps) {
    this.#socket = socket;
    this.#deps = deps;
    this.#heardAtMs = deps.clock.bootMs();
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  /** Says hello. Call it when the socket is open. `spreadMs`: over how long a time all agents come back (SPEC rule M12). */
  start(spreadMs = 0): void {
    this.#spreadMs = spreadMs;
    this.#send(this.#deps.hello);
    this.#after(greetingMs, () => {
      if (this.#state === 'greeting') this.#fail('no answer to hello');
    });
  }

  get live(): boolean {
    return this.#state === 'live';
  }

  /** The ledger accepted this socket, a report went over it, and a ping after that was answered. */
  get proven(): boolean {
    return this.#proven;
  }

  message(bytes: Uint8Array): void {
    if (this.#state === 'over') return;
    this.#heard();
    try {
      for (const frame of decodeFrames(bytes)) {
        if (frame.type !== frameTypes.message || frame.stream !== 0)
          throw new FrameError('M1', 'a control socket carries messages on stream 0 only');
        const joined = this.#joiner.join(frame);
        if (joined) this.#take(joined.value);
      }
    } catch (error) {
      this.#deps.log.error('the edge broke the protocol', { error: String(error) });
      this.#socket.close(closeCodes.protocolError, 'protocol');
    }
  }

  text(text: string): void {
    if (text !== 'pong') return;
    this.#heard();
    const sent = this.#pingsSent.shift();
    if (sent === undefined) return;
    this.#deps.pinged(this.#deps.nowMs() - sent.fineMs);
    // Pings are answered in order. Only a socket that the ledger accepted renews a lease.
    if (this.#state !== 'live') return;
    this.#deps.leases.renew(sent.bootMs);
    if (this.#reportedAtMs !== undefined && sent.bootMs >= this.#reportedAtMs) this.#proven = true;
  }

  closed(code: number): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    for (const cancel of this.#cancels) cancel();
    this.#end({
      ...(this.#refused ? { refused: this.#refused } : {}),
      ...(this.#redialAtMs === undefined
        ? {}
        : { goAwayMs: Math.max(0, this.#redialAtMs - this.#deps.clock.bootMs()) }),
      acceptedMs: this.#acceptedAtMs === undefined ? 0 : this.#deps.clock.bootMs() - this.#acceptedAtMs,
      closeCode: code,
      wasReset: code === closeCodes.abnormal && !this.#isGivenUp,
    });
  }

  /** Sends what was recorded and not sent on this socket, at most 256 ahead of what the ledger confirmed (M7). */
  sendEvents(): void {
    while (this.#state === 'live') {
      const { journal } = this.#deps;
      const room = journal.ackedIndex + limits.eventsInFlight - this.#sentIndex;
      const events = journal.eventsAfter(this.#sentIndex, Math.min(room, eventsPerMessage));
      const last = events.at(-1);
      if (!last) return;
      this.#sentIndex = last.index;
      this.#send({ type: 'events', journalId: journal.journalId, events });
    }
  }

  /** Sends a message that nobody misses when the socket is not there. */
  offer(message: Extract<ToEdge, { type: 'progress' | 'images' }>): void {
    if (this.#state === 'live') this.#send(message);
  }

  /** Sends the report if it is due on this socket. */
  report(report: Report, capacity: Slots): void {
    const nowMs = this.#deps.clock.bootMs();
    if (this.#state !== 'live' || !isReportDue(this.#lastReport, report, capacity, nowMs)) return;
    this.#lastReport = { report, atMs: nowMs };
    this.#send({ type: 'report', report });
    this.#reportedAtMs ??= nowMs;
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  #take(value: unknown): void {
    const message = ToAgent.parse(value);
    if (this.#state === 'greeting') this.#greet(message);
    else if (this.#state === 'live') this.#serve(message);
  }

  #greet(message: ToAgent): void {
    if (message.type === 'refused') {
      const { code, detail, retryAfterMs } = message;
      this.#refused = { code, detail, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
      this.#socket.close(closeCodes.normal, 'refused');
      return;
    }
    if (message.type !== 'welcome') throw new FrameError('M1', `${message.type} before welcome`);
    if (message.version > limits.version || message.version < limits.minVersion)
      throw new FrameError('K4', `version ${message.version}`);
    const { journal } = this.#deps;
    if (!journal.canHaveTold(message.ackedIndex)) return this.#renewJournal('lost events that the edge has', message);
    if (message.ackedIndex < journal.ackedIndex) return this.#renewJournal('events that the edge has lost', message);
    this.#state = 'live';
    this.#acceptedAtMs = this.#deps.clock.bootMs();
    this.#epoch = message.epoch;
    journal.acknowledge(message.ackedIndex);
    this.#sentIndex = message.ackedIndex;
    this.#ping();
    this.#deps.welcomed(message).then(
      () => this.sendEvents(),
      (error: unknown) => this.#fail(`welcome could not be taken: ${String(error)}`),
    );
  }

  /** M7: a journal that has lost what the ledger confirmed, or the reverse, greets again as another one. */
  #renewJournal(why: string, { ackedIndex }: Welcome): void {
    this.#state = 'leaving';
    const { journal, log } = this.#deps;
    const isForgotten = ackedIndex < journal.ackedIndex;
    log.error(`the journal has ${why}: it goes on as another one`, { ackedIndex });
    const renewed = journal.renew().then(() => (isForgotten ? this.#deps.retell() : undefined));
    renewed.then(
      () => this.#socket.close(closeCodes.goingAway, 'another journal'),
      (error: unknown) => this.#fail(`the journal could not be renewed: ${String(error)}`),
    );
  }

  #serve(message: ToAgent): void {
    switch (message.type) {
      case 'intents':
        return this.#takeIntents(message);
      case 'call':
        void this.#deps.calls.answer(message).then((reply) => this.#state === 'live' && this.#send(reply));
        return;
      case 'eventAck':
        if (message.journalId !== this.#deps.journal.journalId) return;
        this.#deps.journal.acknowledge(message.index);
        this.sendEvents();
        return;
      case 'dial':
        this.#deps.dial(message);
        return;
      case 'goAway':
        this.#leave(message);
        return;
      case 'welcome':
      case 'refused':
        throw new FrameError('M1', `a second ${message.type}`);
    }
  }

  #takeIntents(message: Message<'intents'>): void {
    // M3: orders of another epoch are not for this socket.
    if (message.epoch !== this.#epoch) return;
    const intentIds = message.intents.map((intent) => intent.intentId);
    this.#deps.intents.accept(message.intents).then(
      () => this.#state === 'live' && this.#send({ type: 'intentAck', intentIds }),
      (error: unknown) => this.#deps.log.error('intents were not taken', { error: String(error) }),
    );
  }

  #leave(message: Message<'goAway'>): void {
    if (this.#redialAtMs !== undefined) return;
    // Who asks may ask them all.
    const delayMs = Math.floor(this.#deps.fraction() * Math.max(message.spreadMs, this.#spreadMs));
    this.#redialAtMs = this.#deps.clock.bootMs() + delayMs;
    this.#deps.log.info('the edge asks to dial again', { reason: message.reason, delayMs });
    this.#after(delayMs, () => this.#socket.close(closeCodes.goingAway, 'go away'));
  }

  #ping(): void {
    if (this.#state !== 'live') return;
    const nowMs = this.#deps.clock.bootMs();
    if (nowMs - this.#heardAtMs >= limits.silentMs) {
      this.#fail(`silent for ${Math.round((nowMs - this.#heardAtMs) / 1000)} s`);
      return;
    }
    this.#pingsSent.push({ bootMs: nowMs, fineMs: this.#deps.nowMs() });
    this.#socket.sendText('ping');
    this.#deps.beat();
    this.sendEvents();
    this.#after(limits.pingEveryMs, () => this.#ping());
  }

  #heard(): void {
    this.#heardAtMs = this.#deps.clock.bootMs();
    this.#deps.beat();
  }

  /** The other end may not hear us any more: do not wait for its close. */
  #fail(reason: string): void {
    this.#deps.log.warn('the control socket is given up', { reason });
    this.#isGivenUp = true;
    this.#socket.destroy();
  }

  #after(delayMs: number, task: () => void): void {
    const cancel = this.#deps.timers.after(delayMs, () => {
      this.#cancels.delete(cancel);
      task();
    });
    this.#cancels.add(cancel);
  }

  #send(message: ToEdge): void {
    const frames = jsonFrames(frameTypes.message, 0, message);
    // A message holds at most 1 MiB with its headers: 15 full frames.
    for (let at = 0; at < frames.length; at += 15) this.#socket.send(encodeFrames(frames.slice(at, at + 15)));
  }
}

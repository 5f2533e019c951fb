/**
 * The control hub's thinking (SPEC rules M1-M11): sockets of about 128 agents between their ledger and them. It decides
 * nothing about sessions and stores nothing: what must survive is in the ledger, in the agent's journal, or in the
 * socket's attachment. An event is acknowledged only after the ledger's commit.
 */
import type { Clock, Log, Timers } from '../../schema/ports.ts';
import { decodeFrames, encodeFrames, FrameError, frameTypes } from '../../schema/protocol/frame.ts';
import type { Intent } from '../../schema/protocol/intents.ts';
import { JsonJoiner, jsonFrames } from '../../schema/protocol/json.ts';
import { closeCodes, limits } from '../../schema/protocol/limits.ts';
import { parseHello, type Report, type ToAgent, ToEdge, type ToEdgeHello } from '../../schema/protocol/messages.ts';
import type { LedgerRpc } from '../manager/scheduler/rpc.ts';
import { HubCalls } from './calls.ts';
import { Gathered, Pace } from './gathered.ts';
import type { HubSocket } from './hub-socket.ts';
import type { AgentLiveness, CallOutcome } from './rpc.ts';
import { TalkBudget } from './talk-budget.ts';

/** Attachment of a control socket. */
export interface ControlState {
  agentId: string;
  groupNumber: number;
  /** `closing`: its close was sent; it stays listed until the peer answers, and counts for nothing. */
  phase: 'greeting' | 'live' | 'closing';
  /** Of live sockets. */
  epoch: number;
  openedAtMs: number;
  /** The agent's last report, and whether Redis lacks it. */
  report?: Report;
  reportDirty: boolean;
}
export type ControlSocket = HubSocket<ControlState>;

export interface ControlHubPorts {
  /** Name of this hub. */
  hub: string;
  clock: Clock;
  timers: Timers;
  log: Log;
  ledger(
    groupNumber: number,
  ): Pick<LedgerRpc, 'attach' | 'events' | 'intentsAcked' | 'progress' | 'agentImages' | 'detached'>;
  /** Makes sure that `flushReports` is called within a minute. */
  armReports(): void;
  /** Writes the last report of each agent where placement looks for hints. */
  writeReports(reports: readonly { agentId: string; report: Report }[]): Promise<void>;
}

type Message<Type extends ToEdge['type']> = Extract<ToEdge, { type: Type }>;

/** What of a socket may be lost by hibernation. */
interface Volatile {
  joiner: JsonJoiner;
  /** A hello is with the ledger. */
  attaching: boolean;
  cancelGreeting: () => void;
  /** What goes to the ledger. */
  events: Gathered<Message<'events'>>;
  acks: Gathered<Message<'intentAck'>>;
  images: Gathered<Message<'images'>>;
  progressSecond: number;
  progressCount: number;
}

const greetingMs = 15_000;
const overloadedMs = 2_000;
const drainSpreadMs = 2_000;
const intentsPerMessage = 100;
/** Of one message with intents, well below the limit of a JSON message. */
const intentsBytes = limits.jsonBytes / 2;
const progressPerSecond = 20;
/** Of the problems of a report, so that an attachment stays small. */
const keptProblems = 8;
const keptDetail = 200;

export class ControlHub {
  readonly #ports: ControlHubPorts;
  readonly #byAgent = new Map<string, Set<ControlSocket>>();
  readonly #volatile = new WeakMap<ControlSocket, Volatile>();
  readonly #calls: HubCalls;
  readonly #budget: TalkBudget;

  /** @param sockets those that were found after a wake */
  constructor(ports: ControlHubPorts, sockets: readonly ControlSocket[]) {
    this.#ports = ports;
    this.#calls = new HubCalls(ports);
    const { talkBurstFrames: burstFrames, talkFramesPerSecond: framesPerSecond } = limits;
    this.#budget = new TalkBudget(ports.clock, { burstFrames, framesPerSecond });
    for (const socket of sockets) this.#index(socket);
    if (sockets.some(({ state }) => state.reportDirty)) ports.armReports();
  }

  /** A verified agent connected; it has 15 s to say hello. */
  opened(socket: ControlSocket): void {
    this.#index(socket);
    // Cancelled by hello: a timer that waits keeps the object from hibernating.
    this.#of(socket).cancelGreeting = this.#ports.timers.after(greetingMs, () =>
      this.#close(socket, closeCodes.policy, 'no hello'),
    );
  }

  message(socket: ControlSocket, message: ArrayBuffer | string): void {
    if (socket.state.phase === 'closing') return;
    try {
      if (typeof message === 'string') throw new FrameError('K5', 'a text that is not ping');
      for (const frame of decodeFrames(new Uint8Array(message))) {
        if (!this.#budget.spend(socket.state.agentId, frame.payload.byteLength)) {
          this.#close(socket, closeCodes.policy, 'too much at once');
          return;
        }
        if (frame.type !== frameTypes.message || frame.stream !== 0)
          throw new FrameError('M1', 'a control socket carries messages on stream 0 only');
        const joined = this.#of(socket).joiner.join(frame);
        if (joined) this.#take(socket, joined.value);
      }
    } catch (error) {
      this.#break(socket, error);
    }
  }

  closed(socket: ControlSocket): void {
    const { agentId, groupNumber, phase, epoch } = socket.state;
    const sockets = this.#byAgent.get(agentId);
    sockets?.delete(socket);
    if (sockets?.size === 0) this.#byAgent.delete(agentId);
    this.#of(socket).cancelGreeting();
    if (phase !== 'live') return;
    socket.state.phase = 'closing';
    if (!this.#live(agentId)) this.#calls.lost(agentId);
    this.#later('detached', this.#ports.ledger(groupNumber).detached(agentId, epoch));
  }

  sendIntents(agentId: string, epoch: number, intents: readonly Intent[]): 'sent' | 'not_sent' {
    const socket = this.#live(agentId);
    if (!socket || socket.state.epoch !== epoch || this.#silentMs(socket) >= limits.intentPingMs) return 'not_sent';
    this.#sendIntents(socket, intents);
    return 'sent';
  }

  call(agentId: string, callId: string, op: string, input: unknown, deadlineMs: number): Promise<CallOutcome> {
    const socket = this.#live(agentId);
    if (!socket) return Promise.resolve({ ok: false, code: 'agent_unreachable' });
    const { outcome, isNew } = this.#calls.expect(agentId, callId, deadlineMs);
    if (isNew) this.#send(socket, { type: 'call', callId, op, deadlineMs, ...(input === undefined ? {} : { input }) });
    return outcome;
  }

  liveness(agentIds: readonly string[]): Record<string, AgentLiveness> {
    const answer: Record<string, AgentLiveness> = {};
    for (const agentId of agentIds) {
      const socket = this.#live(agentId);
      if (socket) answer[agentId] = { epoch: socket.state.epoch, silentMs: this.#silentMs(socket), closing: false };
      else if (this.#byAgent.has(agentId)) answer[agentId] = { epoch: 0, silentMs: 0, closing: true };
    }
    return answer;
  }

  fence(agentId: string, epoch: number): void {
    for (const socket of this.#byAgent.get(agentId) ?? [])
      if (socket.state.phase === 'live' && socket.state.epoch <= epoch) this.#close(socket, closeCodes.moved, 'fenced');
  }

  dial(agentId: string, epoch: number, dial: Omit<Extract<ToAgent, { type: 'dial' }>, 'type'>): boolean {
    const socket = this.#live(agentId);
    if (!socket || socket.state.epoch !== epoch) return false;
    this.#send(socket, { type: 'dial', ...dial });
    return true;
  }

  /** Before a stop: sockets close, and their agents dial again at moments spread over 2 s (M11). */
  drain(reason: string): void {
    for (const socket of [...this.#byAgent.values()].flatMap((sockets) => [...sockets])) {
      if (socket.state.phase === 'live') this.#send(socket, { type: 'goAway', spreadMs: drainSpreadMs, reason });
      this.#close(socket, closeCodes.goingAway, reason);
    }
  }

  /** Writes all last reports when one is new. Rejects when they could not be written; they stay dirty then. */
  async flushReports(): Promise<void> {
    const reporting = [...this.#byAgent.keys()]
      .flatMap((agentId) => this.#live(agentId) ?? [])
      .filter(({ state }) => state.report);
    const dirty = reporting.filter(({ state }) => state.reportDirty);
    if (dirty.length === 0) return;
    const written = dirty.map(({ state }) => state.report);
    await this.#ports.writeReports(reporting.map(({ state }) => ({ agentId: state.agentId, report: state.report! })));
    for (const [at, socket] of dirty.entries()) {
      if (socket.state.report !== written[at]) continue;
      socket.state.reportDirty = false;
      socket.keep();
    }
  }

  #take(socket: ControlSocket, value: unknown): void {
    if (socket.state.phase === 'greeting') {
      const hello = parseHello(value);
      if (!hello || this.#of(socket).attaching)
        throw new FrameError('M1', 'not a hello, and nothing else before welcome');
      this.#of(socket).attaching = true;
      this.#of(socket).cancelGreeting();
      this.#later('attach', this.#attach(socket, hello));
      return;
    }
    const parsed = ToEdge.safeParse(value);
    if (!parsed.success) throw new FrameError('F6', 'a message of no known shape');
    const message = parsed.data;
    if (message.type === 'hello') throw new FrameError('M1', 'a second hello');
    this.#serve(socket, message);
  }

  async #attach(socket: ControlSocket, hello: ToEdgeHello): Promise<void> {
    const { agentId, groupNumber, openedAtMs } = socket.state;
    if (hello.minVersion > limits.version || hello.version < limits.minVersion) {
      const detail = `This control plane speaks versions ${limits.minVersion} to ${limits.version}: update the agent.`;
      this.#refuse(socket, { code: 'agent_version_unsupported', detail });
      return;
    }
    let answer;
    try {
      answer = await this.#ports.ledger(groupNumber).attach(agentId, this.#ports.hub, hello, openedAtMs);
    } catch (error) {
      this.#ports.log.warn('attach failed', { agentId, error: String(error) });
      const detail = 'The ledger did not answer; the same attempt may be sent again.';
      this.#refuse(socket, { code: 'edge_overloaded', detail, retryAfterMs: overloadedMs });
      return;
    }
    if (!answer.accepted) {
      const { code, detail, retryAfterMs } = answer;
      this.#refuse(socket, { code, detail, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
      return;
    }
    this.#welcome(socket, hello, answer);
  }

  #welcome(
    socket: ControlSocket,
    hello: ToEdgeHello,
    answer: Extract<Awaited<ReturnType<LedgerRpc['attach']>>, { accepted: true }>,
  ): void {
    const { state } = socket;
    if (state.phase !== 'greeting') {
      // It went away while the ledger thought. The agent sends the same attempt again.
      this.#later('detached', this.#ports.ledger(state.groupNumber).detached(state.agentId, answer.epoch));
      return;
    }
    for (const other of this.#byAgent.get(state.agentId) ?? []) {
      if (other === socket || other.state.phase !== 'live') continue;
      if (other.state.epoch >= answer.epoch) {
        this.#close(socket, closeCodes.moved, 'a newer connection exists');
        return;
      }
      this.#close(other, closeCodes.moved, 'replaced');
    }
    state.phase = 'live';
    state.epoch = answer.epoch;
    socket.keep();
    const { epoch, dataTicket, dataHub, ackedIndex, answer: inventory } = answer;
    const version = Math.min(limits.version, hello.version);
    this.#send(socket, { type: 'welcome', version, epoch, dataTicket, dataHub, ackedIndex, answer: inventory });
    this.#sendIntents(socket, answer.intents);
  }

  #refuse(socket: ControlSocket, refusal: { code: string; detail: string; retryAfterMs?: number }): void {
    this.#send(socket, { type: 'refused', ...refusal });
    this.#close(socket, closeCodes.refused, refusal.code);
  }

  #serve(socket: ControlSocket, message: Exclude<ToEdge, ToEdgeHello>): void {
    const { agentId, groupNumber, epoch } = socket.state;
    const ledger = this.#ports.ledger(groupNumber);
    switch (message.type) {
      case 'intentAck':
        this.#of(socket).acks.add(message);
        return;
      case 'events':
        this.#of(socket).events.add(message);
        return;
      case 'reply':
        this.#calls.answered(agentId, message);
        return;
      case 'progress': {
        const { type: _, ...progress } = message;
        if (this.#mayProgress(socket)) this.#later('progress', ledger.progress(agentId, epoch, progress));
        return;
      }
      case 'report':
        this.#takeReport(socket, message.report);
        return;
      case 'images':
        this.#of(socket).images.add(message);
        return;
    }
  }

  /** In order, each after the one before it is committed; of one journal together. What fails is sent again by the agent on its next socket. */
  async #commitEvents(socket: ControlSocket, messages: Message<'events'>[]): Promise<void> {
    for (let from = 0, to = 0; from < messages.length && socket.state.phase === 'live'; from = to) {
      const { journalId } = messages[from]!;
      const events: Message<'events'>['events'] = [];
      for (; messages[to]?.journalId === journalId && events.length < limits.eventsInFlight; to++)
        events.push(...messages[to]!.events);
      await this.#commitTogether(socket, journalId, events);
    }
  }

  async #commitTogether(socket: ControlSocket, journalId: string, events: Message<'events'>['events']): Promise<void> {
    const { agentId, groupNumber, epoch } = socket.state;
    try {
      const answer = await this.#ports.ledger(groupNumber).events(agentId, epoch, journalId, events);
      if (answer === 'stale') {
        this.#close(socket, closeCodes.moved, 'stale epoch');
        return;
      }
      this.#send(socket, { type: 'eventAck', journalId, index: answer.ackedIndex });
      // Events before these have not come: on its next socket the agent begins with the first that is not confirmed.
      if (answer.ackedIndex < (events.at(-1)?.index ?? 0)) this.#close(socket, closeCodes.moved, 'events are missing');
    } catch (error) {
      this.#ports.log.warn('events were not committed', { agentId, error: String(error) });
      this.#close(socket, closeCodes.moved, 'events were not committed');
    }
  }

  #takeReport(socket: ControlSocket, report: Report): void {
    const problems = report.problems
      .slice(0, keptProblems)
      .map(({ code, detail }) => ({ code, detail: detail.slice(0, keptDetail) }));
    socket.state.report = { ...report, problems };
    socket.state.reportDirty = true;
    socket.keep();
    this.#ports.armReports();
  }

  #mayProgress(socket: ControlSocket): boolean {
    const of = this.#of(socket);
    const second = Math.floor(this.#ports.clock.nowMs() / 1000);
    if (of.progressSecond !== second) {
      of.progressSecond = second;
      of.progressCount = 0;
    }
    return ++of.progressCount <= progressPerSecond;
  }

  #sendIntents(socket: ControlSocket, intents: readonly Intent[]): void {
    let batch: Intent[] = [];
    let bytes = 0;
    const flush = () => {
      if (batch.length > 0) this.#send(socket, { type: 'intents', epoch: socket.state.epoch, intents: batch });
      batch = [];
      bytes = 0;
    };
    for (const intent of intents) {
      const size = JSON.stringify(intent).length;
      if (batch.length === intentsPerMessage || bytes + size > intentsBytes) flush();
      batch.push(intent);
      bytes += size;
    }
    flush();
  }

  /** The newest accepted socket of the agent. */
  #live(agentId: string): ControlSocket | undefined {
    let newest: ControlSocket | undefined;
    for (const socket of this.#byAgent.get(agentId) ?? [])
      if (socket.state.phase === 'live' && socket.state.epoch > (newest?.state.epoch ?? -1)) newest = socket;
    return newest;
  }

  #silentMs(socket: ControlSocket): number {
    const heardAtMs = Math.max(socket.lastPongMs() ?? 0, socket.state.openedAtMs);
    return Math.max(0, this.#ports.clock.nowMs() - heardAtMs);
  }

  #index(socket: ControlSocket): void {
    const sockets = this.#byAgent.get(socket.state.agentId) ?? new Set();
    sockets.add(socket);
    this.#byAgent.set(socket.state.agentId, sockets);
  }

  #of(socket: ControlSocket): Volatile {
    let of = this.#volatile.get(socket);
    if (!of) {
      const { agentId, groupNumber } = socket.state;
      const ledger = () => this.#ports.ledger(groupNumber);
      const pace = new Pace(this.#ports);
      of = {
        joiner: new JsonJoiner(),
        attaching: false,
        cancelGreeting: () => {},
        events: new Gathered(pace, (messages) => this.#commitEvents(socket, messages)),
        acks: new Gathered(pace, (acks) => {
          const intentIds = acks.flatMap((each) => each.intentIds);
          return this.#settled('intentsAcked', ledger().intentsAcked(agentId, socket.state.epoch, intentIds));
        }),
        images: new Gathered(pace, (told) =>
          this.#settled('agentImages', ledger().agentImages(agentId, socket.state.epoch, told.at(-1)!.images)),
        ),
        progressSecond: 0,
        progressCount: 0,
      };
      this.#volatile.set(socket, of);
    }
    return of;
  }

  #break(socket: ControlSocket, error: unknown): void {
    const { agentId } = socket.state;
    this.#ports.log.warn('an agent broke the protocol', { agentId, error: String(error) });
    if (!(error instanceof FrameError)) this.#close(socket, closeCodes.protocolError, 'protocol');
    else this.#close(socket, error.rule === 'F4' ? closeCodes.tooBig : closeCodes.protocolError, error.rule);
  }

  #close(socket: ControlSocket, code: number, reason: string): void {
    const { agentId, phase } = socket.state;
    if (phase === 'closing') return;
    this.#of(socket).cancelGreeting();
    socket.state.phase = 'closing';
    socket.close(code, reason);
    if (phase === 'live' && !this.#live(agentId)) this.#calls.lost(agentId);
  }

  #send(socket: ControlSocket, message: ToAgent): void {
    const frames = jsonFrames(frameTypes.message, 0, message);
    // A message holds at most 1 MiB with its headers: 15 full frames.
    for (let at = 0; at < frames.length; at += 15) socket.send(encodeFrames(frames.slice(at, at + 15)));
  }

  /** What nobody waits for; the other side asks or sends again. */
  #later(what: string, work: Promise<unknown>): void {
    void this.#settled(what, work);
  }

  async #settled(what: string, work: Promise<unknown>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.#ports.log.warn('a step of the hub failed', { what, error: String(error) });
    }
  }
}

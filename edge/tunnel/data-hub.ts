/**
 * The data hub's thinking (SPEC rules S1-S14): clients and the agents of their sessions, and the streams between them. Its
 * forwarder moves the bytes; here sockets come and go. It stores nothing, and decides nothing about sessions.
 */
import type { Clock } from '../../schema/ports.ts';
import { encodeFrames, FrameError, frameTypes } from '../../schema/protocol/frame.ts';
import { JsonJoiner, jsonFrames } from '../../schema/protocol/json.ts';
import { closeCodes, limits } from '../../schema/protocol/limits.ts';
import { Rebind, Reset } from '../../schema/protocol/messages.ts';
import type { AgentOpen, StreamOpen, UploadedKey } from '../../schema/protocol/streams.ts';
import type { Random } from '../../schema/ports.ts';
import { AccessGate, type AccessGatePorts } from './access-gate.ts';
import type { Cursor } from './cursor.ts';
import { Dialler, type DiallerPorts } from './dialler.ts';
import { Forwarder } from './forward.ts';
import {
  type AgentLink,
  agentLink,
  type ClientLink,
  clientLink,
  type DataSocket,
  type Flow,
  keepStreams,
  Lane,
  type Purpose,
  takeId,
} from './links.ts';
import { judgeOpen } from './open.ts';
import type { AgentSocketClaim, ClientSocketClaim, DataHubStatus } from './rpc.ts';
import { TalkBudget } from './talk-budget.ts';

export interface DataHubPorts extends AccessGatePorts, DiallerPorts {
  clock: Clock;
  random: Random;
  /** Keys of a user that may sign in to SSH servers now. */
  uploadedKeys(userId: string): Promise<UploadedKey[]>;
  /** The epoch of a ticket for this hub and agent, if it is genuine. */
  ticketEpoch(ticket: string, agentId: string): number | undefined;
}

type OpenOf<Op extends StreamOpen['op']> = Extract<StreamOpen, { op: Op }>;

/** Messages that a client may have sent while its access is checked. */
const maxStalled = 64;
const resetBytes = 4096;

export class DataHub {
  readonly #ports: DataHubPorts;
  readonly #gate: AccessGate;
  readonly #dialler: Dialler;
  readonly #forwarder: Forwarder;
  readonly #agents = new Map<DataSocket, AgentLink>();
  readonly #clients = new Map<DataSocket, ClientLink>();
  readonly #joiners = new WeakMap<DataSocket, JsonJoiner>();
  /** Epochs up to which agents were fenced: a dial may have been under way. */
  readonly #fenced = new Map<string, number>();

  /** @param sockets those that were found after a wake */
  constructor(ports: DataHubPorts, sockets: readonly DataSocket[]) {
    this.#ports = ports;
    this.#gate = new AccessGate(ports, (client, code, reason) => this.#closeClient(client, code, reason));
    this.#dialler = new Dialler(ports, {
      find: (client, purpose) => this.#findAgent(client.state.claim, purpose),
      bind: (flow, agent) => this.#bind(flow, agent),
      refuse: (flow, code, detail) => this.#reset(flow, code, detail),
    });
    const { idleBurstFrames: burstFrames, idleFramesPerSecond: framesPerSecond } = limits;
    const idle = new TalkBudget(ports.clock, { burstFrames, framesPerSecond });
    this.#forwarder = new Forwarder({
      random: ports.random,
      mayPass: (client) => this.#gate.isOpen(client),
      mayIdle: (agent) => idle.spend(agent.state.agentId, 0),
      clientJson: (client, cursor) => this.#clientJson(client, cursor),
      agentMessage: (agent, cursor) => this.#agentMessage(agent, cursor),
      reset: (flow, code, detail) => this.#reset(flow, code, detail),
      over: (flow) => this.#forget(flow),
      stuck: (link) => this.#stuck(link),
    });
    for (const socket of sockets)
      if (socket.state.kind === 'agent' && !socket.state.closing)
        this.#agents.set(socket, agentLink(socket, socket.state, true));
    for (const socket of sockets) this.#wakeClient(socket);
    this.#watchTwins([...this.#agents.values()]);
  }

  /** State of a fresh agent socket, for its attachment. */
  agentState({ agentId, purpose, epoch }: AgentSocketClaim): DataSocket['state'] {
    const openedAtMs = this.#ports.clock.nowMs();
    return {
      kind: 'agent',
      agentId,
      purpose: purpose === 'bulk' ? 'bulk' : 'interactive',
      epoch: epoch ?? 0,
      openedAtMs,
      serial: 1 + this.#ofAgent(agentId).reduce((most, { state }) => Math.max(most, state.serial), 0),
      nextId: 1,
      closing: false,
    };
  }

  clientState(claim: ClientSocketClaim): DataSocket['state'] {
    return { kind: 'client', claim, streams: [], openedAtMs: this.#ports.clock.nowMs(), closing: false };
  }

  /** A verified socket was accepted. */
  opened(socket: DataSocket): void {
    const { state } = socket;
    if (state.kind === 'client') {
      // The Worker has checked who it is, and may have waited for others since.
      const checkedAtMs = Math.min(this.#ports.clock.nowMs(), state.claim.checkedAtMs);
      this.#clients.set(socket, clientLink(socket, state, checkedAtMs, false));
      return;
    }
    const agent = agentLink(socket, state, false);
    this.#agents.set(socket, agent);
    if (state.epoch <= (this.#fenced.get(state.agentId) ?? -1)) {
      this.#closeAgent(agent, closeCodes.moved, 'fenced', 'agent_replaced');
      return;
    }
    this.#retireOlder(state.agentId, state.epoch);
    this.#watchTwins([agent]);
    this.#dialler.retry();
  }

  message(socket: DataSocket, message: ArrayBuffer | string): void {
    if (socket.state.closing) return;
    const agent = this.#agents.get(socket);
    const client = this.#clients.get(socket);
    try {
      if (typeof message === 'string') throw new FrameError('K5', 'a text that is not ping');
      if (agent) this.#forwarder.fromAgent(agent, message);
      else if (client) this.#fromClient(client, message);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#ports.log.warn('a peer broke the protocol', { kind: socket.state.kind, error: error.message });
      const code = closeCodeOf(error.rule);
      if (agent) this.#closeAgent(agent, code, error.rule, 'tunnel_closed');
      else if (client) this.#closeClient(client, code, error.rule);
    }
  }

  /** The socket is gone, from whichever side. */
  closed(socket: DataSocket): void {
    const agent = this.#agents.get(socket);
    const client = this.#clients.get(socket);
    if (agent) this.#dropAgent(agent, 'tunnel_closed');
    if (client) this.#dropClient(client);
  }

  fence(agentId: string, epoch: number): void {
    this.#fenced.set(agentId, Math.max(epoch, this.#fenced.get(agentId) ?? epoch));
    for (const agent of this.#agents.values())
      if (agent.state.agentId === agentId && agent.state.epoch <= epoch)
        this.#closeAgent(agent, closeCodes.moved, 'fenced', 'agent_replaced');
  }

  status(): DataHubStatus {
    const links = [...this.#agents.values(), ...this.#clients.values()];
    return {
      agentSockets: this.#agents.size,
      clientSockets: this.#clients.size,
      streams: [...this.#clients.values()].reduce((sum, { flows }) => sum + flows.size, 0),
      unprovenBytes: links.reduce((sum, { out }) => sum + out.unprovenBytes, 0),
      mostUnprovenBytes: links.reduce((most, { out }) => Math.max(most, out.unprovenBytes), 0),
    };
  }

  // ---- clients ----

  #fromClient(client: ClientLink, message: ArrayBuffer): void {
    if (this.#gate.isOpen(client)) {
      this.#forwarder.fromClient(client, message);
      return;
    }
    if (client.stalledMessages >= maxStalled) throw new FrameError('K6', 'too much was sent while access is checked');
    client.stalledMessages += 1;
    client.stalled.push(() => this.message(client.socket, message));
  }

  /** Finds the streams of a client again; those whose socket of the agent is gone are over. */
  #wakeClient(socket: DataSocket): void {
    const { state } = socket;
    if (state.kind !== 'client' || state.closing) return;
    const client = clientLink(socket, state, 0, true);
    this.#clients.set(socket, client);
    for (const [clientId, serial, agentId, interactive, endedByClient, endedByAgent] of state.streams) {
      const purpose: Purpose = interactive === 1 ? 'interactive' : 'bulk';
      const agent = this.#keptAgent(state.claim.agentId, serial);
      const lanes = { toAgent: new Lane(false), toClient: new Lane(false) };
      const flow: Flow = {
        client,
        clientId,
        purpose,
        agent,
        agentId,
        queue: [],
        endedByClient,
        endedByAgent,
        ...lanes,
      };
      client.flows.set(clientId, flow);
      if (agent && agentId !== 0) agent.flows.set(agentId, flow);
      else this.#reset(flow, 'tunnel_closed', 'The connection to the agent was lost.');
    }
  }

  #clientJson(client: ClientLink, cursor: Cursor): void {
    const flow = client.flows.get(cursor.stream);
    if (cursor.type === frameTypes.reset) {
      // Whole and small, so that the shared socket of the agent is not filled with parts that never end.
      if (cursor.more || cursor.length > resetBytes) throw new FrameError('F6', 'a RESET of more than 4 KiB');
      const joined = this.#joiner(client.socket).join(cursor.frame());
      const reset = Reset.safeParse(joined?.value);
      if (!reset.success) throw new FrameError('F6', 'a RESET of no known shape');
      if (flow) this.#end(flow, { toAgent: reset.data });
      return;
    }
    const joined = this.#joiner(client.socket).join(cursor.frame());
    if (!joined) return;
    if (cursor.stream === 0 || flow) throw new FrameError('S1', `stream ${cursor.stream} is not fresh`);
    const verdict = judgeOpen(client, joined.value);
    if (!verdict.ok) {
      this.#sendReset(client, cursor.stream, { code: verdict.code, detail: verdict.detail });
      return;
    }
    const { sessionId, generation, actorId } = client.state.claim;
    const { open, purpose } = verdict;
    const opening: Flow = {
      client,
      clientId: cursor.stream,
      purpose,
      agent: undefined,
      agentId: 0,
      queue: [],
      toAgent: new Lane(true),
      toClient: new Lane(true),
      endedByClient: 0,
      endedByAgent: 0,
    };
    client.flows.set(opening.clientId, opening);
    const envelope = { sessionId, generation, actorId };
    if (open.op === 'ssh') void this.#openSsh(opening, open, envelope);
    else this.#openAtAgent(opening, { ...envelope, open });
  }

  /** Puts OPEN before whatever the client has sent behind it. */
  #openAtAgent(flow: Flow, wrapped: AgentOpen): void {
    flow.queue.unshift(encodeFrames(jsonFrames(frameTypes.open, 0, wrapped)));
    this.#dialler.bindSoon(flow);
  }

  /** Adds the keys that the user has uploaded (S16). They are read behind the client's access: who takes one away closes its socket. */
  async #openSsh(flow: Flow, { op, publicKey }: OpenOf<'ssh'>, envelope: Omit<AgentOpen, 'open'>): Promise<void> {
    const isOver = (): boolean => flow.client.flows.get(flow.clientId) !== flow;
    const own = publicKey === undefined ? {} : { publicKey };
    try {
      const uploadedKeys = await this.#ports.uploadedKeys(envelope.actorId);
      if (isOver()) return;
      const more = uploadedKeys.length > 0 ? { uploadedKeys } : {};
      if (publicKey !== undefined || uploadedKeys.length > 0)
        this.#openAtAgent(flow, { ...envelope, open: { op, ...own }, ...more });
      else this.#reset(flow, 'ssh_key_not_found', 'You have uploaded no key.');
    } catch (error) {
      this.#ports.log.warn('uploaded keys could not be read', { error: String(error) });
      if (!isOver()) this.#reset(flow, 'tunnel_closed', 'The uploaded keys could not be read.');
    }
  }

  #closeClient(client: ClientLink, code: number, reason: string): void {
    client.state.closing = true;
    this.#dropClient(client);
    client.socket.close(code, reason);
  }

  #dropClient(client: ClientLink): void {
    client.stalled = [];
    this.#clients.delete(client.socket);
    for (const flow of client.flows.values())
      this.#end(flow, { toAgent: { code: 'tunnel_closed', detail: 'The client is gone.' } });
  }

  // ---- agents ----

  /** The newest socket of this agent that carries the epoch of the claim, or one that was moved to a newer. */
  #findAgent(
    { agentId, epoch }: Pick<ClientSocketClaim, 'agentId' | 'epoch'>,
    purpose: Purpose,
  ): AgentLink | undefined {
    let found: AgentLink | undefined;
    for (const agent of this.#agents.values()) {
      const { state } = agent;
      if (state.agentId !== agentId || state.purpose !== purpose || state.epoch < epoch) continue;
      if (
        !found ||
        state.epoch > found.state.epoch ||
        (state.epoch === found.state.epoch && state.openedAtMs >= found.state.openedAtMs)
      )
        found = agent;
    }
    if (!found || !this.#isDead(found)) return found;
    this.#closeAgent(found, closeCodes.goingAway, 'silent', 'tunnel_closed');
    return this.#findAgent({ agentId, epoch }, purpose);
  }

  /** The socket that a kept stream is on: on another one its id is somebody else's. */
  #keptAgent(agentId: string, serial: number): AgentLink | undefined {
    const found = this.#ofAgent(agentId).find(({ state }) => state.serial === serial);
    if (!found || !this.#isDead(found)) return found;
    this.#closeAgent(found, closeCodes.goingAway, 'silent', 'tunnel_closed');
    return undefined;
  }

  #ofAgent(agentId: string): AgentLink[] {
    return [...this.#agents.values()].filter(({ state }) => state.agentId === agentId);
  }

  /** Silent for 30 s (K5). Nothing wakes a hub for that: it looks when it needs the socket. */
  #isDead({ socket, state }: AgentLink): boolean {
    return this.#ports.clock.nowMs() - Math.max(socket.lastPongMs() ?? 0, state.openedAtMs) >= limits.silentMs;
  }

  /** Sends OPEN and what followed it meanwhile, under an id of the agent's socket. */
  #bind(flow: Flow, agent: AgentLink): void {
    flow.agent = agent;
    flow.agentId = takeId(agent);
    agent.flows.set(flow.agentId, flow);
    keepStreams(flow.client);
    for (const bytes of flow.queue.splice(0)) {
      rename(bytes, flow.agentId);
      this.#forwarder.send(agent, bytes);
    }
  }

  #agentMessage(agent: AgentLink, cursor: Cursor): void {
    if (cursor.stream !== 0) throw new FrameError('F5', 'a message on a stream');
    const joined = this.#joiner(agent.socket).join(cursor.frame());
    if (!joined) return;
    const parsed = Rebind.safeParse(joined.value);
    if (!parsed.success) throw new FrameError('F6', 'a message of no known shape');
    const { epoch, dataTicket } = parsed.data;
    const { state } = agent;
    if (this.#ports.ticketEpoch(dataTicket, state.agentId) !== epoch) {
      this.#closeAgent(agent, closeCodes.refused, 'ticket', 'agent_replaced');
      return;
    }
    if (epoch <= state.epoch) return;
    state.epoch = epoch;
    agent.socket.keep();
    this.#retireOlder(state.agentId, epoch);
    this.#dialler.retry();
  }

  /** A newer epoch was seen: sockets of older ones have 10 s to say that they belong to it (S13). */
  #retireOlder(agentId: string, epoch: number): void {
    const older = [...this.#agents.values()].filter(({ state }) => state.agentId === agentId && state.epoch < epoch);
    if (older.length === 0) return;
    this.#ports.timers.after(limits.rebindMs, () => {
      for (const agent of older)
        if (agent.state.epoch < epoch) this.#closeAgent(agent, closeCodes.moved, 'not rebound', 'agent_replaced');
    });
  }

  /** An agent dials again where a way has forgotten its socket: what is silent beside another one is closed (S12). */
  #watchTwins(newer: readonly AgentLink[]): void {
    const isTwin = ({ state }: AgentLink, other: AgentLink): boolean =>
      other.state !== state && other.state.agentId === state.agentId && other.state.purpose === state.purpose;
    const twins = [...this.#agents.values()].filter((agent) => newer.some((other) => isTwin(agent, other)));
    if (twins.length === 0) return;
    this.#ports.timers.after(limits.silentMs, () => {
      for (const agent of twins)
        if (this.#isDead(agent)) this.#closeAgent(agent, closeCodes.goingAway, 'silent', 'tunnel_closed');
    });
  }

  #closeAgent(agent: AgentLink, code: number, reason: string, resetCode: string): void {
    if (agent.state.closing) return;
    agent.state.closing = true;
    this.#dropAgent(agent, resetCode);
    agent.socket.close(code, reason);
  }

  #dropAgent(agent: AgentLink, code: string): void {
    this.#agents.delete(agent.socket);
    for (const flow of agent.flows.values())
      this.#end(flow, { toClient: { code, detail: 'The connection to the agent was lost.' } });
  }

  #stuck(link: AgentLink | ClientLink): void {
    this.#ports.log.warn('a socket takes bytes and reads none', { kind: link.state.kind });
    if ('claim' in link.state) this.#closeClient(link as ClientLink, closeCodes.policy, 'nothing is read');
    else this.#closeAgent(link as AgentLink, closeCodes.policy, 'nothing is read', 'tunnel_closed');
  }

  // ---- streams ----

  #reset(flow: Flow, code: string, detail?: string): void {
    const reset = { code, ...(detail === undefined ? {} : { detail }) };
    this.#end(flow, { toAgent: reset, toClient: reset });
  }

  #end(flow: Flow, told: { toAgent?: Reset; toClient?: Reset }): void {
    const { agent, client } = flow;
    if (agent && told.toAgent) this.#sendReset(agent, flow.agentId, told.toAgent);
    if (told.toClient) this.#sendReset(client, flow.clientId, told.toClient);
    this.#forget(flow);
  }

  #forget(flow: Flow): void {
    const { agent, client } = flow;
    if (client.flows.get(flow.clientId) !== flow) return;
    client.flows.delete(flow.clientId);
    client.waiting.delete(flow);
    client.out.creditChanged(flow.toClient.unused, 0);
    this.#joiner(client.socket).drop(flow.clientId);
    this.#dialler.forget(flow);
    if (agent) {
      agent.flows.delete(flow.agentId);
      agent.waiting.delete(flow);
      agent.out.creditChanged(flow.toAgent.unused, 0);
    }
    if (!client.state.closing) keepStreams(client);
  }

  #sendReset(link: AgentLink | ClientLink, stream: number, reset: Reset): void {
    if (link.state.closing) return;
    this.#forwarder.send(link, encodeFrames(jsonFrames(frameTypes.reset, stream, reset)));
  }

  #joiner(socket: DataSocket): JsonJoiner {
    const joiner = this.#joiners.get(socket) ?? new JsonJoiner();
    this.#joiners.set(socket, joiner);
    return joiner;
  }
}

function closeCodeOf(rule: string): number {
  if (rule === 'F4') return closeCodes.tooBig;
  return rule === 'K6' ? closeCodes.policy : closeCodes.protocolError;
}

/** Gives every frame of a message of ours another stream id. */
function rename(bytes: Uint8Array<ArrayBuffer>, stream: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.byteLength; at += limits.headerBytes + (view.getUint32(at + 2) & 0xff_ff_ff))
    view.setUint32(at + 6, stream);
}

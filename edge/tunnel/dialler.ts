/**
 * Brings an agent's data socket about (SPEC rule K2): streams wait while the control hub asks the agent to dial. One
 * question per agent and purpose at a time; nobody waits longer than 10 s.
 */
import type { ErrorCode } from '../../schema/errors.ts';
import type { Log, Timers } from '../../schema/ports.ts';
import type { Route } from '../manager/scheduler/rpc.ts';
import type { AgentLink, ClientLink, Flow, Purpose } from './links.ts';
import type { ClientSocketClaim, ControlHubRpc } from './rpc.ts';

export interface DiallerPorts {
  /** Name of this hub. */
  hub: string;
  timers: Timers;
  log: Log;
  controlHub(name: string): Pick<ControlHubRpc, 'dial'>;
  /** Where the session's streams go now, from its ledger. */
  route(sessionId: string): Promise<Route | undefined>;
}

export interface DiallerHost {
  /** A socket that the client's streams may use now. */
  find(client: ClientLink, purpose: Purpose): AgentLink | undefined;
  bind(flow: Flow, agent: AgentLink): void;
  refuse(flow: Flow, code: ErrorCode, detail: string): void;
}

const dialMs = 10_000;

export class Dialler {
  readonly #ports: DiallerPorts;
  readonly #host: DiallerHost;
  readonly #waiting = new Set<Flow>();
  readonly #asking = new Set<string>();

  constructor(ports: DiallerPorts, host: DiallerHost) {
    this.#ports = ports;
    this.#host = host;
  }

  /** Binds the flow to an agent's socket as soon as there is one, or refuses it. */
  bindSoon(flow: Flow): void {
    const agent = this.#host.find(flow.client, flow.purpose);
    if (agent) {
      this.#host.bind(flow, agent);
      return;
    }
    this.#waiting.add(flow);
    this.#ports.timers.after(dialMs, () => {
      if (this.#waiting.delete(flow)) this.#host.refuse(flow, 'agent_unreachable', 'The agent did not dial in time.');
    });
    void this.#ask(flow);
  }

  /** An agent's socket appeared or was moved to a newer epoch: whoever waits for one like it goes on. */
  retry(): void {
    for (const flow of this.#waiting) {
      const agent = this.#host.find(flow.client, flow.purpose);
      if (!agent) continue;
      this.#waiting.delete(flow);
      this.#host.bind(flow, agent);
    }
  }

  /** The flow is over. */
  forget(flow: Flow): void {
    this.#waiting.delete(flow);
  }

  async #ask(flow: Flow): Promise<void> {
    const { claim } = flow.client.state;
    const key = `${claim.agentId} ${claim.epoch} ${flow.purpose}`;
    if (this.#asking.has(key)) return;
    this.#asking.add(key);
    try {
      const asked = (await this.#dial(claim, flow.purpose)) || (await this.#dialAnew(flow));
      if (!asked) this.#refuse(flow, 'The agent is not connected.');
    } catch (error) {
      this.#ports.log.warn('an agent was not asked to dial', { agentId: claim.agentId, error: String(error) });
      this.#refuse(flow, 'The agent could not be asked to dial.');
    } finally {
      this.#asking.delete(key);
    }
  }

  #dial({ agentId, epoch, controlHub, dataTicket }: ClientSocketClaim, purpose: Purpose): Promise<boolean> {
    return this.#ports.controlHub(controlHub).dial(agentId, epoch, purpose, this.#ports.hub, dataTicket);
  }

  /** The agent may have connected anew since the client came: its ledger knows the epoch and the ticket of today. */
  async #dialAnew(flow: Flow): Promise<boolean> {
    const { state, socket } = flow.client;
    const route = await this.#ports.route(state.claim.sessionId);
    const agent = route?.agent;
    if (!route || !agent || agent.agentId !== state.claim.agentId || agent.epoch <= state.claim.epoch) return false;
    if (route.generation !== state.claim.generation) {
      this.#waiting.delete(flow);
      this.#host.refuse(flow, 'session_generation_stale', 'The session was placed anew: dial again.');
      // Others wait for the same answer, for sessions that are where they were.
      const isAlike = ({ client }: Flow): boolean => client.state.claim.epoch === state.claim.epoch;
      const other = [...this.#waitingLike(flow)].find(isAlike);
      return other === undefined || this.#dialAnew(other);
    }
    state.claim = { ...state.claim, epoch: agent.epoch, controlHub: agent.controlHub, dataTicket: agent.dataTicket };
    socket.keep();
    this.retry();
    return this.#dial(state.claim, flow.purpose);
  }

  /** Refuses everybody who waits for the same agent and purpose. */
  #refuse({ client, purpose }: Flow, detail: string): void {
    for (const flow of this.#waitingLike({ client, purpose })) {
      this.#waiting.delete(flow);
      this.#host.refuse(flow, 'agent_unreachable', detail);
    }
  }

  *#waitingLike({ client, purpose }: Pick<Flow, 'client' | 'purpose'>): Generator<Flow, void, void> {
    for (const flow of this.#waiting)
      if (flow.client.state.claim.agentId === client.state.claim.agentId && flow.purpose === purpose) yield flow;
  }
}

/**
 * What a data hub knows of sockets and of the streams between them. State that must survive hibernation is in the
 * attachments; the rest is counted anew after a wake.
 */
import { limits } from '../../schema/protocol/limits.ts';
import type { HubSocket } from './hub-socket.ts';
import { Allowance } from './marks.ts';
import type { ClientSocketClaim } from './rpc.ts';

export type Purpose = 'interactive' | 'bulk';

/** Attachment of an agent's data socket. */
export interface AgentState {
  kind: 'agent';
  agentId: string;
  purpose: Purpose;
  epoch: number;
  openedAtMs: number;
  /** Tells the sockets of one agent apart: each counts its stream ids for itself. */
  serial: number;
  /** Stream ids below this may have been used on the socket; raised in blocks. */
  nextId: number;
  closing: boolean;
}

/** A stream as it is kept: [client's id, the agent's socket, its id there, interactive, channels ended by the client, by the agent]. */
export type KeptStream = [
  clientId: number,
  serial: number,
  agentId: number,
  interactive: 0 | 1,
  endedByClient: number,
  endedByAgent: number,
];

/** Attachment of a client's socket. */
export interface ClientState {
  kind: 'client';
  claim: ClientSocketClaim;
  streams: KeptStream[];
  openedAtMs: number;
  closing: boolean;
}
export type DataSocket = HubSocket<AgentState | ClientState>;

/** Bits of the channels that each side sends on: input, control; stdout, stderr, control. */
export const clientChannels = 0b1001;
export const agentChannels = 0b1110;

/** Credit of one direction of a stream. */
export class Lane {
  /** Bytes that the sender may still send. */
  unused: number = limits.initialWindowBytes;
  /** Granted by the receiver and not passed on yet. */
  held = 0;
  /** False for streams from before a wake, whose credit nobody knows. */
  readonly exact: boolean;
  constructor(exact: boolean) {
    this.exact = exact;
  }
}

export interface AgentLink {
  readonly socket: DataSocket;
  readonly state: AgentState;
  readonly out: Allowance;
  readonly flows: Map<number, Flow>;
  /** Flows whose grants wait for the agent to prove that it reads. */
  readonly waiting: Set<Flow>;
  lastId: number;
}

export interface ClientLink {
  readonly socket: DataSocket;
  readonly state: ClientState;
  readonly out: Allowance;
  readonly flows: Map<number, Flow>;
  readonly waiting: Set<Flow>;
  /** When access was last seen to hold; 0 after a wake. */
  checkedAtMs: number;
  /** What waits for a check, in order. Bounded by the credit of the streams. */
  stalled: (() => void)[];
  /** Messages of the client's own among that. */
  stalledMessages: number;
}

/** One stream between a client and an agent. */
export interface Flow {
  readonly client: ClientLink;
  readonly clientId: number;
  readonly purpose: Purpose;
  /** Absent while the agent dials. */
  agent: AgentLink | undefined;
  agentId: number;
  /** OPEN and what followed it, while the agent dials. */
  queue: Uint8Array<ArrayBuffer>[];
  readonly toAgent: Lane;
  readonly toClient: Lane;
  endedByClient: number;
  endedByAgent: number;
}

export function agentLink(socket: DataSocket, state: AgentState, afterWake: boolean): AgentLink {
  const out = new Allowance(afterWake);
  return { socket, state, out, flows: new Map(), waiting: new Set(), lastId: state.nextId - 1 };
}

export function clientLink(
  socket: DataSocket,
  state: ClientState,
  checkedAtMs: number,
  afterWake: boolean,
): ClientLink {
  const out = new Allowance(afterWake);
  return { socket, state, out, flows: new Map(), waiting: new Set(), checkedAtMs, stalled: [], stalledMessages: 0 };
}

/** Writes the client's stream table into its attachment. */
export function keepStreams(client: ClientLink): void {
  client.state.streams = Array.from(client.flows.values(), (flow): KeptStream => [
    flow.clientId,
    flow.agent?.state.serial ?? 0,
    flow.agentId,
    flow.purpose === 'interactive' ? 1 : 0,
    flow.endedByClient,
    flow.endedByAgent,
  ]);
  client.socket.keep();
}

const idBlock = 4096;

/** A stream id that was never used on this socket; the attachment reserves them in blocks. */
export function takeId(link: AgentLink): number {
  link.lastId++;
  if (link.lastId >= link.state.nextId) {
    link.state.nextId = link.lastId + idBlock;
    link.socket.keep();
  }
  return link.lastId;
}

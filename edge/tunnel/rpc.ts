/**
 * What the rest of the edge asks of hubs. Hubs are Durable Objects that store nothing: they hold sockets, and stream
 * tables in the sockets' attachments. Every method may be called twice with the same effect as once.
 */
import type { Intent } from '../../schema/protocol/intents.ts';
import type { SocketPrincipal } from '../http/access-rpc.ts';

/** Outcome of a call to an agent; never thrown, so that a hub's error is told from an agent's. */
export type CallOutcome = { ok: true; result: unknown } | { ok: false; code: string; detail?: string };

export interface AgentLiveness {
  epoch: number;
  /** Milliseconds since the last ping was answered. */
  silentMs: number;
  closing: boolean;
}

export interface ControlHubRpc {
  /** Hands intents to the agent's socket of `epoch`. `not_sent`: no such socket, or its last ping is 25 s old or more. */
  sendIntents(agentId: string, epoch: number, intents: Intent[]): Promise<'sent' | 'not_sent'>;
  /** One call and its answer; repeats with the same `callId` are harmless. Without a socket: `agent_unreachable`. */
  call(agentId: string, callId: string, op: string, input: unknown, deadlineMs: number): Promise<CallOutcome>;
  /** Sockets of these agents as they are now; absent ones are left out. */
  liveness(agentIds: string[]): Promise<Record<string, AgentLiveness>>;
  /** Closes every control socket of the agent whose epoch is not newer than `epoch`. */
  fence(agentId: string, epoch: number): Promise<void>;
  /** Asks the agent to dial a data socket. False when it has no socket of `epoch`. */
  dial(
    agentId: string,
    epoch: number,
    purpose: 'interactive' | 'bulk',
    dataHub: string,
    dataTicket: string,
  ): Promise<boolean>;
  /** Closes every socket with a close frame: this workerd is about to stop. Whoever was connected dials again. */
  drain(): Promise<void>;
}

export interface DataHubRpc {
  /** Closes the agent's data sockets whose epoch is not newer than `epoch` and resets their streams (`agent_replaced`). */
  fence(agentId: string, epoch: number): Promise<void>;
  status(): Promise<DataHubStatus>;
  /** Closes every socket with a close frame: this workerd is about to stop. Whoever was connected dials again. */
  drain(): Promise<void>;
}

/** What a data hub holds now, in numbers. */
export interface DataHubStatus {
  agentSockets: number;
  clientSockets: number;
  streams: number;
  /** Sent and not proven to be read, of all sockets and of the worst: what the runtime may hold in memory for them. */
  unprovenBytes: number;
  mostUnprovenBytes: number;
}

/** Internal headers by which the Worker hands an upgrade to a hub. {@link toHub} alone sets them. */
export const hubHeaders = {
  /** JSON {@link AgentSocketClaim} of a verified agent socket. */
  agent: 'x-causeway-agent-claim',
  /** JSON {@link ClientSocketClaim} of an authorised client socket. */
  client: 'x-causeway-client-claim',
} as const;

export interface AgentSocketClaim {
  agentId: string;
  groupNumber: number;
  purpose: 'control' | 'interactive' | 'bulk';
  /** Of data sockets: the epoch that the ticket was made for. */
  epoch?: number;
}

export interface ClientSocketClaim {
  sessionId: string;
  generation: number;
  agentId: string;
  epoch: number;
  controlHub: string;
  dataTicket: string;
  actorId: string;
  /** Who is checked for revocation (`edge/http/access.ts`: `principalOf` makes it, `checkAccess` judges it). */
  principal: SocketPrincipal;
  /** When the request that opens the socket was last seen to be allowed, Unix ms. */
  checkedAtMs: number;
  /** Operations of `StreamOpen` that the route allows. */
  ops: readonly string[];
  /** May write input and spawn. */
  write: boolean;
  /** The only terminal that may be opened. */
  terminalId?: string;
}

/**
 * The upgrade by which the Worker hands a socket to a hub, on behalf of one caller: it says who that is, and of what the
 * caller sent nothing passes that could say it too, or that is secret.
 */
export function toHub(
  request: Request,
  header: keyof typeof hubHeaders,
  claim: AgentSocketClaim | ClientSocketClaim,
): Request {
  const headers = new Headers(request.headers);
  for (const name of ['authorization', 'x-causeway-ticket', ...Object.values(hubHeaders)]) headers.delete(name);
  headers.set(hubHeaders[header], JSON.stringify(claim));
  return new Request(request, { headers });
}

/** What a service receives with every call: who asks, and the doors to the world. Types only. */
import type { EdgeFailpoint } from '../../schema/failpoints.ts';
import type { ProjectRole } from '../../schema/api/account.ts';
import type { IdKind } from '../../schema/ids.ts';
import type { Clock, Failpoints, Log, Random } from '../../schema/ports.ts';
import type { Config } from '../platform/config.ts';

/** Somebody with an API token. What a narrowed token takes away is already gone from it. */
export interface UserActor {
  kind: 'user';
  userId: string;
  tokenId: string;
  email: string;
  domainId: string;
  domainNumber: number;
  /** Absent for plain users, and for tokens narrowed to a project, a role or scopes. */
  role: 'superadmin' | 'domain-admin' | undefined;
  /** Memberships that the token allows. Administrators reach other projects by `role`. */
  projects: readonly { id: string; name: string; domainId: string; role: ProjectRole }[];
  /** The only project of the token. */
  projectId: string | undefined;
  /** The most that the token allows in any project. */
  tokenRole: ProjectRole | undefined;
  /** A token with scopes is good for these alone. */
  scopes: readonly string[];
  tokenExpiresAtMs: number | undefined;
  /** Version of the principal's `Access` object at which this was read. */
  accessVersion: number;
  /** When the rights were last seen to hold, Unix ms. */
  checkedAtMs: number;
}
/** An agent's socket whose signature (control) or data ticket (interactive, bulk) was verified. */
export interface AgentActor {
  kind: 'agent';
  agentId: string;
  groupNumber: number;
  purpose: 'control' | 'interactive' | 'bulk';
  /** Control hub of a control socket, data hub of the others. */
  hub: string;
  /** Of data sockets: the epoch of the ticket. */
  epoch: number | undefined;
}
/** Whoever knows CAUSEWAY_BOOTSTRAP: the supervisor of this machine. */
export interface BootstrapActor {
  kind: 'bootstrap';
}
export interface AnonymousActor {
  kind: 'anonymous';
}
export type Actor = UserActor | AgentActor | BootstrapActor | AnonymousActor;

export interface Ctx<A extends Actor = Actor> {
  env: Env;
  config: Config;
  actor: A;
  /** `req_...`, also in the header X-Request-Id of the answer. */
  requestId: string;
  /** W3C trace context of this request, to be passed on. */
  traceparent: string;
  /** Address of the client as the platform saw it; `unknown` where it does not say. */
  clientAddress: string;
  request: Request;
  /** The caller's Idempotency-Key and a hash of method, address and body. Absent when none was sent. */
  idempotency: { key: string; bodyHash: string } | undefined;
  clock: Clock;
  random: Random;
  log: Log;
  failpoints: Failpoints<EdgeFailpoint>;
  /**
   * Waits for a turn where the client's address fails too often. Called before anything costly is done for somebody who has
   * not proved who he is. @throws Refusal `request_rate_limited`
   */
  takeTurn(): Promise<void>;
  /** Keeps the isolate alive for work after the answer. A rejection is logged. */
  waitUntil(work: Promise<unknown>): void;
  /**
   * An id for what this request creates. On a route with `idempotent: 'begin'` it is the same again when the caller
   * repeats the request with its Idempotency-Key, so writes by it must be idempotent. One call per kind.
   */
  newId(kind: Exclude<IdKind, 'session' | 'agent'>): string;
}
export type UserCtx = Ctx<UserActor>;

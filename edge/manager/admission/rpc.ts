/**
 * What the rest of the edge asks of an admission object: one per domain (named by its number), and one named `system`
 * for idempotency keys of what has no domain. Every method may be called twice with the same effect as once.
 */
import type { AuditEntry } from '../../../schema/api/audit.ts';
import type { SessionState } from '../../../schema/api/session-parts.ts';
import type { SessionHistory, StateReason } from '../../../schema/api/session.ts';
import type { ErrorCode } from '../../../schema/errors.ts';
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import type { Refusals } from '../audit/refusal-windows.ts';
import type { Head } from '../audit/sealer.ts';

/** An `Idempotency-Key` as the corridor read it. Kept for 48 h. */
export interface IdempotencyKey {
  /** User, service account or agent: keys of one actor never meet those of another. */
  actorId: string;
  /** 1 to 255 printable characters. */
  key: string;
  /** Digest of method, path and body: the same key with another digest is a conflict. */
  bodyHash: string;
}

/** The domain whose object is asked. The object binds to it at the first call and refuses another for ever. */
export interface AdmissionDomain {
  id: string;
  number: number;
}

/** A checked session. `spec.name` empty: the object picks a name. */
export interface SessionRequest {
  key?: IdempotencyKey;
  groupNumber: number;
  spec: KernelSpec;
  /** Written in the commit that admits the session, with its id. */
  audit: AuditEntry;
}

/** What an admission object knows of a session that no ledger has taken yet. */
export interface AdmissionSession {
  sessionId: string;
  domainId: string;
  projectId: string;
  ownerId: string;
  groupNumber: number;
  state: Extract<SessionState, 'PENDING' | 'CANCELLED'>;
  reason?: StateReason;
  generation: number;
  version: number;
  createdAtMs: number;
  endedAtMs?: number;
  history: SessionHistory['items'];
  spec: KernelSpec;
}

export type CreateAnswer =
  | { kind: 'created'; session: AdmissionSession }
  /** The key was used for this session before, with the same body. */
  | { kind: 'replay'; sessionId: string }
  | { kind: 'refused'; code: ErrorCode; detail: string; retryAfterSeconds?: number };

/** Answer of another creating POST, as it is replayed. At most 64 KiB of JSON. */
export interface StoredAnswer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

export type BeginAnswer =
  /** Go on, and use this body (26 characters, after a prefix of `schema/ids.ts`) in the ids of what is made. */
  | { kind: 'begun'; idBody: string }
  | { kind: 'replay'; answer: StoredAnswer }
  /** The answer held a secret, which is not kept; `id` is what it made. */
  | { kind: 'secretShown'; id: string }
  /** Used with another body. */
  | { kind: 'conflict' }
  /** The first request with this key began less than 10 s ago and has not finished. */
  | { kind: 'inProgress' };

/** How much a project may hold. `undefined` = no limit. */
export interface ProjectLimits {
  /** Live sessions beyond this wait in PENDING with `quota_sessions`. */
  concurrentSessions?: number;
  /** Live sessions beyond this, waiting ones included, are refused. */
  liveSessions?: number;
}

/** The end of a session's claim on its name and quota, as its ledger tells it. */
export interface SessionRelease {
  sessionId: string;
  generation: number;
  version: number;
}

/** A session that its ledger holds and that is not over. */
export interface LiveSession {
  sessionId: string;
  projectId: string;
  ownerId: string;
  name: string;
  groupNumber: number;
  createdAtMs: number;
  version: number;
}
/** A claim, as whoever compares it with the ledgers has to know it. */
export interface KnownClaim {
  sessionId: string;
  projectId: string;
  groupNumber: number;
  place: 'quota' | 'leaving' | 'handed' | 'over';
}
/** A project whose sessions were counted wrong. */
export interface Recount {
  projectId: string;
  live: { before: number; after: number };
  waiting: { before: number; after: number };
}

export interface AdmissionRpc {
  /** Admits a session: one durable commit, then hand-over and read model within 250 ms if they are quick. */
  create(domain: AdmissionDomain, request: SessionRequest): Promise<CreateAnswer>;
  /** A session that waits here. Undefined: unknown, over, or with its ledger. */
  get(sessionId: string): Promise<AdmissionSession | undefined>;
  /** Ends a session that waits here, or leaves the order behind its hand-over. `unknown`: its ledger knows better. */
  terminate(
    sessionId: string,
    order: { graceMs: number; force: boolean; reason: string; purge?: boolean },
  ): Promise<'accepted' | 'ended' | 'unknown'>;

  /** Before a creating POST does anything. Call `finish` when its writes are durable. */
  begin(key: IdempotencyKey): Promise<BeginAnswer>;
  /** Keeps the answer, or with `secret` only that it was given and what it made. */
  finish(key: IdempotencyKey, outcome: { answer: StoredAnswer } | { secret: { id: string } }): Promise<void>;
  /** After a refusal: the key may be used again, with any body. */
  abandon(key: IdempotencyKey): Promise<void>;
  /** After any other failure: nobody is at work any more, so a repetition may go on at once, with the same ids. */
  rest(key: IdempotencyKey): Promise<void>;

  /** From ledgers. */
  release(domain: AdmissionDomain, releases: SessionRelease[]): Promise<void>;

  /** Limits of one project, or (`projectId` undefined) of all that have none of their own. */
  setLimits(domain: AdmissionDomain, projectId: string | undefined, limits: ProjectLimits): Promise<void>;
  limits(projectId: string): Promise<{ limits: ProjectLimits; live: number; waiting: number }>;

  /** Claims behind `after`, by id of the session. At most 1,000. */
  claims(after: string, limit: number): Promise<KnownClaim[]>;
  /** `live`: sessions that their ledgers hold get their claims. `gone`: ended there; their claims go. */
  reconcile(domain: AdmissionDomain, live: LiveSession[], gone: string[]): Promise<void>;
  /** Counts the claims of every project anew. Answers what was wrong; with `dryRun` it stays so. */
  recount(dryRun: boolean): Promise<Recount[]>;
  /** Where D1 has more of the audit chain than this object, which was put back: goes on behind it. */
  catchUpAudit(): Promise<void>;

  /** Before D1 gets an entry of this domain's audit chain with a mutation: it is sealed even if the writer dies. */
  expectAudit(): Promise<void>;
  /** Entries of what other objects do; once each by their ids, as long as they are not sealed. */
  audit(entries: AuditEntry[]): Promise<void>;
  /** Refusals counted by an isolate. */
  refused(refusals: Refusals[]): Promise<void>;
  /** Seals now what waits, and tells the end of the chain. */
  sealAudit(): Promise<Head>;
}

/**
 * The narrow door between admission's thinking and its storage. Synchronous; one transaction for each batch. Two
 * implementations pass one contract suite: durable SQLite, and a model in memory for simulation.
 */
import type { CausewayEvent } from '../../../schema/api/event.ts';
import type { ClaimRow, KeyRow, UsageRow } from '../../../schema/admission/claims.ts';
import type { AdmissionDomain, ProjectLimits } from './rpc.ts';

/** Who is not told for now. */
export interface Held {
  /** D1. */
  list: boolean;
  /** Ledgers, by their groups. */
  groups: readonly number[];
}

export const noneHeld: Held = { list: false, groups: [] };

export interface AdmissionStore {
  /** Runs `work`; when it throws, nothing of it happened. Never nested. */
  transaction<Result>(work: () => Result): Result;

  domain(): AdmissionDomain | undefined;
  putDomain(domain: AdmissionDomain): void;

  claim(sessionId: string): ClaimRow | undefined;
  /** True when a live session of the project has the name. */
  isNamed(projectId: string, name: string): boolean;
  insertClaim(row: ClaimRow): void;
  /** Writes the columns in which `after` differs from `before`. */
  updateClaim(before: ClaimRow, after: ClaimRow): void;
  deleteClaim(sessionId: string): void;
  /** Claims behind `after`, by session. */
  claimsAfter(after: string, limit: number): Pick<ClaimRow, 'sessionId' | 'projectId' | 'groupNumber' | 'place'>[];
  /** Sessions of which something is to be told to one who is not held: those with an order to end first, then the oldest. */
  todo(limit: number, held: Held): string[];
  /** Oldest sessions of a project that wait for quota. */
  waiting(projectId: string, limit: number): string[];

  key(day: number, actorId: string, key: string): KeyRow | undefined;
  putKey(row: KeyRow): void;
  deleteKey(day: number, actorId: string, key: string): void;
  /** Forgets keys of days before `day`. */
  purgeKeys(day: number): void;

  usage(projectId: string): UsageRow;
  usages(): UsageRow[];
  putUsage(row: UsageRow): void;
  /** Limits of the project itself; the empty id is for all others. */
  limits(projectId: string): ProjectLimits | undefined;
  putLimits(projectId: string, limits: ProjectLimits): void;

  appendOutbox(atMs: number, events: readonly CausewayEvent[]): void;
  outbox(limit: number): { seq: number; atMs: number; events: CausewayEvent[] }[];
  /** `seq` of the newest row; 0 without one. */
  lastOutboxSeq(): number;
  trimOutbox(uptoSeq: number): void;
}

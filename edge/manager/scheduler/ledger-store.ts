/**
 * The narrow door between a ledger's thinking and its storage. Synchronous: a turn of the ledger is one transaction, all
 * or nothing. Two implementations pass one contract suite: durable SQLite, and a model in memory for simulation.
 * Every read is by key or by an index that holds only what is asked for; nothing here reads a whole table of sessions.
 */
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import type { InventoryItem } from '../../../schema/protocol/messages.ts';
import type { AgentImages, AgentRow, IntentRow } from '../../../schema/ledger/agents.ts';
import type { Cursors, LedgerMeta, OutboxBody, OutboxRow } from '../../../schema/ledger/book.ts';
import type { ReservationRow, SessionRow } from '../../../schema/ledger/sessions.ts';
import type { HistoryRow } from './rpc.ts';

/** Waiting sessions of one shape. */
export interface PendingShape {
  shape: string;
  count: number;
  /** The oldest of them. */
  first: string;
}

export interface LedgerStore {
  /** Runs `work`; when it throws, nothing of it happened. Never nested. */
  transaction<Result>(work: () => Result): Result;

  meta(): LedgerMeta | undefined;
  putMeta(meta: LedgerMeta): void;

  session(sessionId: string): SessionRow | undefined;
  insertSession(row: SessionRow, spec: KernelSpec): void;
  /** Writes the columns in which `after` differs from `before`. */
  updateSession(before: SessionRow, after: SessionRow): void;
  /** Forgets a session with its spec and old history. */
  deleteSession(sessionId: string): void;
  spec(sessionId: string): KernelSpec | undefined;
  /** Old transitions that no longer fit in the row, in order. */
  trail(sessionId: string): HistoryRow[];
  appendTrail(sessionId: string, rows: HistoryRow[]): void;

  /** Ids of sessions behind `after`, in order, ended ones too. */
  sessionsAfter(after: string, limit: number): string[];
  pendingShapes(): PendingShape[];
  /** Oldest waiting sessions of a shape, after `after` where given. */
  pending(shape: string, limit: number, after?: string): string[];
  oldestPending(): string | undefined;
  /** How many sessions wait that are older than this one. */
  pendingBefore(sessionId: string): number;
  /** Sessions with a deadline. */
  moving(): { sessionId: string; deadlineMs: number | null }[];
  /** Of which nothing is left: ended at or before `endedAtMs` and row `endSeq` of the outbox, holding nothing. Oldest first. */
  over(upto: { endedAtMs: number; endSeq: number }, limit: number): string[];

  reservationTotals(): { agentId: string; shape: string; count: number }[];
  reservations(agentId: string): ReservationRow[];
  insertReservation(row: ReservationRow): void;
  deleteReservation(agentId: string, sessionId: string, generation: number): void;

  agents(): AgentRow[];
  insertAgent(row: AgentRow): void;
  updateAgent(before: AgentRow, after: AgentRow): void;
  putImages(agentId: string, images: AgentImages): void;
  /** Replaces what an agent holds of unknown sessions; none = the row goes. */
  putOrphans(agentId: string, items: readonly InventoryItem[]): void;
  orphans(): { agentId: string; items: InventoryItem[] }[];
  images(): { agentId: string; images: AgentImages }[];

  /** Unacknowledged intents of all agents, in order of issue within an agent. */
  intents(): IntentRow[];
  insertIntent(row: IntentRow): void;
  deleteIntent(agentId: string, intentId: string): void;

  lastOutboxSeq(): number;
  appendOutbox(seq: number, atMs: number, body: OutboxBody): void;
  outbox(afterSeq: number, limit: number): OutboxRow[];
  trimOutbox(uptoSeq: number): void;
  cursors(): Cursors;
  putCursors(cursors: Cursors): void;
}

/** The columns of `after` that differ from `before`; undefined when none does. */
export function changed<Row extends object>(before: Row, after: Row): Partial<Row> | undefined {
  const diff: Partial<Row> = {};
  let any = false;
  for (const key of Object.keys(after) as (keyof Row)[]) {
    const a = before[key];
    const b = after[key];
    if (a === b || (typeof a === 'object' && JSON.stringify(a) === JSON.stringify(b))) continue;
    diff[key] = b;
    any = true;
  }
  return any ? diff : undefined;
}

/**
 * What a ledger keeps in memory between turns: agents with what they have free, shapes that wait, deadlines. All of it is
 * derived from the store; when a turn fails it is thrown away and read again.
 */
import type { AgentRow, IntentRow } from '../../../schema/ledger/agents.ts';
import type { Cursors, LedgerMeta } from '../../../schema/ledger/book.ts';
import type { Slots } from '../../../schema/protocol/messages.ts';
import type { LedgerStore } from './ledger-store.ts';
import { Placement } from './placement.ts';
import type { LedgerSession } from './rpc.ts';
import { addSlots, clampSlots, parseShape } from './slots.ts';

export interface AgentEntry {
  row: AgentRow;
  /** Slots that its reservations hold, and how many these are. */
  used: Slots;
  held: number;
  /** When a hub last saw its ping, as far as this life knows. */
  seenAtMs: number | undefined;
  /** Unacknowledged, in order of issue. */
  intents: IntentRow[];
}

/** What this life knows of the sending of an intent. One that is not in the table may have reached its agent. */
export interface Sending {
  atMs: number;
  inFlight: number;
  /** A hub took it, or its answer is unknown. */
  reached: boolean;
}

export interface Heap {
  meta: LedgerMeta | undefined;
  agents: Map<string, AgentEntry>;
  placement: Placement;
  /** Shapes that wait, with how many sessions of each, and how many these are in all. */
  shapes: Map<string, { count: number; slots: Slots }>;
  pendingCount: number;
  /** Every shape that waits is in one of these. `blocked`: nothing of it fits until somebody has more free. */
  open: Set<string>;
  blocked: Set<string>;
  /** Sessions with a deadline. */
  moving: Map<string, number | null>;
  /** Before this moment nothing is due among `moving`, among unacknowledged intents, and of the questions to hubs. */
  nextDeadlineMs: number;
  nextResendMs: number;
  nextLivenessMs: number;
  /** Agents with unacknowledged intents, and those whose fence is not confirmed. */
  ordered: Set<string>;
  fencing: Set<string>;
  sendings: Map<string, Sending>;
  progress: Map<string, NonNullable<LedgerSession['progress']>>;
  lastSeq: number;
  cursors: Cursors;
  intentCounter: number;
}

/** Reads everything that turns need at hand. */
export function loadHeap(store: LedgerStore): Heap {
  const heap: Heap = {
    meta: store.meta(),
    agents: new Map(),
    placement: new Placement(),
    shapes: new Map(store.pendingShapes().map(({ shape, count }) => [shape, { count, slots: parseShape(shape) }])),
    pendingCount: 0,
    open: new Set(),
    blocked: new Set(),
    moving: new Map(store.moving().map(({ sessionId, deadlineMs }) => [sessionId, deadlineMs])),
    nextDeadlineMs: 0,
    nextResendMs: 0,
    nextLivenessMs: 0,
    ordered: new Set(),
    fencing: new Set(),
    sendings: new Map(),
    progress: new Map(),
    lastSeq: 0,
    cursors: store.cursors(),
    intentCounter: 0,
  };
  for (const [shape, { count }] of heap.shapes) {
    heap.open.add(shape);
    heap.pendingCount += count;
  }
  // Delivered rows are gone from the outbox; their numbers live on in the cursors.
  const { readModel, events, admission } = heap.cursors;
  heap.lastSeq = Math.max(store.lastOutboxSeq(), readModel, events, admission);
  for (const row of store.agents()) {
    heap.agents.set(row.agentId, newEntry(row));
    if (row.fencing) heap.fencing.add(row.agentId);
  }
  for (const { agentId, shape, count } of store.reservationTotals()) {
    const entry = heap.agents.get(agentId);
    if (!entry) continue;
    addSlots(entry.used, parseShape(shape), count);
    entry.held += count;
  }
  for (const intent of store.intents()) {
    heap.agents.get(intent.agentId)?.intents.push(intent);
    heap.ordered.add(intent.agentId);
  }
  for (const entry of heap.agents.values()) indexAgent(heap, entry);
  return heap;
}

/** An agent that holds nothing yet. */
export function newEntry(row: AgentRow): AgentEntry {
  return { row, used: {}, held: 0, seenAtMs: undefined, intents: [] };
}

/** What an agent counts for: what it offers, at most what was approved. Before its first hello: what was approved. */
export function capacityOf(row: AgentRow): Slots {
  return row.offered === null ? clampSlots(row.approved, row.approved) : clampSlots(row.offered, row.approved);
}

/** True when new sessions may go to the agent. */
export function takesSessions(row: AgentRow): boolean {
  return row.state === 'active' && row.reachable && !row.draining && row.silentSinceMs === null;
}

/** True when somebody has to be told, soon, if the agent goes silent. */
export function isWatched({ row, held, intents }: AgentEntry): boolean {
  return row.reachable && (held > 0 || intents.length > 0 || row.silentSinceMs !== null);
}

/** Brings the placement index up to date with an agent. */
export function indexAgent(heap: Heap, entry: AgentEntry): void {
  const { row, used, held } = entry;
  if (takesSessions(row)) heap.placement.put(row.agentId, capacityOf(row), used, held);
  else heap.placement.remove(row.agentId);
}

/** A ledger's storage as a model in memory, for simulation and as the reference of the contract suite. */
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import type { AgentImages, AgentRow, IntentRow } from '../../../schema/ledger/agents.ts';
import type { Cursors, LedgerMeta, OutboxRow } from '../../../schema/ledger/book.ts';
import type { ReservationRow, SessionRow } from '../../../schema/ledger/sessions.ts';
import type { InventoryItem } from '../../../schema/protocol/messages.ts';
import { byText, copyOf, UndoMaps } from '../../platform/undo-map.ts';
import { changed, type LedgerStore, type PendingShape } from './ledger-store.ts';
import type { HistoryRow } from './rpc.ts';

export interface MemoryStore extends LedgerStore {
  /** The `writes`-th write from now throws instead of writing. */
  crashAfter(writes: number): void;
  /** Writes since birth. */
  writes(): number;
}

/** An empty store. */
export function memoryStore(): MemoryStore {
  const undo = new UndoMaps();
  return {
    transaction: (work) => undo.transaction(work),
    crashAfter: (writes) => undo.crashAfter(writes),
    writes: () => undo.writes(),
    ...bookPart(undo),
    ...sessionPart(undo),
    ...agentPart(undo),
  };
}

type Part<Name extends keyof LedgerStore> = Pick<LedgerStore, Name>;

function bookPart(
  undo: UndoMaps,
): Part<'meta' | 'putMeta' | 'cursors' | 'putCursors' | 'lastOutboxSeq' | 'appendOutbox' | 'outbox' | 'trimOutbox'> {
  const metas = new Map<string, LedgerMeta>();
  const cursors = new Map<string, Cursors>();
  const outbox = new Map<string, OutboxRow>();
  return {
    meta: () => copyOf(metas.get('1')),
    putMeta: (meta) => undo.set(metas, '1', copyOf(meta)),
    cursors: () => copyOf(cursors.get('1') ?? { readModel: 0, events: 0, admission: 0 }),
    putCursors: (value) => undo.set(cursors, '1', copyOf(value)),
    lastOutboxSeq: () => Math.max(0, ...[...outbox.values()].map((row) => row.seq)),
    appendOutbox: (seq, atMs, body) => undo.set(outbox, String(seq), copyOf({ seq, atMs, body })),
    outbox: (afterSeq, limit) =>
      [...outbox.values()]
        .filter((row) => row.seq > afterSeq)
        .sort((a, b) => a.seq - b.seq)
        .slice(0, limit)
        .map(copyOf),
    trimOutbox(uptoSeq) {
      for (const row of outbox.values()) if (row.seq <= uptoSeq) undo.set(outbox, String(row.seq), undefined);
    },
  };
}

function sessionPart(
  undo: UndoMaps,
): Part<
  | 'session'
  | 'insertSession'
  | 'updateSession'
  | 'deleteSession'
  | 'spec'
  | 'trail'
  | 'appendTrail'
  | 'sessionsAfter'
  | 'pendingShapes'
  | 'pending'
  | 'oldestPending'
  | 'pendingBefore'
  | 'moving'
  | 'over'
> {
  const sessions = new Map<string, SessionRow>();
  const specs = new Map<string, KernelSpec>();
  const trails = new Map<string, HistoryRow[]>();
  const waiting = () => [...sessions.values()].filter((row) => row.state === 'PENDING');
  return {
    session: (sessionId) => copyOf(sessions.get(sessionId)),
    insertSession(row, spec) {
      if (sessions.has(row.sessionId)) throw new Error(`session ${row.sessionId} exists`);
      undo.set(sessions, row.sessionId, copyOf(row));
      undo.set(specs, row.sessionId, copyOf(spec));
    },
    updateSession(before, after) {
      const diff = changed(before, after);
      const row = sessions.get(after.sessionId);
      if (diff && row) undo.set(sessions, after.sessionId, copyOf({ ...row, ...diff }));
    },
    deleteSession(sessionId) {
      for (const map of [sessions, specs, trails] as Map<string, unknown>[])
        if (map.has(sessionId)) undo.set(map, sessionId, undefined);
    },
    spec: (sessionId) => copyOf(specs.get(sessionId)),
    trail: (sessionId) => copyOf(trails.get(sessionId) ?? []),
    appendTrail(sessionId, rows) {
      if (rows.length > 0) undo.set(trails, sessionId, [...(trails.get(sessionId) ?? []), ...copyOf(rows)]);
    },
    sessionsAfter: (after, limit) =>
      [...sessions.keys()]
        .filter((id) => id > after)
        .sort(byText)
        .slice(0, limit),
    pendingShapes() {
      const shapes = new Map<string, PendingShape>();
      for (const { shape, sessionId } of waiting()) {
        const known = shapes.get(shape);
        if (!known) shapes.set(shape, { shape, count: 1, first: sessionId });
        else {
          known.count += 1;
          if (sessionId < known.first) known.first = sessionId;
        }
      }
      return [...shapes.values()].sort((a, b) => byText(a.shape, b.shape));
    },
    pending: (shape, limit, after = '') =>
      waiting()
        .filter((row) => row.shape === shape && row.sessionId > after)
        .map((row) => row.sessionId)
        .sort(byText)
        .slice(0, limit),
    oldestPending: () =>
      waiting()
        .map((row) => row.sessionId)
        .sort(byText)[0],
    pendingBefore: (sessionId) => waiting().filter((row) => row.sessionId < sessionId).length,
    moving: () =>
      [...sessions.values()]
        .filter((row) => row.moving === 1)
        .map(({ sessionId, deadlineMs }) => ({ sessionId, deadlineMs }))
        .sort((a, b) => byText(a.sessionId, b.sessionId)),
    over: ({ endedAtMs, endSeq }, limit) =>
      [...sessions.values()]
        .filter((row) => row.endedAtMs !== null && row.endedAtMs <= endedAtMs)
        .filter((row) => row.endSeq !== null && row.endSeq <= endSeq && row.holds.length === 0)
        .sort((a, b) => (a.endedAtMs ?? 0) - (b.endedAtMs ?? 0) || byText(a.sessionId, b.sessionId))
        .slice(0, limit)
        .map((row) => row.sessionId),
  };
}

function agentPart(
  undo: UndoMaps,
): Part<
  | 'reservationTotals'
  | 'reservations'
  | 'insertReservation'
  | 'deleteReservation'
  | 'agents'
  | 'insertAgent'
  | 'updateAgent'
  | 'putImages'
  | 'images'
  | 'intents'
  | 'insertIntent'
  | 'deleteIntent'
  | 'putOrphans'
  | 'orphans'
> {
  const reservations = new Map<string, ReservationRow>();
  const agents = new Map<string, AgentRow>();
  const images = new Map<string, AgentImages>();
  const orphans = new Map<string, InventoryItem[]>();
  const intents = new Map<string, IntentRow>();
  const sorted = <Value>(map: Map<string, Value>): Value[] =>
    [...map.entries()].sort(([a], [b]) => byText(a, b)).map(([, value]) => copyOf(value));
  const reservationKey = (agentId: string, sessionId: string, generation: number) =>
    `${agentId} ${sessionId} ${String(generation).padStart(10, '0')}`;
  return {
    reservationTotals() {
      const totals = new Map<string, { agentId: string; shape: string; count: number }>();
      for (const { agentId, shape } of reservations.values()) {
        const total = totals.get(`${agentId} ${shape}`) ?? { agentId, shape, count: 0 };
        totals.set(`${agentId} ${shape}`, { ...total, count: total.count + 1 });
      }
      return sorted(totals);
    },
    reservations: (agentId) => sorted(reservations).filter((row) => row.agentId === agentId),
    insertReservation: (row) =>
      undo.set(reservations, reservationKey(row.agentId, row.sessionId, row.generation), copyOf(row)),
    deleteReservation(agentId, sessionId, generation) {
      const key = reservationKey(agentId, sessionId, generation);
      if (reservations.has(key)) undo.set(reservations, key, undefined);
    },
    agents: () => sorted(agents),
    insertAgent: (row) => undo.set(agents, row.agentId, copyOf(row)),
    updateAgent(before, after) {
      const diff = changed(before, after);
      const row = agents.get(after.agentId);
      if (diff && row) undo.set(agents, after.agentId, copyOf({ ...row, ...diff }));
    },
    putImages: (agentId, value) => undo.set(images, agentId, copyOf(value)),
    images: () =>
      [...images.entries()]
        .sort(([a], [b]) => byText(a, b))
        .map(([agentId, value]) => ({ agentId, images: copyOf(value) })),
    putOrphans(agentId, items) {
      if (items.length > 0) undo.set(orphans, agentId, copyOf([...items]));
      else if (orphans.has(agentId)) undo.set(orphans, agentId, undefined);
    },
    orphans: () =>
      [...orphans.entries()]
        .sort(([a], [b]) => byText(a, b))
        .map(([agentId, items]) => ({ agentId, items: copyOf(items) })),
    intents: () => sorted(intents),
    insertIntent: (row) => undo.set(intents, `${row.agentId} ${row.intentId}`, copyOf(row)),
    deleteIntent(agentId, intentId) {
      const key = `${agentId} ${intentId}`;
      if (intents.has(key)) undo.set(intents, key, undefined);
    },
  };
}

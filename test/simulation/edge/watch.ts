/** Sees each commit of a ledger as it happens: rows that changed, for invariants that must hold after every one. */
import { copyOf } from '../../../edge/platform/undo-map.ts';
import type { AdmissionStore } from '../../../edge/manager/admission/admission-store.ts';
import { defaultLimits } from '../../../edge/manager/admission/admission.ts';
import type { LedgerStore } from '../../../edge/manager/scheduler/ledger-store.ts';
import type { AgentRow, IntentRow } from '../../../schema/ledger/agents.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';

export interface WatchLedger {
  /** After a commit that changed something. */
  committed(
    groupNumber: number,
    store: LedgerStore,
    changes: { before: SessionRow | undefined; after: SessionRow }[],
  ): void;
  /** A rule of admission was broken by a write. */
  violated(what: string): void;
  /** An agent's row is written. */
  agentMoved(before: AgentRow, after: AgentRow): void;
  /** After a commit: orders that it stored, and rows of agents. */
  kept(orders: readonly IntentRow[], agents: readonly AgentRow[]): void;
  /** A hub says something to an agent on its control socket. */
  hubSays(agentId: string, groupNumber: number, bytes: Uint8Array): void;
  /** A session that waited for quota goes on. */
  promoted(): void;
  /** Events that a commit put into the outbox. */
  announced(eventIds: readonly string[]): void;
}

/** The same store, watched. */
export function watchedLedgerStore<Store extends LedgerStore>(
  store: Store,
  groupNumber: number,
  watch: WatchLedger,
): Store {
  let changes: { before: SessionRow | undefined; after: SessionRow }[] = [];
  let announced: string[] = [];
  let orders: IntentRow[] = [];
  let agents: AgentRow[] = [];
  let wrote = false;
  const watched: Store = {
    ...store,
    transaction(work) {
      changes = [];
      announced = [];
      orders = [];
      agents = [];
      wrote = false;
      const result = store.transaction(work);
      watch.kept(orders, agents);
      if (wrote) watch.committed(groupNumber, store, changes);
      if (announced.length > 0) watch.announced(announced);
      return result;
    },
    insertSession(row, spec) {
      wrote = true;
      changes.push({ before: undefined, after: copyOf(row) });
      store.insertSession(row, spec);
    },
    updateSession(before, after) {
      wrote = true;
      changes.push({ before: copyOf(before), after: copyOf(after) });
      store.updateSession(before, after);
    },
    insertReservation(row) {
      wrote = true;
      store.insertReservation(row);
    },
    updateAgent(before, after) {
      wrote = true;
      watch.agentMoved(before, after);
      agents.push(copyOf(after));
      store.updateAgent(before, after);
    },
    insertIntent(row) {
      orders.push(row);
      store.insertIntent(row);
    },
    appendOutbox(seq, atMs, body) {
      announced.push(...body.events.map(({ eventId }) => eventId));
      store.appendOutbox(seq, atMs, body);
    },
  };
  return watched;
}

/** The same store, watched: [I8] nothing is let in over a limit. Limits may be lowered below what is in already. */
export function watchedAdmissionStore<Store extends AdmissionStore>(store: Store, watch: WatchLedger): Store {
  let announced: string[] = [];
  return {
    ...store,
    transaction(work) {
      announced = [];
      const result = store.transaction(work);
      watch.announced(announced);
      return result;
    },
    putUsage(usage) {
      const { projectId, live, waiting } = usage;
      const before = store.usage(projectId);
      const limits = store.limits(projectId) ?? store.limits('') ?? defaultLimits;
      const { liveSessions = Infinity, concurrentSessions = Infinity } = limits;
      if (live > before.live && live > liveSessions)
        watch.violated(`[I8] ${projectId} was let in as ${live} of at most ${liveSessions}`);
      if (live - waiting > before.live - before.waiting && live - waiting > concurrentSessions)
        watch.violated(`[I8] ${projectId} runs ${live - waiting} of at most ${concurrentSessions}`);
      if (live === before.live && waiting < before.waiting) watch.promoted();
      if (live < 0 || waiting < 0) watch.violated(`[I8] ${projectId} counts ${live} live, ${waiting} waiting`);
      store.putUsage(usage);
    },
    appendOutbox(atMs, events) {
      announced.push(...events.map(({ eventId }) => eventId));
      store.appendOutbox(atMs, events);
    },
  };
}

/** Sees each commit of a ledger as it happens: rows that changed, for invariants that must hold after every one. */
import { copyOf } from '../../../edge/platform/undo-map.ts';
import type { AdmissionStore } from '../../../edge/manager/admission/admission-store.ts';
import { defaultLimits } from '../../../edge/manager/admission/admission.ts';
import type { LedgerStore } from '../../../edge/manager/scheduler/ledger-store.ts';
import type { AgentRow } from '../../../schema/ledger/agents.ts';
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
  let wrote = false;
  const watched: Store = {
    ...store,
    transaction(work) {
      changes = [];
      announced = [];
      wrote = false;
      const result = store.transaction(work);
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
      store.updateAgent(before, after);
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
  return {
    ...store,
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
      watch.announced(events.map(({ eventId }) => eventId));
      store.appendOutbox(atMs, events);
    },
  };
}

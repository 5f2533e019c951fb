/**
 * One turn of a ledger: a transaction in which sessions and agents change, and what has to be said and sent afterwards is
 * collected. Rows are written once, at the end, whatever happened to them; every transition leaves its trace here.
 */
import { isTerminal, type SessionState } from '../../../schema/api/session-parts.ts';
import type { StateReason } from '../../../schema/api/session.ts';
import { newId } from '../../../schema/ids.ts';
import type { AgentRow, IntentRow } from '../../../schema/ledger/agents.ts';
import type { LedgerMeta, OutboxBody } from '../../../schema/ledger/book.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { Intent, KernelSpec } from '../../../schema/protocol/intents.ts';
import type { Clock, Log, Random } from '../../../schema/ports.ts';
import { type AgentEntry, type Heap, indexAgent } from './heap.ts';
import type { LedgerStore } from './ledger-store.ts';
import { deadlineAfterMs, type LifecycleEvent, next } from './lifecycle.ts';
import { addSlots, parseShape } from './slots.ts';
import type { LedgerTimers } from './timers.ts';

/** What must happen after the commit. All of it may be lost in a crash: the alarm makes it again. */
export type Effect =
  | { kind: 'intents'; controlHub: string; agentId: string; epoch: number; intents: Intent[] }
  /** Without a `controlHub`: only its data sockets are to be closed. */
  | { kind: 'fence'; controlHub?: string; agentId: string; epoch: number }
  | { kind: 'liveness'; controlHub: string; agentIds: string[] }
  | { kind: 'outbox' };

export interface LedgerPorts {
  store: LedgerStore;
  clock: Clock;
  random: Random;
  timers: LedgerTimers;
  log: Log;
  /** Where an agent's data sockets go, and the ticket that opens them. */
  dataHub(agentId: string): string;
  dataTicket(agentId: string, epoch: number, dataHub: string): string;
}

interface Draft {
  before: SessionRow | undefined;
  now: SessionRow;
  spec: KernelSpec | undefined;
}

/** More orders than a session gets within a second. */
const ordersPerIncarnation = 1024;

/** Transitions kept in a session's row; the older half moves out when there are more. */
const trailRows = 32;

/** A copy to compare with: of what columns hold only the trail is changed in place. */
function copyRow(row: SessionRow): SessionRow {
  return { ...row, trail: [...row.trail] };
}

export class Turn {
  readonly ports: LedgerPorts;
  readonly heap: Heap;
  readonly nowMs: number;
  readonly effects: Effect[] = [];
  /** Agents whose new intents go out at the end of the turn. */
  readonly toSend = new Set<string>();
  /** Sessions that may have changed. */
  readonly touched = new Set<string>();
  readonly #drafts = new Map<string, Draft>();
  readonly #agents = new Map<string, AgentRow>();
  readonly #outbox: OutboxBody = { events: [], readModel: [], releases: [] };
  readonly #seq: number;

  constructor(ports: LedgerPorts, heap: Heap) {
    this.ports = ports;
    this.heap = heap;
    this.nowMs = ports.clock.nowMs();
    this.#seq = heap.lastSeq + 1;
  }

  get store(): LedgerStore {
    return this.ports.store;
  }
  get timers(): LedgerTimers {
    return this.ports.timers;
  }
  /** The bound ledger. @throws Error before the first call that binds it. */
  get meta(): LedgerMeta {
    if (!this.heap.meta) throw new Error('this ledger has no group yet');
    return this.heap.meta;
  }
  putMeta(meta: LedgerMeta): void {
    this.heap.meta = meta;
    this.store.putMeta(meta);
  }

  /** The session's row, to be changed in place; or undefined. */
  session(sessionId: string): SessionRow | undefined {
    const draft = this.#drafts.get(sessionId);
    if (draft) return draft.now;
    const row = this.store.session(sessionId);
    if (!row) return undefined;
    this.#drafts.set(sessionId, { before: copyRow(row), now: row, spec: undefined });
    this.touched.add(sessionId);
    return row;
  }

  spec(sessionId: string): KernelSpec {
    const spec = this.#drafts.get(sessionId)?.spec ?? this.store.spec(sessionId);
    if (!spec) throw new Error(`the spec of ${sessionId} is gone`);
    return spec;
  }

  /** Adds a session that is PENDING. */
  insert(row: SessionRow, spec: KernelSpec): void {
    this.#drafts.set(row.sessionId, { before: undefined, now: row, spec });
    this.#countShape(row, 1);
  }

  /** Says that an agent's row is about to change. */
  touch(entry: AgentEntry): AgentRow {
    if (!this.#agents.has(entry.row.agentId)) this.#agents.set(entry.row.agentId, { ...entry.row });
    return entry.row;
  }

  /** Brings the index up to date; what waits is tried again when the agent may have more free than before. */
  reindex(entry: AgentEntry, more: boolean): void {
    indexAgent(this.heap, entry);
    if (!more) return;
    const { blocked, open, shapes, placement } = this.heap;
    for (const shape of blocked) {
      if (!placement.fits(entry.row.agentId, shapes.get(shape)?.slots ?? {})) continue;
      blocked.delete(shape);
      open.add(shape);
    }
  }

  /** Moves a session along the table. False, and nothing changed, when the event does not apply to its state. */
  move(row: SessionRow, event: LifecycleEvent, reason?: StateReason): boolean {
    const target = next(row, event);
    if (!target) return false;
    const { state: from } = row;
    if (from === 'PENDING') this.#countShape(row, -1);
    row.state = target.state;
    row.cameFrom = target.cameFrom;
    row.reason = reason ?? null;
    if (target.state === 'PENDING') {
      row.generation += 1;
      row.agentId = null;
      row.result = null;
      this.#countShape(row, 1);
    }
    this.setDeadline(row, deadlineAfterMs(target.state, this.timers));
    if (isTerminal(target.state)) this.#end(row);
    this.#record(row, from);
    return true;
  }

  /** Restarts the wait of a session's state. */
  setDeadline(row: SessionRow, afterMs: number | undefined): void {
    row.deadlineMs = afterMs === undefined ? null : this.nowMs + afterMs;
    row.moving = row.deadlineMs === null ? 0 : 1;
    if (row.deadlineMs === null) this.heap.moving.delete(row.sessionId);
    else {
      this.heap.moving.set(row.sessionId, row.deadlineMs);
      this.heap.nextDeadlineMs = Math.min(this.heap.nextDeadlineMs, row.deadlineMs);
    }
  }

  #end(row: SessionRow): void {
    row.endedAtMs = this.nowMs;
    row.endSeq = this.#seq;
    row.again = null;
    row.stop = null;
    this.heap.progress.delete(row.sessionId);
  }

  #countShape({ shape }: SessionRow, change: 1 | -1): void {
    const { shapes, open, blocked } = this.heap;
    const waiting = shapes.get(shape) ?? { count: 0, slots: parseShape(shape) };
    waiting.count += change;
    this.heap.pendingCount += change;
    if (waiting.count > 0) {
      shapes.set(shape, waiting);
      if (!blocked.has(shape)) open.add(shape);
    } else {
      shapes.delete(shape);
      open.delete(shape);
      blocked.delete(shape);
    }
  }

  /** Nothing of this shape fits: it is left alone until some agent has more free. */
  block(shape: string): void {
    this.heap.open.delete(shape);
    this.heap.blocked.add(shape);
  }

  /** Has the hub of an agent asked in time whether it is still there. */
  watch({ row }: AgentEntry): void {
    const { livenessEveryMs, silentMs } = this.timers;
    const atMs = row.silentSinceMs === null ? this.nowMs + livenessEveryMs : row.silentSinceMs + silentMs;
    this.heap.nextLivenessMs = Math.min(this.heap.nextLivenessMs, atMs);
  }

  /** History, event, and what the read model and admission have to learn of a transition. */
  #record(row: SessionRow, from: SessionState): void {
    row.version += 1;
    const { sessionId, state, generation, version, reason, agentId } = row;
    const shown = reason ?? undefined;
    row.trail.push({
      version,
      state,
      generation,
      atMs: this.nowMs,
      ...(shown ? { reason: shown } : {}),
      ...(agentId === null ? {} : { agentId }),
    });
    if (row.trail.length > trailRows) this.store.appendTrail(sessionId, row.trail.splice(0, trailRows / 2));
    this.tell(row, 'session.state');
    const listed = state === 'RUNNING' || state === 'UNREACHABLE' || from === 'UNREACHABLE' || isTerminal(state);
    // Lists show PENDING, RUNNING, UNREACHABLE and the end; short states in between are not worth rows of D1.
    if (listed || (state === 'PENDING' && from === 'TERMINATING')) this.list(row);
    if (isTerminal(state)) {
      const { domainId, domainNumber } = row;
      this.#outbox.releases.push({ domainId, domainNumber, sessionId, generation, version });
    }
  }

  /** Has the read model brought up to date with a session. */
  list({ sessionId }: SessionRow): void {
    if (!this.#outbox.readModel.includes(sessionId)) this.#outbox.readModel.push(sessionId);
  }

  /** Puts an event of a session into the outbox. */
  tell(row: SessionRow, type: 'session.created' | 'session.state'): void {
    const { state, generation, reason, agentId, result } = row;
    this.#outbox.events.push({
      eventId: newId('event', this.nowMs, this.ports.random.bytes(10)),
      type,
      domainId: row.domainId,
      projectId: row.projectId,
      objectId: row.sessionId,
      version: row.version,
      atMs: this.nowMs,
      data: {
        state,
        generation,
        ...(reason ? { reason } : {}),
        ...(agentId === null ? {} : { agentId }),
        ...(result ? { result } : {}),
      },
    });
  }

  /** Blocks the slots of a session on an agent. */
  reserve(entry: AgentEntry, row: SessionRow): void {
    const { agentId } = entry.row;
    const { sessionId, generation, shape } = row;
    this.store.insertReservation({ agentId, sessionId, generation, shape });
    row.holds = [...row.holds, { agentId, generation }];
    addSlots(entry.used, parseShape(shape), 1);
    entry.held += 1;
    this.watch(entry);
    this.reindex(entry, false);
  }

  /** Gives the slots of one placement back. Does nothing when they are free already. */
  release(agentId: string, row: SessionRow, generation: number): void {
    const held = row.holds.some((hold) => hold.agentId === agentId && hold.generation === generation);
    if (!held) return;
    this.store.deleteReservation(agentId, row.sessionId, generation);
    row.holds = row.holds.filter((hold) => hold.agentId !== agentId || hold.generation !== generation);
    const entry = this.heap.agents.get(agentId);
    if (!entry) return;
    addSlots(entry.used, parseShape(row.shape), -1);
    entry.held -= 1;
    this.reindex(entry, true);
  }

  /** Orders something of an agent; it is sent when the turn is committed. */
  order(entry: AgentEntry, row: SessionRow, generation: number, order: IntentRow['order']): void {
    row.seq = Math.max(row.seq, this.#leastSeq(row));
    this.#issue(entry, { sessionId: row.sessionId, generation, seq: row.seq, order });
    row.seq += 1;
  }

  #issue(entry: AgentEntry, what: Pick<IntentRow, 'sessionId' | 'generation' | 'seq' | 'order'>): void {
    const { agentId } = entry.row;
    const intent: IntentRow = { agentId, intentId: this.#intentId(), ...what, createdAtMs: this.nowMs };
    this.store.insertIntent(intent);
    entry.intents.push(intent);
    this.heap.sendings.set(intent.intentId, { atMs: 0, inFlight: 0, reached: false });
    this.heap.ordered.add(intent.agentId);
    this.toSend.add(intent.agentId);
    this.watch(entry);
  }

  /** Orders the removal of what an agent holds of a session that is not here. */
  orderRemoval(entry: AgentEntry, { sessionId, generation }: { sessionId: string; generation: number }): void {
    const seq = this.meta.incarnation * ordersPerIncarnation;
    this.#issue(entry, { sessionId, generation, seq, order: { kind: 'remove' } });
  }

  /** An agent takes no order behind one that it knows: what a restored ledger orders goes above all that it forgot. */
  #leastSeq({ createdAtMs }: SessionRow): number {
    const { restoredAtMs, incarnation } = this.meta;
    return restoredAtMs === null || createdAtMs > restoredAtMs ? 0 : incarnation * ordersPerIncarnation;
  }

  /** Ids of intents sort by issue: the counter stands before the random part. */
  #intentId(): string {
    const bytes = this.ports.random.bytes(10);
    this.heap.intentCounter += 1;
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, this.heap.intentCounter);
    return newId('intent', this.nowMs, bytes);
  }

  /** Takes intents off the list: acknowledged, or pointless. */
  dropIntents(entry: AgentEntry, isDropped: (intent: IntentRow) => boolean): void {
    const kept: IntentRow[] = [];
    for (const intent of entry.intents) {
      if (!isDropped(intent)) {
        kept.push(intent);
        continue;
      }
      this.store.deleteIntent(intent.agentId, intent.intentId);
      this.heap.sendings.delete(intent.intentId);
    }
    entry.intents = kept;
    if (kept.length === 0) this.heap.ordered.delete(entry.row.agentId);
  }

  /** Forgets a session that ended. */
  forget(row: SessionRow): void {
    this.#drafts.delete(row.sessionId);
    this.store.deleteSession(row.sessionId);
  }

  /** Writes sessions that changed. What is read by an index afterwards is up to date. */
  flush(): void {
    for (const draft of this.#drafts.values()) {
      if (draft.before) this.store.updateSession(draft.before, draft.now);
      else this.store.insertSession(draft.now, this.#specOf(draft));
      draft.before = copyRow(draft.now);
    }
  }

  #specOf(draft: Draft): KernelSpec {
    if (!draft.spec) throw new Error('a new session needs a spec');
    return draft.spec;
  }

  /** Writes everything that changed, and the row of the outbox. */
  close(): void {
    this.flush();
    for (const [agentId, before] of this.#agents) {
      const entry = this.heap.agents.get(agentId);
      if (entry) this.store.updateAgent(before, entry.row);
    }
    const { events, readModel, releases } = this.#outbox;
    if (events.length + readModel.length + releases.length === 0) return;
    this.store.appendOutbox(this.#seq, this.nowMs, this.#outbox);
    this.heap.lastSeq = this.#seq;
    this.effects.push({ kind: 'outbox' });
  }
}

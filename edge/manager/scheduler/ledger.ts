/**
 * A ledger: the single writer of one resource group. Each method is one turn: a transaction, then effects for its shell to
 * carry out. It never waits for anybody to decide; what others answer comes back as another turn. Takes ports, so that a
 * simulator runs this very code. Must never: hold accounts, talk to an agent, read a clock of its own.
 */
import type { AgentImages } from '../../../schema/ledger/agents.ts';
import type { SessionRow as ListedRow } from '../../../schema/db/sessions.ts';
import type { OutboxRow } from '../../../schema/ledger/book.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { ToEdgeHello } from '../../../schema/protocol/messages.ts';
import type { AgentLiveness } from '../../tunnel/rpc.ts';
import { applyEvent } from './agent-events.ts';
import { newIncarnation } from './attach.ts';
import {
  attach,
  doubt,
  fenced,
  hasSettled,
  intentsBehindWelcome,
  loseAgent,
  putAgent,
  seen,
  takeBack,
} from './contact.ts';
import { dispatch } from './dispatch.ts';
import { type AgentEntry, type Heap, loadHeap } from './heap.ts';
import { LedgerView } from './ledger-view.ts';
import { admit, type StopOrder, terminate } from './orders.ts';
import type { AdmitAnswer, AdmittedSession, AttachAnswer, EnrolledAgent } from './rpc.ts';
import { believe, endOrphan } from './recovery.ts';
import { nextAlarmMs, sendIntents, sweep } from './sweep.ts';
import { type Effect, type LedgerPorts, Turn } from './turn.ts';

/** What a turn leaves to its shell. `alarmMs`: when `alarm` has to be called at the latest. */
export interface Aftermath {
  effects: Effect[];
  alarmMs: number | undefined;
  /** Sessions that may have changed. */
  touched: ReadonlySet<string>;
}

export class Ledger {
  /** What it shows of itself. */
  readonly view: LedgerView;
  readonly #ports: LedgerPorts;
  readonly #after: (aftermath: Aftermath) => void;
  #heap: Heap | undefined;

  /** `after` is called once a turn, inside its transaction's event and before its result is known to anybody. */
  constructor(ports: LedgerPorts, after: (aftermath: Aftermath) => void) {
    this.#ports = ports;
    this.#after = after;
    this.view = new LedgerView(ports, () => this.#loaded());
  }

  /** Runs `work` as one transaction. When it fails nothing happened, and memory is read again. */
  #turn<Result>(work: (turn: Turn) => Result): Result {
    const { store } = this.#ports;
    const heap = this.#loaded();
    const turn = new Turn(this.#ports, heap);
    try {
      const result = store.transaction(() => {
        const answer = work(turn);
        dispatch(turn);
        sendIntents(turn);
        turn.close();
        return answer;
      });
      this.view.forget(turn.touched);
      this.#after({ effects: turn.effects, alarmMs: nextAlarmMs(turn), touched: turn.touched });
      return result;
    } catch (error) {
      this.#heap = undefined;
      this.view.forget();
      throw error;
    }
  }

  #loaded(): Heap {
    this.#heap ??= loadHeap(this.#ports.store);
    return this.#heap;
  }

  /** Binds the ledger to its group at the first call, and refuses another for ever. */
  #bind(turn: Turn, groupNumber: number): void {
    const { meta } = turn.heap;
    if (meta?.groupNumber === groupNumber) return;
    if (meta) throw new Error(`this ledger belongs to group ${meta.groupNumber}, not ${groupNumber}`);
    turn.putMeta({
      groupNumber,
      incarnation: Math.floor(turn.nowMs / 1000),
      epochCounter: 0,
      snapshotAtMs: null,
      restoredAtMs: null,
      closing: false,
    });
  }

  /** Takes sessions of admission. One answer a row; a refused row never fails its neighbours. */
  admit(groupNumber: number, sessions: readonly AdmittedSession[]): AdmitAnswer[] {
    return this.#turn((turn) => {
      this.#bind(turn, groupNumber);
      return sessions.map((session) => admit(turn, session));
    });
  }

  terminate(sessionId: string, order: StopOrder): 'accepted' | 'ended' | 'unknown' {
    return this.#turn((turn) => terminate(turn, sessionId, order));
  }

  setClosing(groupNumber: number, closing: boolean): { empty: boolean } {
    return this.#turn((turn) => {
      this.#bind(turn, groupNumber);
      if (turn.meta.closing !== closing) turn.putMeta({ ...turn.meta, closing });
      const held = [...turn.heap.agents.values()].some((entry) => entry.held > 0);
      return { empty: turn.heap.shapes.size === 0 && !held };
    });
  }

  restored(groupNumber: number, snapshotAtMs: number): void {
    this.#turn((turn) => {
      this.#bind(turn, groupNumber);
      turn.putMeta(newIncarnation(turn.meta, turn.nowMs, snapshotAtMs));
      for (const entry of turn.heap.agents.values()) loseAgent(turn, entry, 'the ledger was restored');
    });
  }

  isBound(): boolean {
    return this.#loaded().meta !== undefined;
  }

  relist(sessionIds: readonly string[]): void {
    this.#turn((turn) => {
      for (const sessionId of sessionIds) {
        const row = turn.session(sessionId);
        if (row) turn.list(row);
      }
    });
  }

  believe(rows: readonly ListedRow[]): ('believed' | 'known' | 'forgotten')[] {
    return this.#turn((turn) => rows.map((row) => believe(turn, row)));
  }

  endOrphan(sessionId: string): boolean {
    return this.#turn((turn) => endOrphan(turn, sessionId));
  }

  putAgent(groupNumber: number, agent: EnrolledAgent): void {
    // Its name is shown with its sessions.
    this.view.forget();
    this.#turn((turn) => {
      this.#bind(turn, groupNumber);
      putAgent(turn, agent);
    });
  }

  attach(agentId: string, controlHub: string, hello: ToEdgeHello, openedAtMs: number): AttachAnswer {
    return this.#turn((turn) => {
      if (!turn.heap.meta) return { accepted: false, code: 'agent_not_found', detail: 'This group has no agents.' };
      const answer = attach(turn, agentId, controlHub, hello, openedAtMs);
      if (!answer.accepted) return answer;
      dispatch(turn);
      return { ...answer, intents: intentsBehindWelcome(turn, agentId) };
    });
  }

  events(
    agentId: string,
    epoch: number,
    journalId: string,
    events: readonly { index: number; event: AgentEvent }[],
  ): { ackedIndex: number } | 'stale' {
    return this.#turn((turn) => {
      const entry = current(turn.heap, agentId, epoch);
      if (!entry || entry.row.journalId !== journalId) return 'stale';
      const row = turn.touch(entry);
      for (const { index, event } of events) {
        if (index <= row.ackedIndex) continue;
        // A hole: the agent sends again from what is acknowledged.
        if (index !== row.ackedIndex + 1) break;
        row.ackedIndex = index;
        applyEvent(turn, entry, event);
      }
      return { ackedIndex: row.ackedIndex };
    });
  }

  intentsAcked(agentId: string, epoch: number, intentIds: readonly string[]): void {
    this.#turn((turn) => {
      const entry = current(turn.heap, agentId, epoch);
      if (!entry) return;
      const acked = new Set(intentIds);
      for (const intent of entry.intents) {
        if (!acked.has(intent.intentId) || intent.order.kind !== 'create') continue;
        const session = turn.session(intent.sessionId);
        if (session && session.generation === intent.generation) turn.move(session, 'journal');
      }
      turn.dropIntents(entry, ({ intentId }) => acked.has(intentId));
    });
  }

  /** What became of intents that were handed to a hub. `unknown`: the call failed, the agent may have them. */
  sent(agentId: string, epoch: number, intentIds: readonly string[], outcome: 'sent' | 'not_sent' | 'unknown'): void {
    const { sendings } = this.#loaded();
    for (const intentId of intentIds) {
      const sending = sendings.get(intentId);
      if (!sending) continue;
      sending.inFlight = Math.max(0, sending.inFlight - 1);
      sending.reached ||= outcome !== 'not_sent';
    }
    if (outcome !== 'not_sent') return;
    this.#turn((turn) => {
      const entry = current(turn.heap, agentId, epoch);
      if (!entry || !hasSettled(turn, entry)) return;
      doubt(turn, entry);
      const asked = new Set(intentIds);
      for (const intent of entry.intents.filter(({ intentId }) => asked.has(intentId))) {
        const session = intent.order.kind === 'create' ? turn.session(intent.sessionId) : undefined;
        if (session?.generation === intent.generation) takeBack(turn, entry, session, 'its agent could not be reached');
      }
    });
  }

  /** Live progress, kept in memory only. A pull that goes on is not overdue. */
  progress(
    agentId: string,
    epoch: number,
    progress: {
      sessionId: string;
      generation: number;
      phase: string;
      detail: string;
      doneBytes?: number;
      totalBytes?: number;
    },
  ): void {
    const heap = this.#loaded();
    if (!current(heap, agentId, epoch)) return;
    const { sessionId, generation, ...shown } = progress;
    const row = this.#ports.store.session(sessionId);
    if (!row || row.agentId !== agentId || row.generation !== generation || row.endedAtMs !== null) return;
    heap.progress.set(sessionId, shown);
    this.view.forget([sessionId]);
    const { pullingMs } = this.#ports.timers;
    const nowMs = this.#ports.clock.nowMs();
    const isLate = row.deadlineMs !== null && row.deadlineMs - nowMs < pullingMs / 2;
    if (row.state === 'PULLING' && isLate)
      this.#turn((turn) => {
        const session = turn.session(sessionId);
        if (session) turn.setDeadline(session, pullingMs);
      });
  }

  agentImages(agentId: string, epoch: number, images: AgentImages): void {
    this.#turn((turn) => {
      if (current(turn.heap, agentId, epoch)) turn.store.putImages(agentId, images);
    });
  }

  /** A hub's hint that a socket closed. The ledger asks for itself before it decides. */
  detached(agentId: string, epoch: number): void {
    this.#turn((turn) => {
      const entry = current(turn.heap, agentId, epoch);
      if (entry && entry.row.silentSinceMs === null) doubt(turn, entry);
    });
  }

  fenced(agentId: string, epoch: number): void {
    // Nobody waits for the sockets that a newer connection closes.
    if (!this.#loaded().fencing.has(agentId)) return;
    this.#turn((turn) => fenced(turn, agentId, epoch));
  }

  seen(agentIds: readonly string[], sockets: Record<string, AgentLiveness>): void {
    this.#turn((turn) => seen(turn, agentIds, sockets));
  }

  /** Everything that is due by the clock. */
  alarm(): void {
    this.#turn(sweep);
  }

  /** Rows of the outbox that a sink has not got, oldest first. */
  undelivered(sink: keyof Heap['cursors'], limit: number): OutboxRow[] {
    return this.#ports.store.outbox(this.#loaded().cursors[sink], limit);
  }

  /** `seq` of the newest row of the outbox. */
  lastOutboxSeq(): number {
    return this.#loaded().lastSeq;
  }

  /** Sinks have everything up to these rows. Rows that all have are dropped. */
  delivered(done: Partial<Heap['cursors']>): void {
    this.#turn((turn) => {
      const { cursors } = turn.heap;
      const before = { ...cursors };
      for (const sink of ['readModel', 'events', 'admission'] as const)
        cursors[sink] = Math.max(cursors[sink], done[sink] ?? 0);
      if (JSON.stringify(before) === JSON.stringify(cursors)) return;
      turn.store.putCursors(cursors);
      turn.store.trimOutbox(Math.min(cursors.readModel, cursors.events, cursors.admission));
    });
  }
}

/** The agent, when `epoch` is that of its present connection. */
function current(heap: Heap, agentId: string, epoch: number): AgentEntry | undefined {
  const entry = heap.agents.get(agentId);
  return entry && entry.row.epoch === epoch && entry.row.reachable ? entry : undefined;
}

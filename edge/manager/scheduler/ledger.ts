/**
 * A ledger: the single writer of one resource group. Each method is one turn: a transaction, then effects for its shell to
 * carry out. It never waits for anybody to decide; what others answer comes back as another turn. Takes ports, so that a
 * simulator runs this very code. Must never: hold accounts, talk to an agent, read a clock of its own.
 */
import type { AgentImages } from '../../../schema/ledger/agents.ts';
import type { SessionRow as ListedRow } from '../../../schema/db/sessions.ts';
import type { OutboxRow } from '../../../schema/ledger/book.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { ToEdgeHello } from '../../../schema/protocol/messages.ts';
import type { AgentLiveness } from '../../tunnel/rpc.ts';
import { toText } from '../sessions/view.ts';
import { applyEvent } from './agent-events.ts';
import { toLedgerAgent, toLedgerSession } from './answers.ts';
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
import { type AgentEntry, capacityOf, type Heap, loadHeap, takesSessions } from './heap.ts';
import { admit, type StopOrder, terminate } from './orders.ts';
import type {
  AdmitAnswer,
  AdmittedSession,
  AttachAnswer,
  EnrolledAgent,
  GroupShape,
  HistoryRow,
  KnownSession,
  LedgerAgent,
  LedgerStats,
  OrphanedSession,
  LedgerSession,
  Route,
  ShownSession,
} from './rpc.ts';
import { believe, endOrphan, knownSessions } from './recovery.ts';
import { ShownSessions } from './shown-sessions.ts';
import { parseShape } from './slots.ts';
import { nextAlarmMs, sendIntents, sweep } from './sweep.ts';
import { type Effect, type LedgerPorts, Turn } from './turn.ts';
import { whyPending } from './why.ts';
import type { SessionState } from '../../../schema/api/session-parts.ts';

/** What a turn leaves to its shell. `alarmMs`: when `alarm` has to be called at the latest. */
export interface Aftermath {
  effects: Effect[];
  alarmMs: number | undefined;
  /** Sessions that may have changed. */
  touched: ReadonlySet<string>;
}

export class Ledger {
  readonly #ports: LedgerPorts;
  readonly #after: (aftermath: Aftermath) => void;
  #heap: Heap | undefined;
  readonly #shown = new ShownSessions();

  /** `after` is called once a turn, inside its transaction's event and before its result is known to anybody. */
  constructor(ports: LedgerPorts, after: (aftermath: Aftermath) => void) {
    this.#ports = ports;
    this.#after = after;
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
      this.#shown.forget(turn.touched);
      this.#after({ effects: turn.effects, alarmMs: nextAlarmMs(turn), touched: turn.touched });
      return result;
    } catch (error) {
      this.#heap = undefined;
      this.#shown.clear();
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

  known(after: string, limit: number): KnownSession[] {
    return knownSessions(this.#ports.store, after, limit);
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

  /** What agents hold of sessions that this ledger does not know, by agent. */
  orphans(): OrphanedSession[] {
    const { agents } = this.#loaded();
    return this.#ports.store
      .orphans()
      .flatMap(({ agentId, items }) =>
        items
          .filter(({ sessionId }) => this.#ports.store.session(sessionId) === undefined)
          .map((item) => ({ agentId, agentName: agents.get(agentId)?.row.name ?? agentId, ...item })),
      );
  }

  endOrphan(sessionId: string): boolean {
    return this.#turn((turn) => endOrphan(turn, sessionId));
  }

  putAgent(groupNumber: number, agent: EnrolledAgent): void {
    // Its name is shown with its sessions.
    this.#shown.clear();
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
    this.#shown.forget([sessionId]);
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

  get(sessionId: string): LedgerSession | undefined {
    const row = this.#ports.store.session(sessionId);
    return row ? this.#toSession(row) : undefined;
  }

  /** The state of a session alone. */
  stateOf(sessionId: string): SessionState | undefined {
    return this.#ports.store.session(sessionId)?.state;
  }

  /** True when a session is over and no list shall show it. */
  isPurged(sessionId: string): boolean {
    const row = this.#ports.store.session(sessionId);
    return row !== undefined && row.purge && row.endedAtMs !== null;
  }

  history(sessionId: string): HistoryRow[] | undefined {
    const { store } = this.#ports;
    const row = store.session(sessionId);
    return row ? [...store.trail(sessionId), ...row.trail] : undefined;
  }

  /** {@link get} as the API shows it. */
  show(sessionId: string): ShownSession | undefined {
    const kept = this.#shown.find(sessionId);
    if (kept) return kept;
    const session = this.get(sessionId);
    if (!session) return undefined;
    const { domainId, projectId, version, state, progress } = session;
    const shown = { domainId, projectId, version, text: toText(session) };
    if (state !== 'PENDING' && !progress) this.#shown.keep(sessionId, shown);
    return shown;
  }

  #toSession(row: SessionRow): LedgerSession {
    const spec = this.#ports.store.spec(row.sessionId);
    if (!spec) throw new Error(`the spec of ${row.sessionId} is gone`);
    const { agents, progress } = this.#loaded();
    return toLedgerSession(row, {
      spec,
      agentName: row.agentId === null ? undefined : agents.get(row.agentId)?.row.name,
      why: row.state === 'PENDING' ? this.#why(row) : undefined,
      progress: progress.get(row.sessionId),
    });
  }

  #why(row: SessionRow) {
    const { agents, placement } = this.#loaded();
    const views = [...agents.values()].map((entry) => ({
      name: entry.row.name,
      total: capacityOf(entry.row),
      free: placement.free(entry.row.agentId),
      closed: closedBy(entry),
    }));
    return whyPending(parseShape(row.shape), views, this.#ports.store.pendingBefore(row.sessionId));
  }

  route(sessionId: string): Route | undefined {
    const row = this.#ports.store.session(sessionId);
    if (!row) return undefined;
    const { projectId, ownerId, state, generation } = row;
    const agent = row.agentId === null ? undefined : this.#loaded().agents.get(row.agentId)?.row;
    const base = { sessionId, projectId, ownerId, state, generation };
    if (!agent || agent.epoch === null) return base;
    const { agentId, epoch, controlHub, reachable } = agent;
    const dataHub = this.#ports.dataHub(agentId);
    const dataTicket = this.#ports.dataTicket(agentId, epoch, dataHub);
    return { ...base, agent: { agentId, epoch, controlHub, dataHub, dataTicket, reachable } };
  }

  shape(): GroupShape {
    const agents = [...this.#loaded().agents.values()].filter(({ row }) => row.state === 'active');
    return { agents: agents.length, totals: agents.map(({ row }) => capacityOf(row)) };
  }

  stats(): LedgerStats {
    const { agents, pendingCount, lastSeq, cursors } = this.#loaded();
    const entries = [...agents.values()];
    return {
      pending: pendingCount,
      placed: entries.reduce((sum, { held }) => sum + held, 0),
      intents: entries.reduce((sum, { intents }) => sum + intents.length, 0),
      outbox: {
        readModel: lastSeq - cursors.readModel,
        events: lastSeq - cursors.events,
        admission: lastSeq - cursors.admission,
      },
    };
  }

  agents(): LedgerAgent[] {
    return [...this.#loaded().agents.values()].map(toLedgerAgent);
  }

  /** Of the agents that are connected. */
  images(): { agentId: string; agentName: string; images: AgentImages }[] {
    const { agents } = this.#loaded();
    return this.#ports.store
      .images()
      .filter(({ agentId }) => agents.get(agentId)?.row.reachable === true)
      .map(({ agentId, images }) => ({ agentId, agentName: agents.get(agentId)?.row.name ?? agentId, images }));
  }
}

/** The agent, when `epoch` is that of its present connection. */
function current(heap: Heap, agentId: string, epoch: number): AgentEntry | undefined {
  const entry = heap.agents.get(agentId);
  return entry && entry.row.epoch === epoch && entry.row.reachable ? entry : undefined;
}

function closedBy({ row }: AgentEntry): 'unreachable' | 'draining' | 'inactive' | undefined {
  if (takesSessions(row)) return undefined;
  if (row.state !== 'active') return 'inactive';
  return row.draining && row.reachable ? 'draining' : 'unreachable';
}

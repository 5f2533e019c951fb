/**
 * What a ledger shows of what it holds: sessions and where they run, its agents, figures. It only reads; each answer is of
 * one moment. Must never change what it reads.
 */
import type { AgentImages } from '../../../schema/ledger/agents.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { SessionState } from '../../../schema/api/session-parts.ts';
import { toText } from '../sessions/view.ts';
import { toLedgerAgent, toLedgerSession } from './answers.ts';
import { type AgentEntry, capacityOf, type Heap, takesSessions } from './heap.ts';
import { knownSessions } from './recovery.ts';
import type {
  GroupShape,
  HistoryRow,
  KnownSession,
  LedgerAgent,
  LedgerSession,
  LedgerStats,
  OrphanedSession,
  Route,
  ShownSession,
} from './rpc.ts';
import { ShownSessions } from './shown-sessions.ts';
import { parseShape } from './slots.ts';
import type { LedgerPorts } from './turn.ts';
import { whyPending } from './why.ts';

export class LedgerView {
  readonly #ports: Pick<LedgerPorts, 'store' | 'dataHub' | 'dataTicket'>;
  readonly #loaded: () => Heap;
  readonly #shown = new ShownSessions();

  /** `loaded`: what the ledger has in memory now. */
  constructor(ports: Pick<LedgerPorts, 'store' | 'dataHub' | 'dataTicket'>, loaded: () => Heap) {
    this.#ports = ports;
    this.#loaded = loaded;
  }

  /** These sessions are shown anew; all of them where none are named. */
  forget(sessionIds?: Iterable<string>): void {
    if (sessionIds) this.#shown.forget(sessionIds);
    else this.#shown.clear();
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
    return row !== undefined && isGone(row);
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
    const base = { sessionId, projectId, ownerId, state, generation, isPurged: isGone(row) };
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

  carries(agentId: string, epoch: number): boolean {
    const row = this.#loaded().agents.get(agentId)?.row;
    return row !== undefined && row.state === 'active' && row.reachable && row.epoch === epoch;
  }

  /** Of the agents that are connected. */
  images(): { agentId: string; agentName: string; images: AgentImages }[] {
    const { agents } = this.#loaded();
    return this.#ports.store
      .images()
      .filter(({ agentId }) => agents.get(agentId)?.row.reachable === true)
      .map(({ agentId, images }) => ({ agentId, agentName: agents.get(agentId)?.row.name ?? agentId, images }));
  }

  known(after: string, limit: number): KnownSession[] {
    return knownSessions(this.#ports.store, after, limit);
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
}

function closedBy({ row }: AgentEntry): 'unreachable' | 'draining' | 'inactive' | undefined {
  if (takesSessions(row)) return undefined;
  if (row.state !== 'active') return 'inactive';
  return row.draining && row.reachable ? 'draining' : 'unreachable';
}

/** It is over and was purged: no list shows it, and nothing of it is kept. */
function isGone({ purge, endedAtMs }: SessionRow): boolean {
  return purge && endedAtMs !== null;
}

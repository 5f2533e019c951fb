/**
 * What the rest of the edge asks of a ledger: the single writer of one resource group. Every method is idempotent.
 */
import type { SessionHistory, StateReason } from '../../../schema/api/session.ts';
import type { AgentImages } from '../../../schema/ledger/agents.ts';
import type { Cursors } from '../../../schema/ledger/book.ts';
import type { SessionState } from '../../../schema/api/session-parts.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { Intent, KernelSpec } from '../../../schema/protocol/intents.ts';
import type { SessionRow as ListedRow } from '../../../schema/db/sessions.ts';
import type { InventoryAnswer, InventoryItem, Slots, ToEdgeHello } from '../../../schema/protocol/messages.ts';

/** A session as admission hands it over. */
export interface AdmittedSession {
  sessionId: string;
  domainId: string;
  domainNumber: number;
  projectId: string;
  ownerId: string;
  createdAtMs: number;
  /** Transitions until now, at least the first PENDING; the ledger continues counting behind the last. */
  trail: HistoryRow[];
  /** `spec.leaseMs` makes it restartable. */
  spec: KernelSpec;
}
export type AdmitAnswer = 'accepted' | 'full' | 'closed';

/** What a ledger knows of a session right now. */
export interface LedgerSession {
  sessionId: string;
  domainId: string;
  projectId: string;
  ownerId: string;
  state: SessionState;
  reason?: StateReason;
  generation: number;
  version: number;
  agentId?: string;
  agentName?: string;
  imageDigest?: string;
  progress?: { phase: string; detail: string; doneBytes?: number; totalBytes?: number };
  result?: { exitCode?: number; signal?: string; reason: string };
  createdAtMs: number;
  startedAtMs?: number;
  endedAtMs?: number;
  spec: KernelSpec;
}

/** What the API shows of a session, and whose it is: whoever asks decides by that who may see it. */
export interface ShownSession {
  domainId: string;
  projectId: string;
  version: number;
  /** JSON of a `Session` of `schema/api/session.ts`, without `resourceGroup`: the name of a group is not a ledger's. */
  text: string;
}

/** One transition. Versions of a session are contiguous from 1. */
export type HistoryRow = SessionHistory['items'][number];

/** Where a session's streams go. */
export interface Route {
  sessionId: string;
  projectId: string;
  ownerId: string;
  state: SessionState;
  generation: number;
  /** It is over, and nothing of it is to be had any more. */
  isPurged: boolean;
  /** Absent until the session was placed once. */
  agent?: {
    agentId: string;
    epoch: number;
    controlHub: string;
    dataHub: string;
    dataTicket: string;
    reachable: boolean;
  };
}

/** An agent as the agents slice enrols it. */
export interface EnrolledAgent {
  agentId: string;
  name: string;
  controlHub: string;
  /** Approved slots; what it offers above this does not count. */
  approved: Slots;
  state: 'pending' | 'active' | 'suspended' | 'revoked';
  draining: boolean;
  /** Raised by each approval. A ledger that suspended the agent stays with it until a higher one comes. */
  approval: number;
}

export interface LedgerAgent extends EnrolledAgent {
  offered: Slots;
  reserved: Slots;
  sessions: number;
  epoch?: number;
  reachable: boolean;
  /** Of its last hello. */
  agentVersion?: string;
  connectedAtMs?: number;
  lastSeenAtMs?: number;
  reason?: string;
}

export type AttachAnswer =
  | {
      accepted: true;
      epoch: number;
      dataTicket: string;
      dataHub: string;
      ackedIndex: number;
      answer: InventoryAnswer;
      /** What the agent has not acknowledged, to be sent right behind `welcome`. At most 500; the rest follows. */
      intents: Intent[];
    }
  | { accepted: false; code: string; detail: string; retryAfterMs?: number };

/** A session that a ledger holds, as those that keep copies of it have to know it. */
export interface KnownSession {
  sessionId: string;
  domainId: string;
  domainNumber: number;
  projectId: string;
  ownerId: string;
  name: string;
  createdAtMs: number;
  version: number;
  isOver: boolean;
  /** False: it was taken off the lists. */
  isListed: boolean;
}

/** What an agent holds of a session that its ledger does not know: a restore has forgotten it. */
export interface OrphanedSession extends InventoryItem {
  agentId: string;
  agentName: string;
}

/** Largest free and total capacity of the group, for "more than any agent has". */
export interface GroupShape {
  agents: number;
  /** Per agent: approved (clamped) slots. At most 5,000. */
  totals: Slots[];
}

/** What a ledger holds now, in numbers, from its memory alone. */
export interface LedgerStats {
  /** Sessions that wait for room, and that hold a reservation. */
  pending: number;
  placed: number;
  /** Intents that their agents have not acknowledged. */
  intents: number;
  /** Rows of the outbox that each sink has yet to take. */
  outbox: Cursors;
}

export interface LedgerRpc {
  /** Binds to `groupNumber` at the first call and refuses another for ever. */
  admit(groupNumber: number, sessions: AdmittedSession[]): Promise<AdmitAnswer[]>;
  get(sessionId: string): Promise<LedgerSession | undefined>;
  /**
   * Resolves with true when its state is none of these (any more), with false when that was not so within `withinMs` (at most
   * 10 s), it is not here, or too many wait already.
   */
  left(sessionId: string, states: readonly SessionState[], withinMs: number): Promise<boolean>;
  show(sessionId: string): Promise<ShownSession | undefined>;
  history(sessionId: string): Promise<HistoryRow[] | undefined>;
  route(sessionId: string): Promise<Route | undefined>;
  /** `unknown`: not (or no longer) in this ledger. */
  terminate(
    sessionId: string,
    order: { graceMs: number; force: boolean; reason: string; purge?: boolean },
  ): Promise<'accepted' | 'ended' | 'unknown'>;
  shape(): Promise<GroupShape>;
  stats(): Promise<LedgerStats>;
  /** A closing group takes no more sessions; `empty` when none is left that lives or is unconfirmed. */
  setClosing(groupNumber: number, closing: boolean): Promise<{ empty: boolean }>;
  /** After its storage was put back to an older state: a new incarnation, in which agents may know more than it does. */
  restored(groupNumber: number, snapshotAtMs: number): Promise<void>;

  /** False while it was never given anything: new, or its storage was lost. */
  isBound(): Promise<boolean>;
  /** Sessions behind `after`, by id, ended ones too. At most 500. */
  known(after: string, limit: number): Promise<KnownSession[]>;
  /** Has the read model told anew of these sessions. */
  relist(sessionIds: string[]): Promise<void>;
  /**
   * Rows of the read model that are newer than what the ledger has: they are believed. One answer a row; `forgotten`: it was
   * here, and is over for so long that the ledger knows no more of it.
   */
  believe(rows: ListedRow[]): Promise<('believed' | 'known' | 'forgotten')[]>;

  orphans(): Promise<OrphanedSession[]>;
  /** Has it removed wherever it is held. False: no agent holds it, or it is no orphan. */
  endOrphan(sessionId: string): Promise<boolean>;

  /** Adds or changes an agent (enrol, approve, drain, revoke, suspend lifted). Revocation fences at once. */
  putAgent(groupNumber: number, agent: EnrolledAgent): Promise<void>;
  agents(): Promise<LedgerAgent[]>;

  /** From a control hub, of a socket that it opened at `openedAtMs`. */
  attach(agentId: string, controlHub: string, hello: ToEdgeHello, openedAtMs: number): Promise<AttachAnswer>;
  /** True while `epoch` is that of the agent's present connection, and the agent is not revoked, suspended or out of reach. */
  carries(agentId: string, epoch: number): Promise<boolean>;
  /** Commits events in order; answers the highest index committed, or `stale` for an old epoch. */
  events(
    agentId: string,
    epoch: number,
    journalId: string,
    events: { index: number; event: AgentEvent }[],
  ): Promise<{ ackedIndex: number } | 'stale'>;
  intentsAcked(agentId: string, epoch: number, intentIds: string[]): Promise<void>;
  progress(
    agentId: string,
    epoch: number,
    progress: {
      sessionId: string;
      generation: number;
      phase: string;
      detail: string;
      doneBytes?: number | undefined;
      totalBytes?: number | undefined;
    },
  ): Promise<void>;
  /** `images` of the agent, newest first, as it told them last. */
  agentImages(agentId: string, epoch: number, images: AgentImages): Promise<void>;
  images(): Promise<{ agentId: string; agentName: string; images: AgentImages }[]>;
  /** A control socket closed: a hint to look at once; the ledger decides by `liveness`. */
  detached(agentId: string, epoch: number): Promise<void>;
}

/**
 * How a session moves: one pure table. Terminal states are final; TERMINATING to PENDING is the only way back; UNREACHABLE
 * keeps the state that it came from, and returns to it. Who may cause an event, and what else it changes, is the ledger's.
 */
import type { SessionState } from '../../../schema/api/session-parts.ts';
import type { LedgerTimers } from './timers.ts';

export type LifecycleEvent =
  /** The ledger reserved an agent. */
  | 'place'
  /** The agent has the order on disk. */
  | 'journal'
  | 'pull'
  | 'create'
  | 'run'
  /** The agent is out of reach. */
  | 'loseContact'
  | 'regainContact'
  /** Somebody ordered the end. */
  | 'stop'
  /** This placement is over, but the session may be placed again. */
  | 'giveUp'
  | 'requeue'
  /** Over: it ran, or was ended. */
  | 'end'
  /** Over: it could not be started. */
  | 'fail'
  /** Over before it was placed. */
  | 'cancel';

type Moves = Readonly<Partial<Record<LifecycleEvent, SessionState | 'cameFrom'>>>;

const placed = {
  loseContact: 'UNREACHABLE',
  stop: 'TERMINATING',
  giveUp: 'TERMINATING',
  end: 'TERMINATED',
  fail: 'ERROR',
} as const satisfies Moves;

export const lifecycle: Readonly<Record<SessionState, Moves>> = {
  PENDING: { place: 'SCHEDULED', cancel: 'CANCELLED' },
  SCHEDULED: { journal: 'PREPARING', pull: 'PULLING', create: 'CREATING', run: 'RUNNING', ...placed },
  PREPARING: { pull: 'PULLING', create: 'CREATING', run: 'RUNNING', ...placed },
  PULLING: { create: 'CREATING', run: 'RUNNING', ...placed },
  CREATING: { run: 'RUNNING', ...placed },
  RUNNING: { ...placed },
  UNREACHABLE: {
    regainContact: 'cameFrom',
    /** A graceful order waits for the agent: it will be TERMINATING when it is back. */
    stop: 'UNREACHABLE',
    giveUp: 'TERMINATING',
    end: 'TERMINATED',
    fail: 'ERROR',
  },
  TERMINATING: {
    loseContact: 'UNREACHABLE',
    stop: 'TERMINATING',
    giveUp: 'TERMINATING',
    requeue: 'PENDING',
    end: 'TERMINATED',
    fail: 'ERROR',
  },
  TERMINATED: {},
  ERROR: {},
  CANCELLED: {},
};

export interface LifecycleState {
  state: SessionState;
  /** While UNREACHABLE: where it returns to. */
  cameFrom: SessionState | null;
}

/** The state after `event`, or undefined when the event does not apply to this state. */
export function next(current: LifecycleState, event: LifecycleEvent): LifecycleState | undefined {
  const target = lifecycle[current.state][event];
  if (target === undefined) return undefined;
  if (target === 'cameFrom') return current.cameFrom === null ? undefined : { state: current.cameFrom, cameFrom: null };
  if (target !== 'UNREACHABLE') return { state: target, cameFrom: null };
  return { state: target, cameFrom: event === 'stop' ? 'TERMINATING' : current.state };
}

/** How long a session may stay in a state before the ledger acts, or undefined when it may stay for ever. */
export function deadlineAfterMs(state: SessionState, timers: LedgerTimers): number | undefined {
  switch (state) {
    case 'SCHEDULED':
      return timers.scheduledMs;
    case 'PREPARING':
      return timers.preparingMs;
    case 'PULLING':
      return timers.pullingMs;
    case 'CREATING':
      return timers.creatingMs;
    case 'TERMINATING':
      return timers.terminatingMs;
    // PENDING is watched by its place in the queue; UNREACHABLE by the confirmation of the fence.
    case 'PENDING':
    case 'UNREACHABLE':
    case 'RUNNING':
    case 'TERMINATED':
    case 'ERROR':
    case 'CANCELLED':
      return undefined;
  }
}

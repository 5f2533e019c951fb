/** [I7] The moves that a session may make, written down apart from the code that makes them. */
import type { SessionHistory } from '../../schema/api/session.ts';
import { type SessionState, isTerminal } from '../../schema/api/session-parts.ts';

const waiting: readonly SessionState[] = ['PENDING', 'SCHEDULED', 'PREPARING', 'PULLING', 'CREATING'];

/** From each state to those that may follow; a state may also be noted again with another reason. */
const edges: Record<SessionState, readonly SessionState[]> = {
  PENDING: ['SCHEDULED', 'PREPARING', 'CANCELLED', 'ERROR'],
  SCHEDULED: [
    'PENDING',
    'PREPARING',
    'PULLING',
    'CREATING',
    'RUNNING',
    'UNREACHABLE',
    'TERMINATING',
    'TERMINATED',
    'CANCELLED',
    'ERROR',
  ],
  PREPARING: [
    'PENDING',
    'PULLING',
    'CREATING',
    'RUNNING',
    'UNREACHABLE',
    'TERMINATING',
    'TERMINATED',
    'CANCELLED',
    'ERROR',
  ],
  PULLING: ['PREPARING', 'CREATING', 'RUNNING', 'UNREACHABLE', 'TERMINATING', 'TERMINATED', 'CANCELLED', 'ERROR'],
  CREATING: ['RUNNING', 'UNREACHABLE', 'TERMINATING', 'TERMINATED', 'ERROR'],
  RUNNING: ['UNREACHABLE', 'TERMINATING', 'TERMINATED', 'ERROR'],
  UNREACHABLE: [...waiting, 'RUNNING', 'TERMINATING', 'TERMINATED', 'ERROR'],
  TERMINATING: ['PENDING', 'UNREACHABLE', 'TERMINATED', 'ERROR', 'CANCELLED'],
  TERMINATED: [],
  ERROR: [],
  CANCELLED: [],
};

/** What is wrong with a history: holes in its versions, moves along no edge, time or generation going back. */
export function historyFaults(history: SessionHistory['items']): string[] {
  const faults: string[] = [];
  const first = history[0];
  if (first === undefined) return ['no history'];
  if (first.state !== 'PENDING') faults.push(`begins as ${first.state}`);
  for (const [at, row] of history.entries()) {
    const next = history[at + 1];
    if (next === undefined) continue;
    if (next.version !== row.version + 1) faults.push(`version ${next.version} follows ${row.version}`);
    if (next.generation < row.generation) faults.push(`generation ${next.generation} follows ${row.generation}`);
    if (isTerminal(row.state)) faults.push(`${next.state} follows the end ${row.state}`);
    else if (next.state !== row.state && !edges[row.state].includes(next.state))
      faults.push(`${next.state} follows ${row.state}`);
  }
  return faults;
}

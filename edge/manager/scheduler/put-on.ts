/** Placements that the ledger did not make, or does not remember: found on an agent, or in the read model. */
import type { StateReason } from '../../../schema/api/session.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { AgentEntry } from './heap.ts';
import type { Turn } from './turn.ts';

/** Notes a placement that was made elsewhere: the session is on `entry` at this generation. */
export function putOn(
  turn: Turn,
  entry: AgentEntry,
  row: SessionRow,
  generation: number,
  stage: 'journal' | 'run',
  reason: StateReason,
): void {
  if (row.state !== 'PENDING' && !backToPending(turn, row, reason)) return;
  row.generation = generation;
  row.agentId = entry.row.agentId;
  turn.move(row, 'place', reason);
  turn.reserve(entry, row);
  turn.move(row, stage, reason);
}

/** Takes a session out of whatever placement the ledger thinks of. */
export function backToPending(turn: Turn, row: SessionRow, reason: StateReason): boolean {
  if (row.state === 'PENDING') return true;
  if (!turn.move(row, 'giveUp', reason)) return false;
  row.again = null;
  return turn.move(row, 'requeue', reason);
}

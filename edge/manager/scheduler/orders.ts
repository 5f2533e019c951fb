/** What people and admission ask of a ledger: take a session, end one. */
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import { finish, removeFormer, removeFrom, tryPlace } from './dispatch.ts';
import { newSessionRow } from './new-rows.ts';
import type { AdmitAnswer, AdmittedSession } from './rpc.ts';
import type { Turn } from './turn.ts';

/** Sessions that may wait in one group. */
export const pendingLimit = 50_000;

/** Takes a session into the queue, or places it at once. Repeats are `accepted` without effect. */
export function admit(turn: Turn, session: AdmittedSession): AdmitAnswer {
  if (turn.session(session.sessionId)) return 'accepted';
  if (turn.meta.closing) return 'closed';
  if (turn.heap.pendingCount >= pendingLimit) return 'full';
  const row = newSessionRow(session);
  turn.insert(row, session.spec);
  turn.tell(row, row.version === 1 ? 'session.created' : 'session.state');
  tryPlace(turn, row);
  return 'accepted';
}

/** Reason of a session whose agent did not carry out a forced stop in time. */
export const stopOverdue = 'stop-overdue';

export interface StopOrder {
  graceMs: number;
  force: boolean;
  reason: string;
  /** Also removes its home and output, and takes it off the lists. */
  purge?: boolean;
}

/** Ends a session: at once where nothing runs, else by order to its agent. A weaker order than the last changes nothing. */
export function terminate(turn: Turn, sessionId: string, order: StopOrder): 'accepted' | 'ended' | 'unknown' {
  const row = turn.session(sessionId);
  if (!row) return 'unknown';
  const isNewPurge = order.purge === true && !row.purge;
  if (isNewPurge) {
    row.purge = true;
    purgeLeft(turn, row);
  }
  if (row.endedAtMs !== null) {
    if (isNewPurge) purgeEnded(turn, row);
    return 'ended';
  }
  if (row.state === 'PENDING') {
    if (!isNewPurge) removeFormer(turn, row);
    turn.move(row, 'cancel', { code: order.reason });
    return 'accepted';
  }
  if (isSettled(row, order)) finishWithoutAgent(turn, row, order);
  else if (row.stop === null || (order.force && !row.stop.force)) orderStop(turn, row, order);
  return 'accepted';
}

/** Agents that the session has left keep what they have of it, too. */
function purgeLeft(turn: Turn, row: SessionRow): void {
  const left = new Map<string, number>();
  for (const { agentId, generation } of [...turn.store.trail(row.sessionId), ...row.trail])
    if (agentId !== undefined && agentId !== row.agentId) left.set(agentId, generation);
  for (const [agentId, generation] of left) removeFrom(turn, row, agentId, generation);
}

/** What the agent kept of an ended session goes, and so does its row of the lists. */
function purgeEnded(turn: Turn, row: SessionRow): void {
  const entry = row.agentId === null ? undefined : turn.heap.agents.get(row.agentId);
  if (entry && entry.row.state !== 'revoked') turn.order(entry, row, row.generation, { kind: 'remove', purge: true });
  turn.list(row);
}

/** True when no word of the agent is worth waiting for. */
function isSettled(row: SessionRow, order: StopOrder): boolean {
  if (row.state === 'TERMINATING' && row.again?.ended === true) return true;
  if (!order.force) return false;
  return row.state === 'UNREACHABLE' || row.reason?.code === stopOverdue;
}

/** Quota returns at once; slots stay blocked until the agent has confirmed the end. */
function finishWithoutAgent(turn: Turn, row: SessionRow, order: StopOrder): void {
  row.again = null;
  const entry = row.agentId === null ? undefined : turn.heap.agents.get(row.agentId);
  if (entry && entry.row.state !== 'revoked' && row.holds.length > 0)
    turn.order(entry, row, row.generation, toStop(order));
  finish(turn, row, 'end', { code: order.reason, detail: order.force ? 'forced' : 'ended while it waited' });
}

function orderStop(turn: Turn, row: SessionRow, order: StopOrder): void {
  const { graceMs, force, reason } = order;
  row.stop = { graceMs, force, reason };
  row.again = null;
  const { deadlineMs } = row;
  turn.move(row, 'stop', { code: order.reason });
  if (row.state === 'TERMINATING') turn.setDeadline(row, order.graceMs + turn.timers.terminatingMs);
  // The lease of what is out of reach runs on: its end is the end of a session whose agent never comes back.
  else if (deadlineMs !== null) turn.setDeadline(row, deadlineMs - turn.nowMs);
  const entry = row.agentId === null ? undefined : turn.heap.agents.get(row.agentId);
  if (entry && entry.row.state !== 'revoked') turn.order(entry, row, row.generation, toStop(order));
}

function toStop({ graceMs, force, reason }: StopOrder) {
  return { kind: 'stop', graceMs, force, reason } as const;
}

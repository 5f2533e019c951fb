/**
 * From the queue to agents. Sessions of one shape go in order of birth; a shape that fits nowhere does not hold up others.
 * Shapes that did not fit are left alone until some agent has more free, so that a turn never walks the queue.
 */
import type { StateReason } from '../../../schema/api/session.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { AgentEntry } from './heap.ts';
import { parseShape } from './slots.ts';
import type { Turn } from './turn.ts';

/** Placements in one turn; the alarm goes on with the rest. */
const placementsPerTurn = 400;
/** A start that failed on this many agents is over. */
export const startAttempts = 3;

/** Gives a session that just became PENDING an agent, unless older ones of its shape wait. */
export function tryPlace(turn: Turn, row: SessionRow): boolean {
  const { heap } = turn;
  if (settlesAtMs(turn) !== undefined || heap.blocked.has(row.shape)) return false;
  if ((heap.shapes.get(row.shape)?.count ?? 0) > 1) return false;
  return placeOrBlock(turn, row);
}

function placeOrBlock(turn: Turn, row: SessionRow): boolean {
  const former = row.trail.findLast((step) => step.agentId !== undefined)?.agentId;
  const agentId = turn.heap.placement.pick(parseShape(row.shape), {
    avoid: row.avoid,
    ...(former === undefined ? {} : { prefer: former }),
  });
  const entry = agentId === undefined ? undefined : turn.heap.agents.get(agentId);
  if (!entry) {
    turn.block(row.shape);
    return false;
  }
  place(turn, row, entry);
  return true;
}

/** Reserves, raises the generation's placement, and orders `create`; what older generations left is removed first. */
function place(turn: Turn, row: SessionRow, entry: AgentEntry): void {
  removeFormer(turn, row);
  outrunForgotten(turn, row);
  row.agentId = entry.row.agentId;
  turn.move(row, 'place');
  turn.reserve(entry, row);
  turn.order(entry, row, row.generation, { kind: 'create' });
}

/** A restored ledger may have placed this generation and forgotten it: the next one makes whatever it began void. */
function outrunForgotten({ meta }: Turn, row: SessionRow): void {
  const { restoredAtMs } = meta;
  if (restoredAtMs === null || row.createdAtMs > restoredAtMs) return;
  const isOwn = row.trail.some(({ state, atMs }) => state === 'SCHEDULED' && atMs >= restoredAtMs);
  if (!isOwn) row.generation += 1;
}

/** Orders the agent of the generation before to clean up. */
export function removeFormer(turn: Turn, row: SessionRow): void {
  const former = row.trail.findLast((step) => step.agentId !== undefined);
  if (former?.agentId !== undefined) removeFrom(turn, row, former.agentId, former.generation);
}

/** Orders an agent that the session has left to clean up. */
export function removeFrom(turn: Turn, row: SessionRow, agentId: string, generation: number): void {
  const entry = turn.heap.agents.get(agentId);
  if (!entry || entry.row.state === 'revoked') return;
  dropOrders(turn, row, entry);
  turn.order(entry, row, generation, removalOf(row));
}

/** What an agent has not acknowledged of a placement that is over: it must not begin what nobody waits for. */
function dropOrders(turn: Turn, { sessionId }: SessionRow, entry: AgentEntry): void {
  turn.dropIntents(entry, (intent) => intent.sessionId === sessionId && intent.order.kind !== 'remove');
}

/**
 * When placing begins after a restore, or undefined when it may. What the queue holds may run somewhere already: agents come
 * first, and what one of them holds is adopted. One that stays away longer is not waited for.
 */
export function settlesAtMs({ heap, nowMs, timers }: Turn): number | undefined {
  const { meta } = heap;
  if (!meta || meta.restoredAtMs === null) return undefined;
  const untilMs = meta.restoredAtMs + timers.restoreSettleMs;
  if (nowMs >= untilMs) return undefined;
  const isAway = [...heap.agents.values()].some(
    ({ row }) => row.state === 'active' && row.joinIncarnation !== meta.incarnation,
  );
  return isAway ? untilMs : undefined;
}

/** Places what waits, oldest first, as far as it fits. Leaves open shapes behind only when its budget is spent. */
export function dispatch(turn: Turn): void {
  const { heap, store } = turn;
  if (heap.open.size === 0 || settlesAtMs(turn) !== undefined) return;
  turn.flush();
  const heads = heap.open.size > 16 ? firstOfAll(turn) : firstOf(turn, [...heap.open]);
  for (let budget = placementsPerTurn; budget > 0; budget -= 1) {
    const head = heads.shift();
    if (!head) return;
    const row = turn.session(head.sessionId);
    if (!row || row.state !== 'PENDING' || !placeOrBlock(turn, row)) continue;
    const [following] = store.pending(head.shape, 1, head.sessionId);
    if (following !== undefined) insertSorted(heads, { shape: head.shape, sessionId: following });
  }
}

interface Head {
  shape: string;
  sessionId: string;
}

function firstOfAll(turn: Turn): Head[] {
  return turn.store
    .pendingShapes()
    .filter(({ shape }) => turn.heap.open.has(shape))
    .map(({ shape, first }) => ({ shape, sessionId: first }))
    .sort(byAge);
}

function firstOf(turn: Turn, shapes: readonly string[]): Head[] {
  const heads = shapes.flatMap((shape) => turn.store.pending(shape, 1).map((sessionId) => ({ shape, sessionId })));
  return heads.sort(byAge);
}

const byAge = (a: Head, b: Head) => (a.sessionId < b.sessionId ? -1 : 1);

function insertSorted(heads: Head[], head: Head): void {
  let low = 0;
  let high = heads.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (heads[middle]!.sessionId < head.sessionId) low = middle + 1;
    else high = middle;
  }
  heads.splice(low, 0, head);
}

/**
 * Ends a placement that will be tried again. `ended`: nothing of it runs any more; else its end is awaited. The session is
 * PENDING again when it has ended and the pause is over.
 */
export function giveUp(
  turn: Turn,
  row: SessionRow,
  why: { reason: StateReason; pauseMs: number; ended: boolean },
): void {
  const { reason, pauseMs, ended } = why;
  row.again = { reason, notBeforeMs: turn.nowMs + pauseMs, ended };
  const entry = row.agentId === null ? undefined : turn.heap.agents.get(row.agentId);
  if (ended) releaseRevoked(turn, row);
  if (ended && entry) dropOrders(turn, row, entry);
  turn.move(row, 'giveUp', reason);
  if (ended) backToQueue(turn, row);
}

/** Sends a session whose placement is over back to the queue, or waits out its pause. */
export function backToQueue(turn: Turn, row: SessionRow): void {
  const { again } = row;
  if (!again) return;
  if (again.notBeforeMs > turn.nowMs) {
    turn.setDeadline(row, again.notBeforeMs - turn.nowMs);
    return;
  }
  if (again.reason.code === 'host-lost' && row.leaseMs === null) finish(turn, row, 'end', again.reason);
  else if (row.attempts >= startAttempts) finish(turn, row, 'fail', again.reason);
  else {
    row.again = null;
    turn.move(row, 'requeue', again.reason);
    tryPlace(turn, row);
  }
}

/** Nobody confirms the end on an agent that was revoked: its slots are free. */
function releaseRevoked(turn: Turn, row: SessionRow): void {
  const entry = row.agentId === null ? undefined : turn.heap.agents.get(row.agentId);
  if (entry?.row.state === 'revoked') turn.release(entry.row.agentId, row, row.generation);
}

/** The end of a session for good: its agent cleans up. */
export function finish(turn: Turn, row: SessionRow, event: 'end' | 'fail', reason: StateReason): void {
  releaseRevoked(turn, row);
  const entry = row.agentId === null ? undefined : turn.heap.agents.get(row.agentId);
  if (!turn.move(row, event, reason) || !entry || entry.row.state === 'revoked') return;
  turn.dropIntents(entry, ({ sessionId, order }) => sessionId === row.sessionId && order.kind === 'create');
  turn.order(entry, row, row.generation, removalOf(row));
}

/** The order to clean up after a session that is over. */
function removalOf({ purge }: SessionRow): { kind: 'remove'; purge?: true } {
  return purge ? { kind: 'remove', purge: true } : { kind: 'remove' };
}

/**
 * It runs what is over. That was told to a copy of the machine, or to what stood there before an old state came back. Of what
 * was never placed on it an agent may say what it likes.
 */
export function removeAgain(turn: Turn, entry: AgentEntry, row: SessionRow, generation: number): void {
  const { agentId, state } = entry.row;
  const wasPlaced = row.trail.some((step) => step.agentId === agentId && step.generation === generation);
  if (state === 'revoked' || !wasPlaced) return;
  const isOrdered = entry.intents.some(
    ({ sessionId, generation: of, order }) =>
      sessionId === row.sessionId && of === generation && order.kind === 'remove',
  );
  if (!isOrdered) turn.order(entry, row, generation, removalOf(row));
}

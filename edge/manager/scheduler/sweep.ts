/** What a ledger does by the clock: deadlines, resending, asking who is still there, forgetting. Called by its alarm. */
import type { IntentRow } from '../../../schema/ledger/agents.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import { countFailedStart, startPauseMs } from './agent-events.ts';
import { askFence, loseAgent, toIntent } from './contact.ts';
import { backToQueue, finish, giveUp, removeFormer, settlesAtMs } from './dispatch.ts';
import { type AgentEntry, isWatched } from './heap.ts';
import { stopOverdue } from './orders.ts';
import type { Turn } from './turn.ts';

const intentsPerTurn = 500;
const intentsPerSend = 100;
const sessionsPerTurn = 200;
/** Retention is looked at this often. */
const forgetEveryMs = 3_600_000;
const ever = { endedAtMs: Number.MAX_SAFE_INTEGER, endSeq: Number.MAX_SAFE_INTEGER };

/** One round of everything that is due. What exceeds its budget is due again at once. */
export function sweep(turn: Turn): void {
  deadlines(turn);
  askLiveness(turn);
  for (const agentId of turn.heap.fencing) {
    const entry = turn.heap.agents.get(agentId);
    if (entry) askFence(turn, entry);
  }
  forget(turn);
  cancelStale(turn);
}

function deadlines(turn: Turn): void {
  const { heap, nowMs } = turn;
  if (nowMs < heap.nextDeadlineMs) return;
  let budget = sessionsPerTurn;
  for (const [sessionId, deadlineMs] of heap.moving) {
    if (deadlineMs === null || deadlineMs > nowMs) continue;
    if (budget === 0) break;
    budget -= 1;
    const row = turn.session(sessionId);
    if (row) onDeadline(turn, row);
    else heap.moving.delete(sessionId);
  }
  heap.nextDeadlineMs = Number.POSITIVE_INFINITY;
  for (const deadlineMs of heap.moving.values())
    heap.nextDeadlineMs = Math.min(heap.nextDeadlineMs, deadlineMs ?? Number.POSITIVE_INFINITY);
}

function onDeadline(turn: Turn, row: SessionRow): void {
  const entry = row.agentId === null ? undefined : turn.heap.agents.get(row.agentId);
  if (row.again?.ended === true) {
    giveUpLost(turn, row);
    return;
  }
  switch (row.state) {
    case 'SCHEDULED':
      // Only the fence takes back what may have been received.
      turn.setDeadline(row, turn.timers.scheduledMs);
      if (entry) loseAgent(turn, entry, 'it acknowledges no orders');
      return;
    case 'PREPARING':
    case 'PULLING':
    case 'CREATING':
      startTookTooLong(turn, row, entry);
      return;
    case 'TERMINATING':
      stopTookTooLong(turn, row, entry);
      return;
    case 'UNREACHABLE':
      leaseIsOver(turn, row);
      return;
    default:
      turn.setDeadline(row, undefined);
  }
}

/** Its end is certain: missing on its agent, or waiting out a pause. */
function giveUpLost(turn: Turn, row: SessionRow): void {
  const { again } = row;
  if (!again) return;
  if (row.agentId !== null) turn.release(row.agentId, row, row.generation);
  if (row.stop !== null) finish(turn, row, 'end', { code: row.stop.reason });
  else if (row.state === 'TERMINATING') backToQueue(turn, row);
  else if (row.leaseMs === null) finish(turn, row, 'end', again.reason);
  else giveUp(turn, row, { reason: again.reason, pauseMs: 0, ended: true });
}

function startTookTooLong(turn: Turn, row: SessionRow, entry: AgentEntry | undefined): void {
  const detail = `no progress in ${row.state} on ${entry?.row.name ?? 'its agent'}`;
  countFailedStart(row);
  giveUp(turn, row, {
    reason: { code: 'start-failed', detail },
    pauseMs: startPauseMs(turn, row),
    ended: false,
  });
  if (entry) turn.order(entry, row, row.generation, { kind: 'stop', graceMs: 0, force: true, reason: 'start-failed' });
}

function stopTookTooLong(turn: Turn, row: SessionRow, entry: AgentEntry | undefined): void {
  const detail = `${entry?.row.name ?? 'its agent'} did not end it in time`;
  if (row.reason?.code !== stopOverdue) turn.move(row, 'stop', { code: stopOverdue, detail });
  else turn.setDeadline(row, turn.timers.pullingMs);
  if (row.stop) row.stop = { ...row.stop, force: true };
  if (!entry || entry.intents.some((intent) => isForcedStop(intent, row))) return;
  // Also when it acknowledged one before: what it told of the end may be lost.
  const reason = row.stop?.reason ?? row.again?.reason.code ?? stopOverdue;
  turn.order(entry, row, row.generation, { kind: 'stop', graceMs: 0, force: true, reason });
}

function isForcedStop({ sessionId, generation, order }: IntentRow, row: SessionRow): boolean {
  return sessionId === row.sessionId && generation === row.generation && order.kind === 'stop' && order.force;
}

/** The run lease of a restartable session on an agent out of reach is over: nothing of it runs any more. */
function leaseIsOver(turn: Turn, row: SessionRow): void {
  const reason = { code: 'host-lost', detail: 'its agent stayed out of reach longer than the run lease' };
  if (row.stop !== null) finish(turn, row, 'end', { code: row.stop.reason });
  else giveUp(turn, row, { reason, pauseMs: 0, ended: true });
}

function askLiveness(turn: Turn): void {
  const { heap, nowMs } = turn;
  if (nowMs < heap.nextLivenessMs) return;
  heap.nextLivenessMs = Number.POSITIVE_INFINITY;
  const hubs = new Map<string, string[]>();
  for (const entry of heap.agents.values()) {
    if (!isWatched(entry)) continue;
    const known = hubs.get(entry.row.controlHub);
    if (known) known.push(entry.row.agentId);
    else hubs.set(entry.row.controlHub, [entry.row.agentId]);
    askAgain(turn, entry);
  }
  for (const [controlHub, agentIds] of hubs) turn.effects.push({ kind: 'liveness', controlHub, agentIds });
}

/** The next question: regularly, and exactly when a silence has lasted long enough. */
function askAgain(turn: Turn, { row }: AgentEntry): void {
  const { heap, nowMs, timers } = turn;
  const overMs = (row.silentSinceMs ?? 0) + timers.silentMs;
  const regularMs = nowMs + timers.livenessEveryMs;
  heap.nextLivenessMs = Math.min(heap.nextLivenessMs, overMs > nowMs ? Math.min(overMs, regularMs) : regularMs);
}

/** Forgets sessions whose end everybody knows, after the retention. */
function forget(turn: Turn): void {
  const { heap, store, nowMs, timers } = turn;
  const endSeq = Math.min(heap.cursors.readModel, heap.cursors.admission);
  const endedAtMs = nowMs - timers.retentionMs;
  for (const sessionId of store.over({ endedAtMs, endSeq }, sessionsPerTurn)) {
    const row = turn.session(sessionId);
    // This turn may have changed it.
    if (row && row.holds.length === 0) turn.forget(row);
  }
}

function cancelStale(turn: Turn): void {
  if (turn.heap.shapes.size === 0) return;
  const oldest = turn.store.oldestPending();
  const row = oldest === undefined ? undefined : turn.session(oldest);
  if (!row || row.state !== 'PENDING' || row.createdAtMs > turn.nowMs - turn.timers.pendingMs) return;
  removeFormer(turn, row);
  turn.move(row, 'cancel', { code: 'queue-timeout', detail: 'it waited too long' });
}

/** Hands out new intents of this turn, and from time to time those whose answer is due. */
export function sendIntents(turn: Turn): void {
  const { heap, nowMs } = turn;
  let budget = intentsPerTurn;
  for (const agentId of turn.toSend) {
    budget -= sendOf(turn, heap.agents.get(agentId), budget, isNew);
    if (budget <= 0) break;
  }
  if (budget <= 0) heap.nextResendMs = nowMs;
  if (budget <= 0 || nowMs < heap.nextResendMs) return;
  heap.nextResendMs = Number.POSITIVE_INFINITY;
  for (const agentId of heap.ordered) {
    const entry = heap.agents.get(agentId);
    if (budget > 0) budget -= sendOf(turn, entry, budget, isDue);
    for (const intent of entry?.row.reachable ? entry.intents : [])
      heap.nextResendMs = Math.min(heap.nextResendMs, resendAtMs(turn, entry!, intent));
  }
}

/** Hands at most `budget` intents of an agent to its hub. Answers how many. */
function sendOf(turn: Turn, entry: AgentEntry | undefined, budget: number, isWanted: typeof isDue): number {
  if (!entry?.row.reachable || entry.row.epoch === null) return 0;
  const wanted = entry.intents.filter((intent) => isWanted(turn, entry, intent)).slice(0, budget);
  for (let at = 0; at < wanted.length; at += intentsPerSend)
    send(turn, entry, entry.row.epoch, wanted.slice(at, at + intentsPerSend));
  return wanted.length;
}

function isNew(turn: Turn, _: AgentEntry, { intentId }: IntentRow): boolean {
  return turn.heap.sendings.get(intentId)?.atMs === 0;
}

function send(turn: Turn, entry: AgentEntry, epoch: number, rows: readonly IntentRow[]): void {
  const { agentId, controlHub } = entry.row;
  for (const { intentId } of rows) {
    const known = turn.heap.sendings.get(intentId) ?? { atMs: 0, inFlight: 0, reached: true };
    turn.heap.sendings.set(intentId, { ...known, atMs: turn.nowMs, inFlight: known.inFlight + 1 });
  }
  turn.heap.nextResendMs = Math.min(turn.heap.nextResendMs, turn.nowMs + turn.timers.intentFirstMs);
  turn.effects.push({ kind: 'intents', controlHub, agentId, epoch, intents: rows.map((row) => toIntent(turn, row)) });
}

function isDue(turn: Turn, entry: AgentEntry, intent: IntentRow): boolean {
  return resendAtMs(turn, entry, intent) <= turn.nowMs;
}

/** When an intent goes out again. The pause is the intent's age, so that it doubles without being written down. */
function resendAtMs({ heap, timers }: Turn, entry: AgentEntry, intent: IntentRow): number {
  const lastMs = heap.sendings.get(intent.intentId)?.atMs ?? 0;
  if (lastMs === 0) return 0;
  const bornMs = Math.max(intent.createdAtMs, entry.row.connectedAtMs ?? 0);
  return lastMs + Math.min(timers.intentCapMs, Math.max(timers.intentFirstMs, lastMs - bornMs));
}

/** When the alarm has to ring next, or undefined when nothing waits for the clock. */
export function nextAlarmMs(turn: Turn): number | undefined {
  const { heap, timers, nowMs, store } = turn;
  let at = Math.min(heap.nextDeadlineMs, heap.nextLivenessMs);
  if (heap.ordered.size > 0) at = Math.min(at, heap.nextResendMs);
  if (heap.open.size > 0) at = Math.min(at, settlesAtMs(turn) ?? nowMs);
  if (heap.fencing.size > 0) at = Math.min(at, nowMs + timers.fenceRetryMs);
  const { readModel, events, admission } = heap.cursors;
  if (Math.min(readModel, events, admission) < heap.lastSeq) at = Math.min(at, nowMs + timers.outboxCapMs);
  if (at === Number.POSITIVE_INFINITY && store.over(ever, 1).length > 0) at = nowMs + forgetEveryMs;
  if (at === Number.POSITIVE_INFINITY && heap.shapes.size > 0) at = nowMs + forgetEveryMs;
  return at === Number.POSITIVE_INFINITY ? undefined : Math.max(at, nowMs);
}

/**
 * What agents tell of their sessions. An agent can only speak of the placement that it holds: anything about another
 * session or generation changes nothing, except that slots it still blocked may become free, and that it has to remove what it
 * runs and is not to have.
 */
import { starts } from '../../../schema/api/session-parts.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import { backToQueue, finish, giveUp, removeAgain, startAttempts } from './dispatch.ts';
import type { AgentEntry } from './heap.ts';
import type { Turn } from './turn.ts';

type Body<Kind extends AgentEvent['body']['kind']> = Extract<AgentEvent['body'], { kind: Kind }>;

/** Applies one event. */
export function applyEvent(turn: Turn, entry: AgentEntry, event: AgentEvent): void {
  const row = turn.session(event.sessionId);
  if (!row) return;
  const { agentId } = entry.row;
  const { kind } = event.body;
  if (kind === 'ended' || kind === 'failed' || kind === 'removed') turn.release(agentId, row, event.generation);
  if (row.agentId !== agentId || row.generation !== event.generation || row.endedAtMs !== null) {
    if (kind === 'running') removeAgain(turn, entry, row, event.generation);
    return;
  }
  // Whoever speaks is not missing.
  if (row.state !== 'TERMINATING') row.again = null;
  applyCurrent(turn, row, event.body);
}

function applyCurrent(turn: Turn, row: SessionRow, body: AgentEvent['body']): void {
  switch (body.kind) {
    case 'pulling':
      turn.move(row, 'pull');
      return;
    case 'pulled':
      row.imageDigest = body.imageDigest;
      return;
    case 'creating':
      turn.move(row, 'create');
      return;
    case 'running':
      row.startedAtMs ??= turn.nowMs;
      turn.move(row, 'run', body.start && { code: body.start, detail: starts[body.start] });
      return;
    case 'ended':
      onEnded(turn, row, body);
      return;
    case 'failed':
      onFailed(turn, row, body);
      return;
    case 'removed':
      onEnded(turn, row, { kind: 'ended', reason: 'host-lost' });
      return;
    case 'activity':
      return;
  }
}

function onEnded(turn: Turn, row: SessionRow, body: Body<'ended'>): void {
  const { reason, exitCode, signal } = body;
  row.result = {
    reason,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
  };
  const lost = reason === 'host-lost' || reason === 'lease-expired';
  if (row.stop === null && row.again) {
    row.again = { ...row.again, ended: true };
    backToQueue(turn, row);
  } else if (row.stop === null && row.leaseMs !== null && lost)
    giveUp(turn, row, { reason: { code: 'host-lost', detail: reason }, pauseMs: 0, ended: true });
  else finish(turn, row, 'end', { code: reason });
}

function onFailed(turn: Turn, row: SessionRow, body: Body<'failed'>): void {
  const { code, detail, retryable } = body;
  if (row.stop !== null) {
    finish(turn, row, 'end', { code: row.stop.reason });
    return;
  }
  if (row.again) {
    row.again = { ...row.again, ended: true };
    backToQueue(turn, row);
    return;
  }
  countFailedStart(row);
  if (!retryable || row.attempts >= startAttempts) finish(turn, row, 'fail', { code, detail });
  else
    giveUp(turn, row, {
      reason: { code: 'start-failed', detail: `${code}: ${detail}` },
      pauseMs: startPauseMs(turn, row),
      ended: true,
    });
}

/** Remembers that a start failed, and where. */
export function countFailedStart(row: SessionRow): void {
  row.attempts += 1;
  if (row.agentId !== null && !row.avoid.includes(row.agentId)) row.avoid = [...row.avoid, row.agentId];
}

/** Doubles with each failed start. */
export function startPauseMs(turn: Turn, row: SessionRow): number {
  return turn.timers.startAgainMs * 2 ** (row.attempts - 1);
}

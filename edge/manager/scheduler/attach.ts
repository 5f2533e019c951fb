/**
 * The rules by which an agent's control socket is accepted, and by which its inventory is judged. Pure.
 *
 * Copy detection: a machine sends join counter n+1 with an attempt id until it is accepted, so a copy of its disk sooner or
 * later sends a counter that was used. Inventory: by intent, never by comparing two lists. What this ledger never issued, or
 * knows to be over, goes; after a restore it may not know what it issued, and then it spares and adopts.
 */
import { parseSessionId } from '../../../schema/ids.ts';
import type { AgentRow } from '../../../schema/ledger/agents.ts';
import type { LedgerMeta } from '../../../schema/ledger/book.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { InventoryItem } from '../../../schema/protocol/messages.ts';

/** Who is refused for a hello that was overtaken has nothing to wait for. */
const overtakenMs = 1_000;
const epochsPerIncarnation = 2 ** 20;
/** How far clocks of the edge may differ when a session's birth is compared with a restore. */
const clockMarginMs = 600_000;

export type JoinVerdict =
  | { kind: 'accept' }
  | { kind: 'refuse'; code: string; detail: string; retryAfterMs?: number }
  | { kind: 'suspend'; code: 'agent_identity_conflict'; detail: string };

/**
 * Judges the join counter of a hello on a socket that was opened at `openedAtMs`. In a new incarnation of the ledger the
 * first attach of an agent is taken as it is.
 */
export function judgeJoin(
  row: AgentRow,
  meta: LedgerMeta,
  hello: { counter: number; attemptId: string },
  { openedAtMs, nowMs }: { openedAtMs: number; nowMs: number },
): JoinVerdict {
  if (row.state === 'revoked') return { kind: 'refuse', code: 'agent_revoked', detail: 'Join again with a new token.' };
  if (row.state === 'pending')
    return {
      kind: 'refuse',
      code: 'agent_pending',
      detail: 'An administrator has to approve it: causeway agent approve.',
    };
  if (row.state === 'suspended')
    return {
      kind: 'refuse',
      code: 'agent_suspended',
      detail: 'An administrator has to approve it: causeway agent approve.',
    };
  if (row.joinIncarnation !== meta.incarnation) return { kind: 'accept' };
  // The hello may have been long on its way, and overtaken by those of newer sockets: what it says it has is old, and so may
  // its counter be. Who sent it dials again if it still can; a copy is told by its counter on a socket that is newer. Where the
  // clock was set back behind the last connection the two moments say nothing.
  const connectedAtMs = row.connectedAtMs ?? 0;
  if (openedAtMs < connectedAtMs && connectedAtMs <= nowMs)
    return {
      kind: 'refuse',
      code: 'agent_epoch_stale',
      detail: 'A newer connection was accepted meanwhile: dial again.',
      retryAfterMs: overtakenMs,
    };
  const isRepeat = hello.counter === row.joinCounter && hello.attemptId === row.attemptId;
  if (hello.counter === row.joinCounter + 1 || isRepeat) return { kind: 'accept' };
  return {
    kind: 'suspend',
    code: 'agent_identity_conflict',
    detail:
      'The join counter was used before: another machine has a copy of this identity. Both wait for an administrator.',
  };
}

/** The epoch that `meta` issues next. It never goes back: an incarnation outruns any number of attaches before it. */
export function nextEpoch(meta: LedgerMeta): { epoch: number; meta: LedgerMeta } {
  const epochCounter = meta.epochCounter + 1;
  return { epoch: meta.incarnation * epochsPerIncarnation + epochCounter, meta: { ...meta, epochCounter } };
}

/** The book after a restore: above every epoch that was ever issued. */
export function newIncarnation(meta: LedgerMeta, nowMs: number, snapshotAtMs: number): LedgerMeta {
  const overrun = meta.incarnation + Math.ceil(meta.epochCounter / epochsPerIncarnation) + 1;
  const incarnation = Math.max(Math.floor(nowMs / 1000), overrun);
  return { ...meta, incarnation, epochCounter: 0, snapshotAtMs, restoredAtMs: nowMs };
}

export type InventoryVerdict = 'keep' | 'destroy' | 'adopt';

/** What becomes of one item of an agent's inventory. `row`: the session as this ledger knows it. */
export function judgeItem(
  item: InventoryItem,
  row: SessionRow | undefined,
  agentId: string,
  meta: LedgerMeta,
): InventoryVerdict {
  const restored = meta.restoredAtMs !== null;
  if (!row) return restored && bornInTheGap(item.sessionId, meta) ? 'keep' : 'destroy';
  if (item.generation < row.generation) return 'destroy';
  const isHere = row.agentId === agentId && item.generation === row.generation;
  if (row.endedAtMs !== null) {
    // An ended container waits for its `remove` intent; what still runs must go at once.
    return item.state === 'ended' && isHere ? 'keep' : 'destroy';
  }
  if (isHere) return 'keep';
  // A generation is issued to one agent, once: a restored ledger that knows to whom believes nobody else.
  if (item.generation === row.generation && row.agentId !== null) return restored ? 'keep' : 'destroy';
  if (restored) return 'adopt';
  // Equal or higher, but never issued to this agent.
  return item.generation === row.generation ? 'destroy' : 'keep';
}

/** True when a session's birth lies where a restored ledger may have forgotten it. */
export function bornInTheGap(sessionId: string, meta: LedgerMeta): boolean {
  if (parseSessionId(sessionId)?.groupNumber !== meta.groupNumber) return false;
  const bornMs = bornAtMs(sessionId);
  const from = (meta.snapshotAtMs ?? 0) - clockMarginMs;
  return bornMs >= from && bornMs <= (meta.restoredAtMs ?? 0) + clockMarginMs;
}

const digits = '0123456789abcdefghjkmnpqrstvwxyz';
/** Unix milliseconds in the first 10 characters of an id's body. */
function bornAtMs(id: string): number {
  let ms = 0;
  for (const letter of id.slice(4, 14)) ms = ms * 32 + digits.indexOf(letter);
  return ms;
}

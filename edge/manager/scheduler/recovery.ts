/**
 * A ledger whose storage was put back, or lost, learns from the read model what it no longer knows. D1 was written from what
 * a ledger had committed, so whatever it has at a higher version did happen: it is believed, and versions go on above it.
 * Agents say the rest when they attach. Must never believe a row that is not newer than its own.
 */
import type { SessionRow as ListedRow } from '../../../schema/db/sessions.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import { isTerminal } from '../../../schema/api/session-parts.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import { bornInTheGap } from './attach.ts';
import { loseAgent } from './contact.ts';
import { finish } from './dispatch.ts';
import type { LedgerStore } from './ledger-store.ts';
import { newSessionRow } from './new-rows.ts';
import { backToPending, putOn } from './put-on.ts';
import type { KnownSession } from './rpc.ts';
import type { Turn } from './turn.ts';

/** Versions whose transitions are lost are noted one by one, so that histories have no holes; beyond this many, not. */
const notedVersions = 1000;
const lost = { code: 'restored', detail: 'what happened here was lost with the storage of the ledger' };

/** Sessions behind `after`, by id, ended ones too. */
export function knownSessions(store: LedgerStore, after: string, limit: number): KnownSession[] {
  return store.sessionsAfter(after, limit).flatMap((sessionId) => {
    const row = store.session(sessionId);
    const spec = store.spec(sessionId);
    if (!row || !spec) return [];
    const { domainId, domainNumber, projectId, ownerId, createdAtMs, version, endedAtMs, purge } = row;
    const isOver = endedAtMs !== null;
    const name = spec.name;
    return [
      {
        sessionId,
        domainId,
        domainNumber,
        projectId,
        ownerId,
        name,
        createdAtMs,
        version,
        isOver,
        isListed: !purge || !isOver,
      },
    ];
  });
}

/** Takes over what the read model knows better. `forgotten`: a session that this ledger rightly knows no more. */
export function believe(turn: Turn, listed: ListedRow): 'believed' | 'known' | 'forgotten' {
  const known = turn.session(listed.id);
  if (known && (known.version >= listed.version || known.endedAtMs !== null)) return 'known';
  if (!known && (listed.endedAtMs !== null || !bornInTheGap(listed.id, turn.meta))) return 'forgotten';
  const row = known ?? insert(turn, listed);
  // Above what the read model has, so that it takes what comes of this.
  noteLost(row, listed.version + 1, turn.nowMs);
  follow(turn, row, listed);
  turn.list(row);
  return 'believed';
}

function insert(turn: Turn, listed: ListedRow): SessionRow {
  const { id, domainId, projectId, ownerId, createdAtMs, spec } = listed;
  const row = newSessionRow({
    sessionId: id,
    domainId,
    domainNumber: parseSessionId(id)?.domainNumber ?? 0,
    projectId,
    ownerId,
    createdAtMs,
    trail: [{ version: 1, state: 'PENDING', generation: 1, atMs: createdAtMs }],
    spec,
  });
  turn.insert(row, spec);
  return row;
}

/** From where the ledger is to where the read model says that the session was. */
function follow(turn: Turn, row: SessionRow, listed: ListedRow): void {
  row.imageDigest ??= listed.imageDigest;
  row.startedAtMs ??= listed.startedAtMs;
  if (isTerminal(listed.state)) conclude(turn, row, listed);
  else if (listed.agentId !== null && (row.agentId === null || listed.generation > row.generation))
    placeAsListed(turn, row, listed.agentId, listed.generation);
  else if (listed.generation > row.generation) {
    backToPending(turn, row, lost);
    row.generation = listed.generation;
  }
}

/** It ran there. Whether it still does, the agent says when it attaches. */
function placeAsListed(turn: Turn, row: SessionRow, agentId: string, generation: number): void {
  const entry = turn.heap.agents.get(agentId);
  if (!entry || entry.row.state === 'revoked') {
    endUnplaced(turn, row, generation, 'end', { code: 'agent-revoked', detail: agentId });
    return;
  }
  putOn(turn, entry, row, generation, 'run', lost);
  if (entry.row.reachable) loseAgent(turn, entry, 'the ledger has to hear anew what it holds');
  else turn.move(row, 'loseContact', lost);
}

function conclude(turn: Turn, row: SessionRow, listed: ListedRow): void {
  const reason = listed.reason ?? lost;
  row.result = listed.result;
  if (listed.state !== 'CANCELLED') {
    endUnplaced(turn, row, listed.generation, listed.state === 'ERROR' ? 'fail' : 'end', reason);
    return;
  }
  backToPending(turn, row, reason);
  turn.move(row, 'cancel', reason);
}

/** Over, wherever it is thought to be. An agent that still holds slots for it gives them back when it attaches. */
function endUnplaced(
  turn: Turn,
  row: SessionRow,
  generation: number,
  event: 'end' | 'fail',
  reason: NonNullable<SessionRow['reason']>,
): void {
  if (row.state === 'PENDING') {
    row.generation = Math.max(row.generation, generation);
    turn.move(row, 'place', lost);
  }
  finish(turn, row, event, reason);
}

/** Has every agent remove what it holds of a session that is unknown here. False when none holds any. */
export function endOrphan(turn: Turn, sessionId: string): boolean {
  let isHeld = false;
  for (const { agentId, items } of turn.store.orphans()) {
    const entry = turn.heap.agents.get(agentId);
    const held = items.filter((item) => item.sessionId === sessionId);
    if (!entry || held.length === 0 || turn.session(sessionId)) continue;
    isHeld = true;
    for (const item of held) turn.orderRemoval(entry, item);
    turn.store.putOrphans(
      agentId,
      items.filter((item) => item.sessionId !== sessionId),
    );
  }
  return isHeld;
}

/** Raises the version to at least `version`, with a row of history for each number. */
function noteLost(row: SessionRow, version: number, atMs: number): void {
  const { state, generation, agentId } = row;
  row.version = Math.max(row.version, version - notedVersions);
  while (row.version < version) {
    row.version += 1;
    const step = { version: row.version, state, generation, atMs, reason: lost };
    row.trail.push(agentId === null ? step : { ...step, agentId });
  }
}

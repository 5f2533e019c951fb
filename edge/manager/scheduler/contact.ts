/** An agent comes, is looked for, is lost: what that means for its sessions, and when the loss becomes a new placement. */
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { Intent } from '../../../schema/protocol/intents.ts';
import type { InventoryItem, ToEdgeHello } from '../../../schema/protocol/messages.ts';
import type { AgentLiveness } from '../../tunnel/rpc.ts';
import { judgeItem, judgeJoin, nextEpoch } from './attach.ts';
import { finish, giveUp, removeAgain } from './dispatch.ts';
import { type AgentEntry, capacityOf, isWatched, newEntry } from './heap.ts';
import { deadlineAfterMs } from './lifecycle.ts';
import { newAgentRow } from './new-rows.ts';
import { putOn } from './put-on.ts';
import type { AttachAnswer, EnrolledAgent } from './rpc.ts';
import { holds } from './slots.ts';
import type { Turn } from './turn.ts';

/** Most intents of one agent that ride behind its welcome; the alarm sends the rest. */
const intentsAtAttach = 500;
/** In place of the incarnation in which an agent attached last: no ledger has it, so any join counter is taken once. */
const approvedAnew = 0;

/** Adds an agent, or takes over what the catalogue decided about it. What comes late undoes no revocation and no approval. */
export function putAgent(turn: Turn, agent: EnrolledAgent): void {
  const known = turn.heap.agents.get(agent.agentId);
  if (!known) {
    const entry = newEntry(newAgentRow(agent));
    turn.store.insertAgent(entry.row);
    turn.heap.agents.set(agent.agentId, entry);
    return;
  }
  if (known.row.state === 'revoked') return;
  if (agent.state !== 'revoked' && agent.approval < known.row.approval) return;
  const row = turn.touch(known);
  const before = { state: row.state, capacity: capacityOf(row), draining: row.draining };
  const { name, controlHub, approved, draining, approval } = agent;
  // The catalogue does not know of a suspension by the ledger; only a new approval lifts it.
  const stays = before.state === 'suspended' && agent.state === 'active' && approval <= row.approval;
  const state = stays ? 'suspended' : agent.state;
  Object.assign(row, { name, controlHub, approved, state, draining, approval });
  if (state === 'active' && before.state !== 'active') {
    row.reason = null;
    // Approved anew: the next hello is taken at any join counter.
    if (before.state === 'suspended') row.joinIncarnation = approvedAnew;
  }
  if (state === 'revoked') revoke(turn, known);
  else if (state !== 'active' && row.reachable) loseAgent(turn, known, `the agent is ${state}`);
  else turn.reindex(known, before.draining || !holds(before.capacity, capacityOf(row)));
}

/** Sessions whose current placement is on this agent and that have not ended. */
function* placedOn(turn: Turn, agentId: string): Generator<SessionRow> {
  for (const { sessionId, generation } of turn.store.reservations(agentId)) {
    const row = turn.session(sessionId);
    if (row && row.agentId === agentId && row.generation === generation && row.endedAtMs === null) yield row;
  }
}

/** Declares an agent out of reach. Its sockets are closed by a fence; leases run out counted from the confirmation. */
export function loseAgent(turn: Turn, entry: AgentEntry, why: string): void {
  const row = turn.touch(entry);
  if (!row.reachable) return;
  row.reachable = false;
  row.silentSinceMs = null;
  row.lastSeenAtMs = entry.seenAtMs ?? row.connectedAtMs;
  row.fencing = true;
  turn.heap.fencing.add(row.agentId);
  row.fencedAtMs = null;
  row.reason = why;
  turn.reindex(entry, false);
  for (const session of placedOn(turn, row.agentId))
    turn.move(session, 'loseContact', { code: 'agent-unreachable', detail: `${row.name}: ${why}` });
  askFence(turn, entry);
}

/** Asks the hubs to close what the agent has open. Repeated by the alarm until confirmed. */
export function askFence(turn: Turn, entry: AgentEntry): void {
  const { agentId, controlHub, epoch } = entry.row;
  if (epoch !== null) turn.effects.push({ kind: 'fence', controlHub, agentId, epoch });
}

/** The sockets are closed: from here on leases run out. What was never sent goes back to the queue at once. */
export function fenced(turn: Turn, agentId: string, epoch: number): void {
  const entry = turn.heap.agents.get(agentId);
  if (!entry || entry.row.epoch !== epoch || !entry.row.fencing) return;
  const row = turn.touch(entry);
  row.fencing = false;
  turn.heap.fencing.delete(agentId);
  row.fencedAtMs = turn.nowMs;
  for (const session of placedOn(turn, agentId)) {
    if (takeBack(turn, entry, session, 'the agent went out of reach before the order was sent')) continue;
    if (session.leaseMs === null || session.state !== 'UNREACHABLE') continue;
    const { leaseFactor, fenceMarginMs } = turn.timers;
    turn.setDeadline(session, session.leaseMs * leaseFactor + fenceMarginMs);
  }
}

/** Sends a session back to the queue when its `create` can not have reached the agent. */
export function takeBack(turn: Turn, entry: AgentEntry, session: SessionRow, why: string): boolean {
  const create = entry.intents.find(
    ({ sessionId, generation, order }) =>
      order.kind === 'create' && sessionId === session.sessionId && generation === session.generation,
  );
  if (!create) return false;
  const sending = turn.heap.sendings.get(create.intentId);
  if (!sending || sending.reached || sending.inFlight > 0) return false;
  turn.dropIntents(entry, (intent) => intent.sessionId === session.sessionId);
  turn.release(entry.row.agentId, session, session.generation);
  if (session.stop) finish(turn, session, 'end', { code: session.stop.reason });
  else giveUp(turn, session, { reason: { code: 'start-failed', detail: why }, pauseMs: 0, ended: true });
  return true;
}

/** The key is no longer good: nothing more is heard of the agent. What restarts waits out its lease, all else is over. */
function revoke(turn: Turn, entry: AgentEntry): void {
  loseAgent(turn, entry, 'the agent was revoked');
  turn.dropIntents(entry, () => true);
  for (const { sessionId, generation } of turn.store.reservations(entry.row.agentId)) {
    const session = turn.session(sessionId);
    if (!session) continue;
    const isCurrent = session.agentId === entry.row.agentId && session.generation === generation;
    if (isCurrent && session.endedAtMs === null && session.leaseMs !== null) continue;
    turn.release(entry.row.agentId, session, generation);
    if (isCurrent && session.endedAtMs === null)
      finish(turn, session, 'end', { code: 'agent-revoked', detail: entry.row.name });
  }
  turn.reindex(entry, false);
}

/** A control socket asks to be the agent's. `openedAtMs`: when, by the clock of its hub. */
export function attach(
  turn: Turn,
  agentId: string,
  controlHub: string,
  hello: ToEdgeHello,
  openedAtMs: number,
): AttachAnswer {
  const entry = turn.heap.agents.get(agentId);
  if (!entry) return { accepted: false, code: 'agent_not_found', detail: 'This resource group has no such agent.' };
  if (entry.row.controlHub !== controlHub)
    return { accepted: false, code: 'agent_not_found', detail: `The agent belongs to hub ${entry.row.controlHub}.` };
  const verdict = judgeJoin(entry.row, turn.meta, hello, { openedAtMs, nowMs: turn.nowMs });
  if (verdict.kind === 'suspend') {
    turn.touch(entry).state = 'suspended';
    loseAgent(turn, entry, verdict.detail);
    entry.row.reason = verdict.detail;
  }
  if (verdict.kind !== 'accept') {
    const { kind: _, ...refusal } = verdict;
    return { accepted: false, ...refusal };
  }
  accept(turn, entry, hello);
  const { row } = entry;
  const dataHub = turn.ports.dataHub(agentId);
  const epoch = row.epoch ?? 0;
  return {
    accepted: true,
    epoch,
    dataHub,
    dataTicket: turn.ports.dataTicket(agentId, epoch, dataHub),
    ackedIndex: row.ackedIndex,
    answer: { destroy: reconcile(turn, entry, hello.inventory) },
    intents: [],
  };
}

function accept(turn: Turn, entry: AgentEntry, hello: ToEdgeHello): void {
  const row = turn.touch(entry);
  const { epoch, meta } = nextEpoch(turn.meta);
  turn.putMeta(meta);
  // The hub that it came to, and it may come to no other, closes the control socket that this one replaces.
  if (row.epoch !== null) turn.effects.push({ kind: 'fence', agentId: row.agentId, epoch: row.epoch });
  row.epoch = epoch;
  row.joinCounter = hello.counter;
  row.attemptId = hello.attemptId;
  // What was confirmed to a copy was confirmed under the numbers of the original: it tells anew how its sessions stand.
  const isApprovedAnew = row.joinIncarnation === approvedAnew;
  if (row.journalId !== hello.journalId || isApprovedAnew) row.ackedIndex = 0;
  row.joinIncarnation = meta.incarnation;
  row.journalId = hello.journalId;
  row.offered = hello.capacity;
  row.agentVersion = hello.agentVersion;
  row.reachable = true;
  row.reason = null;
  row.silentSinceMs = null;
  row.fencing = false;
  turn.heap.fencing.delete(row.agentId);
  row.fencedAtMs = null;
  row.connectedAtMs = turn.nowMs;
  row.lastSeenAtMs = turn.nowMs;
  entry.seenAtMs = turn.nowMs;
  turn.store.putImages(row.agentId, hello.images);
  if (isWatched(entry)) turn.watch(entry);
  // What it has not acknowledged goes out with its welcome; the pauses begin anew.
  turn.heap.nextResendMs = Math.min(turn.heap.nextResendMs, turn.nowMs + turn.timers.intentFirstMs);
  turn.reindex(entry, true);
  for (const session of placedOn(turn, row.agentId)) turn.move(session, 'regainContact', { code: 'agent-returned' });
}

/** Judges an inventory, item by item, and notices what it lacks. Answers what the agent has to destroy. */
function reconcile(turn: Turn, entry: AgentEntry, inventory: readonly InventoryItem[]) {
  const { agentId } = entry.row;
  const destroy: { sessionId: string; generation: number }[] = [];
  const orphans: InventoryItem[] = [];
  const present = new Set<string>();
  for (const item of inventory) {
    const { sessionId, generation } = item;
    present.add(`${sessionId} ${generation}`);
    const session = turn.session(sessionId);
    const verdict = judgeItem(item, session, agentId, turn.meta);
    if (verdict === 'keep' && !session) orphans.push(item);
    if (verdict === 'keep' && session?.again) isThere(turn, session, item, agentId);
    if (verdict === 'destroy') destroy.push({ sessionId, generation });
    // By itself the agent destroys only what is old, and a wall clock that was set back makes it young.
    if (verdict === 'destroy' && session && session.endedAtMs !== null && item.state !== 'ended')
      removeAgain(turn, entry, session, generation);
    if (verdict === 'adopt') adopt(turn, entry, item);
  }
  // Only a restored ledger spares what it does not know: others write nothing here.
  if (turn.meta.restoredAtMs !== null) turn.store.putOrphans(agentId, orphans);
  for (const { sessionId, generation } of turn.store.reservations(agentId)) {
    const session = turn.session(sessionId);
    if (session && !present.has(`${sessionId} ${generation}`)) lacks(turn, entry, session, generation);
  }
  return destroy;
}

/** What an earlier inventory lacked, and this one has, is not awaited any more. */
function isThere(turn: Turn, session: SessionRow, { generation, state }: InventoryItem, agentId: string): void {
  const isCurrent = session.agentId === agentId && session.generation === generation;
  if (!isCurrent || state === 'ended' || session.state === 'TERMINATING') return;
  session.again = null;
  turn.setDeadline(session, deadlineAfterMs(session.state, turn.timers));
}

/** After a restore: the agent has a placement that this ledger does not remember having made. */
function adopt(turn: Turn, entry: AgentEntry, item: InventoryItem): void {
  const row = turn.session(item.sessionId);
  const reason = { code: 'adopted', detail: 'found on the agent after a restore' };
  if (row) putOn(turn, entry, row, item.generation, item.state === 'present' ? 'journal' : 'run', reason);
}

/** A reservation that the inventory does not show: free when it is of the past, else an event has to explain it soon. */
function lacks(turn: Turn, entry: AgentEntry, session: SessionRow, generation: number): void {
  const isCurrent = session.agentId === entry.row.agentId && session.generation === generation;
  if (!isCurrent || session.endedAtMs !== null) {
    turn.release(entry.row.agentId, session, generation);
    return;
  }
  const isOrdered = entry.intents.some(
    (intent) =>
      intent.sessionId === session.sessionId && intent.generation === generation && intent.order.kind === 'create',
  );
  if (isOrdered) return;
  const reason = { code: 'host-lost', detail: 'the agent no longer has it' };
  session.again = { reason, notBeforeMs: turn.nowMs, ended: true };
  turn.setDeadline(session, turn.timers.missingMs);
}

/** What a hub says of its agents' sockets. `asked` agents that it does not name have none. */
export function seen(turn: Turn, asked: readonly string[], sockets: Record<string, AgentLiveness>): void {
  for (const agentId of asked) {
    const entry = turn.heap.agents.get(agentId);
    if (!entry?.row.reachable) continue;
    const socket = sockets[agentId];
    const mine = socket && !socket.closing && socket.epoch === entry.row.epoch ? socket : undefined;
    if (mine && mine.silentMs < turn.timers.silentMs) {
      entry.seenAtMs = turn.nowMs - mine.silentMs;
      trust(turn, entry);
    } else if (mine) loseAgent(turn, entry, `no ping for ${Math.round(mine.silentMs / 1000)} s`);
    else if (hasSettled(turn, entry)) doubt(turn, entry);
  }
}

/** False while the agent's hub may not have read the answer to its attach: that it knows no socket says nothing yet. */
export function hasSettled(turn: Turn, { row }: AgentEntry): boolean {
  return turn.nowMs - (row.connectedAtMs ?? 0) >= turn.timers.attachSettlesMs;
}

function trust(turn: Turn, entry: AgentEntry): void {
  if (entry.row.silentSinceMs === null) return;
  turn.touch(entry).silentSinceMs = null;
  turn.reindex(entry, true);
}

/** No socket: nothing new goes there, and after the silence it is lost. */
export function doubt(turn: Turn, entry: AgentEntry): void {
  const { silentSinceMs } = entry.row;
  if (silentSinceMs === null) {
    turn.touch(entry).silentSinceMs = turn.nowMs;
    turn.watch(entry);
    turn.reindex(entry, false);
  } else if (turn.nowMs - silentSinceMs >= turn.timers.silentMs) loseAgent(turn, entry, 'no connection');
}

/** The intents that go out with a welcome. */
export function intentsBehindWelcome(turn: Turn, agentId: string): Intent[] {
  const entry = turn.heap.agents.get(agentId);
  if (!entry) return [];
  turn.toSend.delete(agentId);
  return entry.intents.slice(0, intentsAtAttach).map((row) => {
    turn.heap.sendings.set(row.intentId, { atMs: turn.nowMs, inFlight: 0, reached: true });
    return toIntent(turn, row);
  });
}

/** An order as the agent gets it: `create` with its spec, pinned to the content that an earlier generation ran. */
export function toIntent(turn: Turn, row: AgentEntry['intents'][number]): Intent {
  const { intentId, sessionId, generation, seq, order } = row;
  if (order.kind !== 'create') return { intentId, sessionId, generation, seq, order };
  const spec = turn.spec(sessionId);
  const imageDigest = turn.session(sessionId)?.imageDigest ?? undefined;
  return {
    intentId,
    sessionId,
    generation,
    seq,
    order: { kind: 'create', spec: imageDigest === undefined ? spec : { ...spec, imageDigest } },
  };
}

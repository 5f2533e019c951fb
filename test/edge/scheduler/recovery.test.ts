/** A ledger that lost something: what it believes of the read model, what of its agents, and what it waits for. */
import { describe, expect, it } from 'vitest';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import { FakeAgent, group, World } from './world.ts';

/** The read model's row of a session, as a ledger that knew it told it. */
function listed(world: World, sessionId: string, change: Partial<SessionRow> = {}): SessionRow {
  const session = world.ledger.view.get(sessionId);
  if (!session) throw new Error(`${sessionId} is not there`);
  const { domainId, projectId, ownerId, createdAtMs, state, version, generation, spec } = session;
  return {
    id: sessionId,
    domainId,
    projectId,
    ownerId,
    name: spec.name,
    type: spec.type,
    groupNumber: group,
    createdAtMs,
    state,
    version,
    generation,
    reason: session.reason ?? null,
    agentId: session.agentId ?? null,
    agentName: session.agentName ?? null,
    imageDigest: null,
    startedAtMs: session.startedAtMs ?? null,
    endedAtMs: session.endedAtMs ?? null,
    result: session.result ?? null,
    spec,
    history: null,
    ...change,
  };
}

/** The same agent before a ledger that knows nothing. */
function lostLedger(agents: readonly FakeAgent[]): World {
  const empty = new World();
  empty.nowMs = (agents[0]?.world.nowMs ?? empty.nowMs) + 60_000;
  empty.ledger.restored(group, 0);
  for (const agent of agents) {
    (agent as { world: World }).world = empty;
    agent.put({});
  }
  return empty;
}

describe('a ledger that was lost', () => {
  it('has its sessions again from the read model, where they ran, and what its agents hold is adopted', () => {
    const world = new World();
    const [one, two] = [new FakeAgent(world), new FakeAgent(world)];
    one.attach();
    const ids = [world.admit(), world.admit(), world.admit()];
    for (const id of ids) one.run(id);
    const rows = ids.map((id) => listed(world, id));
    const empty = lostLedger([one, two]);
    expect(empty.ledger.believe(rows)).toEqual(['believed', 'believed', 'believed']);
    expect(empty.state(ids[0]!)).toBe('UNREACHABLE');
    one.renewJournal();
    one.attach(one.holding([ids[0]!, 1], [ids[1]!, 1]));
    two.attach(two.holding([ids[2]!, 2]));
    expect(empty.ledger.view.get(ids[0]!)).toMatchObject({ state: 'RUNNING', generation: 1, agentId: one.agentId });
    expect(empty.ledger.view.get(ids[2]!)).toMatchObject({ state: 'RUNNING', generation: 2, agentId: two.agentId });
    one.tell(ids[1]!, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    expect(empty.state(ids[1]!)).toBe('TERMINATED');
    for (const id of ids) {
      const versions = (empty.ledger.view.history(id) ?? []).map(({ version }) => version);
      expect(versions).toEqual(versions.map((_, at) => at + 1));
    }
    empty.checkReservations();
  });

  it('ends what its agent no longer holds', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit({ type: 'interactive' });
    agent.run(id);
    const row = listed(world, id);
    const empty = lostLedger([agent]);
    empty.ledger.believe([row]);
    agent.attach([]);
    empty.pass(empty.timers.missingMs + 1000, agent.alive);
    expect(empty.ledger.view.get(id)).toMatchObject({ state: 'TERMINATED', reason: { code: 'host-lost' } });
  });

  it('places nothing that waited before every agent has said what it holds, and then above what may have begun', () => {
    const world = new World();
    const [one, two] = [new FakeAgent(world), new FakeAgent(world)];
    const [held, waits] = [world.admit(), world.admit()];
    const rows = [held, waits].map((id) => listed(world, id));
    const empty = lostLedger([one, two]);
    empty.ledger.believe(rows);
    one.attach([]);
    expect([empty.state(held), empty.state(waits)]).toEqual(['PENDING', 'PENDING']);
    two.attach(two.holding([held, 1]));
    expect(empty.ledger.view.get(held)).toMatchObject({ state: 'RUNNING', generation: 1, agentId: two.agentId });
    expect(empty.ledger.view.get(waits)).toMatchObject({ state: 'SCHEDULED', generation: 2 });
  });

  it('does not wait for ever for an agent that stays away; when it comes, the older generation goes', () => {
    const world = new World();
    const [one, two] = [new FakeAgent(world), new FakeAgent(world)];
    const id = world.admit();
    const row = listed(world, id);
    const empty = lostLedger([one, two]);
    empty.ledger.believe([row]);
    one.attach([]);
    empty.pass(empty.timers.restoreSettleMs + 1000, one.alive);
    expect(empty.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2, agentId: one.agentId });
    const { answer } = two.attach(two.holding([id, 1]));
    expect(answer.destroy).toEqual([{ sessionId: id, generation: 1 }]);
    const fresh = empty.admit();
    expect(empty.ledger.view.get(fresh)).toMatchObject({ state: 'SCHEDULED', generation: 1 });
  });
});

describe('a ledger of an hour ago', () => {
  it('follows the read model: ended, placed again elsewhere, back in the queue', () => {
    const world = new World();
    const [one, two] = [new FakeAgent(world), new FakeAgent(world)];
    one.attach();
    two.attach();
    const ids = [world.admit(), world.admit({ leaseMs: 600_000 }), world.admit({ leaseMs: 600_000 })];
    for (const id of ids) one.run(id);
    const [ended, moved, queued] = ids as [string, string, string];
    const endedAtMs = world.nowMs + 1;
    world.ledger.restored(group, world.nowMs - 3_600_000);
    const answers = world.ledger.believe([
      listed(world, ended, { version: 20, state: 'TERMINATED', endedAtMs, result: { reason: 'exited', exitCode: 3 } }),
      listed(world, moved, { version: 21, state: 'RUNNING', generation: 2, agentId: two.agentId }),
      listed(world, queued, { version: 22, state: 'PENDING', generation: 3, agentId: null }),
    ]);
    expect(answers).toEqual(['believed', 'believed', 'believed']);
    expect(world.ledger.view.get(ended)).toMatchObject({ state: 'TERMINATED', result: { exitCode: 3 } });
    expect(world.ledger.view.get(ended)?.version).toBeGreaterThan(20);
    expect(world.ledger.view.get(moved)).toMatchObject({ state: 'UNREACHABLE', generation: 2, agentId: two.agentId });
    expect(world.ledger.view.get(queued)).toMatchObject({ state: 'PENDING', generation: 3 });
    one.attach([]);
    two.attach(two.holding([moved, 2]));
    expect(world.ledger.view.get(moved)).toMatchObject({ state: 'RUNNING', generation: 2, agentId: two.agentId });
    expect(world.ledger.view.agents().find(({ agentId }) => agentId === one.agentId)?.sessions).toBe(
      world.ledger.view.get(queued)?.agentId === one.agentId ? 1 : 0,
    );
    world.checkReservations();
  });

  it('believes nothing that is not newer than its own, and nothing that it rightly forgot', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    const row = listed(world, id, { state: 'TERMINATED', endedAtMs: 1 });
    const other = new World();
    other.ledger.setClosing(group, false);
    expect(world.ledger.believe([row])).toEqual(['known']);
    expect(world.state(id)).toBe('RUNNING');
    expect(other.ledger.believe([listed(world, id)])).toEqual(['forgotten']);
  });
});

it('orders of a restored ledger stand above every order that it forgot', () => {
  const world = new World();
  const agent = new FakeAgent(world);
  agent.attach();
  const id = world.admit();
  agent.run(id);
  const before = world.store.session(id)?.seq ?? 0;
  world.ledger.restored(group, world.nowMs - 1000);
  agent.attach(agent.holding([id, 1]));
  world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'user' });
  const [stop] = agent.receive().filter(({ order }) => order.kind === 'stop');
  expect(stop?.seq).toBeGreaterThan(before + 1_000_000);
  expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATING', generation: 1 });
});

it('shows what its agents hold of sessions that it forgot, spares it, and ends it when somebody says so', () => {
  const world = new World();
  const agent = new FakeAgent(world);
  agent.attach();
  const forgotten = world.session().sessionId;
  world.ledger.restored(group, world.nowMs - 60_000);
  expect(agent.attach(agent.holding([forgotten, 3])).answer.destroy).toEqual([]);
  world.crash();
  expect(world.ledger.view.orphans()).toMatchObject([{ sessionId: forgotten, generation: 3, agentId: agent.agentId }]);
  expect(world.ledger.endOrphan(world.session().sessionId)).toBe(false);
  expect(world.ledger.endOrphan(forgotten)).toBe(true);
  expect(agent.acknowledge()).toMatchObject([{ sessionId: forgotten, generation: 3, order: { kind: 'remove' } }]);
  expect(world.ledger.view.orphans()).toEqual([]);
});

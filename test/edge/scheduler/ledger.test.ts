/** The ledger's core, moved by hand: queue, placement, events, stops, starts that fail. */
import { describe, expect, it } from 'vitest';
import { FakeAgent, group, World } from './world.ts';

const gib = 1024 ** 3;

describe('the queue', () => {
  it('places at once what fits, and in order of birth what does not', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const ids = Array.from({ length: 6 }, () => world.admit());
    expect(ids.map((id) => world.state(id))).toEqual([
      ...Array<string>(4).fill('SCHEDULED'),
      ...Array<string>(2).fill('PENDING'),
    ]);
    world.checkReservations();
    agent.run(ids[0]!);
    agent.tell(ids[0]!, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    expect(ids.slice(4).map((id) => world.state(id))).toEqual(['SCHEDULED', 'PENDING']);
    world.checkReservations();
  });

  it('lets smaller sessions pass one that fits nowhere', () => {
    const world = new World();
    new FakeAgent(world).attach();
    const large = world.admit({ slots: { cpu: 8000, mem: gib } });
    const small = world.admit();
    expect([world.state(large), world.state(small)]).toEqual(['PENDING', 'SCHEDULED']);
  });

  it('says why a session waits, what comes nearest, and its place', () => {
    const world = new World();
    const first = world.admit();
    expect(world.ledger.view.get(first)?.reason).toMatchObject({ code: 'no_agents' });
    const agent = new FakeAgent(world);
    expect(world.ledger.view.get(first)?.reason).toMatchObject({ code: 'agents_unreachable' });
    agent.attach();
    expect(world.state(first)).toBe('SCHEDULED');
    const large = world.admit({ slots: { cpu: 64_000, mem: gib } });
    expect(world.ledger.view.get(large)?.reason).toMatchObject({
      code: 'larger_than_agents',
      detail: expect.stringContaining('needs 64 cpu, has 4 cpu') as string,
    });
    const busy = world.admit({ slots: { cpu: 4000, mem: gib } });
    const reason = world.ledger.view.get(busy)?.reason;
    expect(reason?.code).toBe('busy_cpu');
    expect(reason?.detail).toContain('1 wait before it');
    expect(reason?.detail).toContain('needs 4 cpu, has 3 cpu');
    agent.put({ draining: true });
    expect(world.ledger.view.get(busy)?.reason?.code).toBe('agents_draining');
  });

  it('takes the same session once, whatever admission repeats', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const session = world.session();
    expect(world.ledger.admit(group, [session, session])).toEqual(['accepted', 'accepted']);
    world.crash();
    expect(world.ledger.admit(group, [session])).toEqual(['accepted']);
    expect(world.ledger.view.agents()[0]?.sessions).toBe(1);
    agent.run(session.sessionId);
    agent.tell(session.sessionId, 1, { kind: 'ended', reason: 'exited' });
    expect(world.ledger.admit(group, [session])).toEqual(['accepted']);
    expect(world.state(session.sessionId)).toBe('TERMINATED');
  });

  it('belongs to one group for ever, and takes nothing when it is closing', () => {
    const world = new World();
    const id = world.admit();
    expect(() => world.ledger.admit(8, [world.session()])).toThrow(/belongs to group 7/);
    expect(world.ledger.setClosing(group, true)).toEqual({ empty: false });
    expect(world.ledger.admit(group, [world.session()])).toEqual(['closed']);
    world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    expect(world.ledger.setClosing(group, true)).toEqual({ empty: true });
  });

  it('counts only what was approved of an agent, and grows with the approval', () => {
    const world = new World();
    const agent = new FakeAgent(world, { cpu: 1000, mem: gib });
    agent.attach([], { cpu: 1_000_000, mem: 64 * gib, 'cuda.device': 8 });
    const ids = [world.admit(), world.admit()];
    expect(ids.map((id) => world.state(id))).toEqual(['SCHEDULED', 'PENDING']);
    expect(world.ledger.view.shape()).toEqual({ agents: 1, totals: [{ cpu: 1000, mem: gib }] });
    agent.put({ approved: { cpu: 2000, mem: 2 * gib } });
    expect(world.state(ids[1]!)).toBe('SCHEDULED');
  });

  it('goes on with a long queue by its alarm, within a budget for each turn', () => {
    const world = new World();
    const ids = Array.from({ length: 900 }, () => world.admit({ slots: { cpu: 10, mem: 1024 } }));
    const agent = new FakeAgent(world);
    agent.attach();
    const placed = () => ids.filter((id) => world.state(id) !== 'PENDING').length;
    expect(placed()).toBeGreaterThan(0);
    expect(placed()).toBeLessThan(900);
    world.pass(5_000, agent.alive);
    expect(ids.filter((id) => world.state(id) === 'PENDING')).toEqual(ids.slice(400));
  });
});

describe('events', () => {
  it('[M7] ignores an index that it has, and refuses a hole', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.acknowledge();
    const event = (kind: 'pulling' | 'creating') => ({
      sessionId: id,
      generation: 1,
      atMs: 0,
      body: { kind },
    });
    const send = (...list: [number, 'pulling' | 'creating'][]) =>
      world.ledger.events(
        agent.agentId,
        agent.epoch,
        agent.journalId,
        list.map(([index, kind]) => ({ index, event: event(kind) })),
      );
    expect(send([2, 'creating'])).toEqual({ ackedIndex: 0 });
    expect(world.state(id)).toBe('PREPARING');
    expect(send([1, 'pulling'])).toEqual({ ackedIndex: 1 });
    expect(send([1, 'creating'], [2, 'creating'])).toEqual({ ackedIndex: 2 });
    expect(world.states(id).filter((state) => state === 'CREATING')).toHaveLength(1);
  });

  it('[M3] refuses a stale epoch and another journal', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const old = agent.epoch;
    agent.attach();
    expect(agent.epoch).toBeGreaterThan(old);
    const id = world.admit();
    const event = { sessionId: id, generation: 1, atMs: 0, body: { kind: 'pulling' as const } };
    expect(world.ledger.events(agent.agentId, old, agent.journalId, [{ index: 1, event }])).toBe('stale');
    expect(world.ledger.events(agent.agentId, agent.epoch, 'jrn_other', [{ index: 1, event }])).toBe('stale');
    expect(world.state(id)).toBe('SCHEDULED');
  });

  it('lets an agent change nothing but the placement that it holds', () => {
    const world = new World();
    const [mine, other] = [new FakeAgent(world, { cpu: 1000, mem: gib }), new FakeAgent(world)];
    mine.attach();
    const id = world.admit();
    other.attach();
    other.tell(id, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    mine.tell(id, 2, { kind: 'ended', reason: 'exited', exitCode: 0 });
    mine.tell('ses_00000000000000000000000000_7_1', 1, { kind: 'ended', reason: 'exited' });
    expect(world.state(id)).toBe('SCHEDULED');
    expect(world.ledger.view.agents().map(({ sessions }) => sessions)).toEqual([1, 0]);
  });

  it('tells the outcome with the reason of the agent, and orders the agent to clean up', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    agent.tell(id, 1, { kind: 'ended', reason: 'oom', exitCode: 137 });
    expect(world.ledger.view.get(id)).toMatchObject({
      state: 'TERMINATED',
      reason: { code: 'oom' },
      result: { reason: 'oom', exitCode: 137 },
    });
    expect(agent.acknowledge()).toMatchObject([{ sessionId: id, generation: 1, order: { kind: 'remove' } }]);
    expect(world.ledger.view.agents()[0]).toMatchObject({ sessions: 0, reserved: {} });
  });

  it('keeps a contiguous history however long it gets', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    for (let round = 0; round < 40; round += 1) {
      world.ledger.detached(agent.agentId, agent.epoch);
      world.pass(60_000, agent.gone);
      expect(world.state(id)).toBe('UNREACHABLE');
      agent.attach(agent.holding([id, 1]));
      expect(world.state(id)).toBe('RUNNING');
    }
    const history = world.ledger.view.history(id) ?? [];
    expect(history.map(({ version }) => version)).toEqual(history.map((_, at) => at + 1));
    expect(history.length).toBe(5 + 80);
    expect(world.store.session(id)!.trail.length).toBeLessThanOrEqual(32);
  });
});

describe('starts that fail', () => {
  const failed = { kind: 'failed', code: 'session_start_failed', detail: 'no space left', retryable: true } as const;

  it('are tried again on another agent, at most three times', () => {
    const world = new World();
    const agents = [new FakeAgent(world), new FakeAgent(world), new FakeAgent(world)];
    for (const agent of agents) agent.attach();
    const id = world.admit();
    const tried = new Set<string>();
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const session = world.ledger.view.get(id)!;
      expect(session).toMatchObject({ state: 'SCHEDULED', generation: attempt });
      tried.add(session.agentId!);
      const agent = agents.find(({ agentId }) => agentId === session.agentId)!;
      agent.acknowledge();
      agent.tell(id, attempt, failed);
      if (attempt < 3) expect(world.state(id)).toBe('TERMINATING');
      world.pass(20_000, (effect) => agents.forEach((each) => each.alive(effect)));
    }
    expect(tried.size).toBe(3);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'ERROR', reason: { code: 'session_start_failed' } });
    world.checkReservations();
    expect(world.ledger.view.agents().every(({ sessions }) => sessions === 0)).toBe(true);
  });

  it('end at once when no other try can help', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'failed', code: 'session_image_missing', detail: 'no such image', retryable: false });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'ERROR', reason: { code: 'session_image_missing' } });
  });

  it('are noticed by the ledger when an agent makes no progress: stopped, confirmed, then tried again', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'creating' });
    world.pass(world.timers.creatingMs + 15_000, agent.alive);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATING', reason: { code: 'start-failed' } });
    world.pass(30_000, agent.alive);
    expect(world.state(id)).toBe('TERMINATING');
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'ended', reason: 'killed' });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2 });
    // How the former placement ended says nothing of this one.
    expect(world.ledger.view.get(id)).not.toHaveProperty('result');
  });

  it('a pull that makes progress is not overdue', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'pulling' });
    for (let round = 0; round < 10; round += 1) {
      world.pass(world.timers.pullingMs / 2 + 1000, agent.alive);
      world.ledger.progress(agent.agentId, agent.epoch, {
        sessionId: id,
        generation: 1,
        phase: 'pulling',
        detail: 'layer 2 of 9',
        doneBytes: round,
        totalBytes: 10,
      });
    }
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'PULLING', progress: { detail: 'layer 2 of 9' } });
    world.pass(world.timers.pullingMs + 15_000, agent.alive);
    expect(world.state(id)).toBe('TERMINATING');
  });
});

describe('stopping', () => {
  const stop = { graceMs: 10_000, force: false, reason: 'stopped' };

  it('cancels what waits, at once', () => {
    const world = new World();
    const id = world.admit();
    expect(world.ledger.terminate(id, stop)).toBe('accepted');
    expect(world.state(id)).toBe('CANCELLED');
    expect(world.ledger.terminate(id, stop)).toBe('ended');
    expect(world.ledger.terminate('ses_00000000000000000000000000_7_1', stop)).toBe('unknown');
  });

  it('orders the agent once, and once more when it is forced', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    world.ledger.terminate(id, stop);
    world.ledger.terminate(id, stop);
    expect(agent.acknowledge()).toMatchObject([{ order: { kind: 'stop', graceMs: 10_000, force: false } }]);
    world.ledger.terminate(id, { ...stop, force: true });
    expect(agent.acknowledge()).toMatchObject([{ order: { kind: 'stop', force: true } }]);
    agent.tell(id, 1, { kind: 'ended', reason: 'killed', signal: 'KILL' });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATED', reason: { code: 'killed' } });
  });

  it('becomes a kill by itself when the grace is long over', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    world.ledger.terminate(id, stop);
    agent.acknowledge();
    world.pass(stop.graceMs + world.timers.terminatingMs + 15_000, (effect) => {
      agent.alive(effect);
      if (effect.kind === 'intents') agent.intents.push(...effect.intents);
    });
    expect(agent.intents[0]).toMatchObject({ order: { kind: 'stop', force: true } });
    expect(new Set(agent.intents.map(({ intentId }) => intentId)).size).toBe(1);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATING', reason: { code: 'stop-overdue' } });
    world.ledger.terminate(id, { ...stop, force: true });
    expect(world.ledger.view.get(id)?.state).toBe('TERMINATED');
    // The agent never said that it is gone: its slots stay blocked until it does.
    expect(world.ledger.view.agents()[0]?.sessions).toBe(1);
    agent.tell(id, 1, { kind: 'ended', reason: 'killed' });
    expect(world.ledger.view.agents()[0]?.sessions).toBe(0);
  });

  it('orders a stop again whose end did not come, though it was acknowledged, and once at a time', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'running', containerId: 'c1' });
    world.ledger.terminate(id, { ...stop, force: true });
    agent.acknowledge();
    for (let round = 0; round < 2; round += 1) {
      world.pass(world.timers.pullingMs * 2 + 20_000, (effect) => {
        agent.alive(effect);
        if (effect.kind === 'intents') agent.intents.push(...effect.intents);
      });
      expect(new Set(agent.intents.map(({ intentId }) => intentId)).size).toBe(1);
      expect(agent.intents[0]).toMatchObject({
        generation: 1,
        order: { kind: 'stop', force: true, reason: 'stopped' },
      });
      agent.acknowledge();
    }
    agent.tell(id, 1, { kind: 'ended', reason: 'killed' });
    expect(world.state(id)).toBe('TERMINATED');
  });

  it('a stop during the start ends the session, whether the agent calls it ended or failed', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    for (const body of [
      { kind: 'ended', reason: 'stopped' } as const,
      { kind: 'failed', code: 'session_start_failed', detail: 'stopped', retryable: true } as const,
    ]) {
      const id = world.admit();
      world.ledger.terminate(id, stop);
      agent.acknowledge();
      agent.tell(id, 1, body);
      expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATED', reason: { code: 'stopped' } });
    }
  });

  it('purges an ended session on its agent, and once', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    agent.tell(id, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    agent.acknowledge();
    world.ledger.terminate(id, { ...stop, purge: true });
    world.ledger.terminate(id, { ...stop, purge: true });
    expect(agent.acknowledge()).toMatchObject([{ order: { kind: 'remove', purge: true } }]);
    expect(world.ledger.view.isPurged(id)).toBe(true);
  });

  it('purges a session on agents that it has left, too', () => {
    const world = new World();
    const lost = new FakeAgent(world);
    lost.attach();
    const ids = [world.admit({ leaseMs: 60_000 }), world.admit({ leaseMs: 60_000 })];
    for (const id of ids) lost.run(id);
    world.pass(3_600_000, lost.gone);
    expect(ids.map((id) => world.state(id))).toEqual(['PENDING', 'PENDING']);
    // One of them waits still, the other runs elsewhere.
    world.ledger.terminate(ids[0]!, { ...stop, purge: true });
    const next = new FakeAgent(world);
    next.attach();
    next.run(ids[1]!, 2);
    world.ledger.terminate(ids[1]!, { ...stop, purge: true });
    const { intents } = lost.attach(lost.holding(...ids.map((id): [string, number] => [id, 1])));
    const purged = intents.filter(({ order }) => order.kind === 'remove' && order.purge === true);
    expect(purged.map(({ sessionId }) => sessionId).toSorted()).toEqual(ids.toSorted());
    expect(purged.map(({ generation }) => generation)).toEqual([1, 1]);
  });

  it('forgets what is over behind any number of sessions that an agent never confirmed', () => {
    const world = new World();
    const lost = new FakeAgent(world, { cpu: 400_000, mem: 400 * gib });
    lost.attach();
    const held = Array.from({ length: 200 }, () => world.admit());
    for (const id of held) lost.run(id);
    world.pass(600_000, lost.gone);
    for (const id of held) world.ledger.terminate(id, { ...stop, force: true });
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    agent.tell(id, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    agent.acknowledge();
    const upto = world.ledger.lastOutboxSeq();
    world.ledger.delivered({ readModel: upto, events: upto, admission: upto });
    world.pass(world.timers.retentionMs + 2 * 3_600_000, agent.alive);
    expect([world.state(id), world.state(held[0]!)]).toEqual([undefined, 'TERMINATED']);
  });
});

describe('intents', () => {
  it('[M4] go out again with a doubling pause until they are acknowledged', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    world.admit();
    world.take('intents');
    const sentAtMs: number[] = [world.nowMs];
    for (let seconds = 0; seconds < 60; seconds += 1) {
      world.pass(1000, (effect) => {
        agent.alive(effect);
        if (effect.kind === 'intents') sentAtMs.push(world.nowMs);
      });
    }
    const pauses = sentAtMs.slice(1).map((at, before) => Math.round((at - sentAtMs[before]!) / 1000));
    expect(pauses.slice(0, 4)).toEqual([2, 2, 4, 8]);
  });

  it('are sent again after a crash, and with the next attach', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    world.crash();
    world.ledger.alarm();
    expect(agent.receive()).toMatchObject([{ sessionId: id, order: { kind: 'create' } }]);
    expect(agent.attach().intents).toMatchObject([{ sessionId: id, order: { kind: 'create' } }]);
  });

  it('that were never sent give the placement back, those that may have been do not', () => {
    const world = new World();
    const [one, two] = [new FakeAgent(world, { cpu: 1000, mem: gib }), new FakeAgent(world, { cpu: 1000, mem: gib })];
    one.attach();
    const id = world.admit();
    two.attach();
    const { intents, epoch } = world.take('intents')[0]!;
    world.ledger.sent(
      one.agentId,
      epoch,
      intents.map(({ intentId }) => intentId),
      'not_sent',
    );
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2, agentId: two.agentId });
    expect(world.states(id)).toEqual(['PENDING', 'SCHEDULED', 'TERMINATING', 'PENDING', 'SCHEDULED']);
    world.crash();
    world.ledger.alarm();
    const again = world.take('intents').find(({ agentId }) => agentId === two.agentId)!;
    world.ledger.sent(
      two.agentId,
      again.epoch,
      again.intents.map(({ intentId }) => intentId),
      'not_sent',
    );
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2 });
    world.checkReservations();
  });
});

/** Agents that go silent, come back, are revoked, or know more than a restored ledger. */
import { describe, expect, it } from 'vitest';
import { newId, newSessionId } from '../../../schema/ids.ts';
import { FakeAgent, group, World } from './world.ts';

const gib = 1024 ** 3;
const lease = 600_000;

/** A world with one agent that runs one session. */
function running(spec: Parameters<World['admit']>[0] = {}) {
  const world = new World();
  const agent = new FakeAgent(world);
  agent.attach();
  const id = world.admit(spec);
  agent.run(id);
  world.effects = [];
  return { world, agent, id };
}

describe('an agent that goes silent', () => {
  it('is out of reach within 45 s, its sessions with it, and is fenced', () => {
    const { world, agent, id } = running();
    const startMs = world.nowMs;
    let lostMs = 0;
    world.pass(60_000, (effect) => {
      agent.gone(effect);
      if (effect.kind === 'fence') lostMs ||= world.nowMs;
    });
    expect(world.state(id)).toBe('UNREACHABLE');
    expect(lostMs - startMs).toBeGreaterThan(0);
    expect(lostMs - startMs).toBeLessThanOrEqual(45_000);
    expect(world.ledger.view.agents()[0]).toMatchObject({ reachable: false });
  });

  it('is out of reach at once when its socket is there but gave no ping for 30 s', () => {
    const { world, agent, id } = running();
    const silent = { [agent.agentId]: { epoch: agent.epoch, silentMs: 30_000, closing: false } };
    world.ledger.seen([agent.agentId], silent);
    expect(world.state(id)).toBe('UNREACHABLE');
  });

  it('is not lost for a blink: a socket that is back in time changes nothing', () => {
    const { world, agent, id } = running();
    world.ledger.detached(agent.agentId, agent.epoch);
    world.pass(20_000, agent.gone);
    agent.attach(agent.holding([id, 1]));
    world.pass(60_000, agent.alive);
    expect(world.states(id).filter((state) => state === 'UNREACHABLE')).toHaveLength(0);
  });

  it('gets nothing new while its socket is missing', () => {
    const { world, agent } = running();
    world.ledger.detached(agent.agentId, agent.epoch);
    const waiting = world.admit();
    expect(world.state(waiting)).toBe('PENDING');
    world.ledger.seen([agent.agentId], { [agent.agentId]: { epoch: agent.epoch, silentMs: 0, closing: false } });
    expect(world.state(waiting)).toBe('SCHEDULED');
  });

  it('is found out though the ledger is evicted between any two of its alarms', () => {
    const { world, agent, id } = running();
    const startMs = world.nowMs;
    while (world.state(id) === 'RUNNING' && world.nowMs - startMs < 120_000) {
      world.crash();
      world.nowMs = Math.max(world.nowMs + 1, world.alarmMs ?? 0);
      world.ledger.alarm();
      for (const effect of world.effects.splice(0)) agent.gone(effect);
    }
    expect(world.state(id)).toBe('UNREACHABLE');
    expect(world.nowMs - startMs).toBeLessThanOrEqual(60_000);
  });

  it('has its sessions back in the states that they had, when it returns', () => {
    const { world, agent, id } = running();
    const starting = world.admit();
    agent.acknowledge();
    agent.tell(starting, 1, { kind: 'pulling' });
    world.pass(60_000, agent.gone);
    expect([world.state(id), world.state(starting)]).toEqual(['UNREACHABLE', 'UNREACHABLE']);
    agent.attach(agent.holding([id, 1], [starting, 1, 'present']));
    expect([world.state(id), world.state(starting)]).toEqual(['RUNNING', 'PULLING']);
  });

  it('never has an interactive session placed again by itself', () => {
    const { world, agent, id } = running({ type: 'interactive' });
    const other = new FakeAgent(world);
    other.attach();
    world.pass((7 * 86_400_000) / 100, (effect) => {
      agent.gone(effect);
      other.alive(effect);
    });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'UNREACHABLE', generation: 1 });
  });

  it('has restartable work placed again, no earlier than its lease and 30 s after the confirmed fence', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    const other = new FakeAgent(world);
    other.attach();
    let fencedMs: number | undefined;
    const hubs = (effect: Parameters<typeof agent.gone>[0]) => {
      if (effect.kind === 'liveness')
        world.ledger.seen(effect.agentIds, {
          [other.agentId]: { epoch: other.epoch, silentMs: 0, closing: false },
        });
      // The hub is down for five minutes: the fence is asked again and again, and the lease does not run yet.
      if (effect.kind === 'fence' && world.nowMs > lostMs + 300_000) {
        fencedMs ??= world.nowMs;
        world.ledger.fenced(effect.agentId, effect.epoch);
      }
    };
    let lostMs = Number.POSITIVE_INFINITY;
    world.pass(50_000, hubs);
    expect(world.state(id)).toBe('UNREACHABLE');
    lostMs = world.nowMs;
    world.pass(320_000, hubs);
    expect(fencedMs).toBeDefined();
    world.pass(fencedMs! + lease + 30_000 - world.nowMs - 2_000, hubs);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'UNREACHABLE', generation: 1 });
    world.pass(20_000, hubs);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2, agentId: other.agentId });
    const tail = world.ledger.view.history(id)!.slice(-3);
    expect(tail).toMatchObject([
      { state: 'TERMINATING', reason: { code: 'host-lost' } },
      { state: 'PENDING', generation: 2, reason: { code: 'host-lost' } },
      { state: 'SCHEDULED', generation: 2 },
    ]);
    // The old host keeps its slots blocked until it confirms, and is told to destroy what it has.
    expect(world.ledger.view.agents().map(({ sessions }) => sessions)).toEqual([1, 1]);
    const { answer, intents } = agent.attach(agent.holding([id, 1]));
    expect(answer.destroy).toEqual([{ sessionId: id, generation: 1 }]);
    expect(intents).toMatchObject([{ sessionId: id, generation: 1, order: { kind: 'remove' } }]);
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'removed' });
    expect(world.ledger.view.agents().find(({ agentId }) => agentId === agent.agentId)?.sessions).toBe(0);
    expect(world.state(id)).toBe('SCHEDULED');
    world.checkReservations();
  });

  it('removes what it runs though it is over, as a machine does whose copy was told so, and is told once', () => {
    const { world, agent, id } = running();
    world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'ended', reason: 'stopped' });
    expect(agent.acknowledge()).toMatchObject([{ sessionId: id, generation: 1, order: { kind: 'remove' } }]);
    agent.tell(id, 1, { kind: 'removed' });
    expect(agent.receive()).toEqual([]);
    for (let times = 2; times > 0; times--) agent.tell(id, 1, { kind: 'running', containerId: 'c' });
    expect(agent.acknowledge()).toMatchObject([{ sessionId: id, generation: 1, order: { kind: 'remove' } }]);
    expect(world.state(id)).toBe('TERMINATED');
    world.checkReservations();
  });

  it('removes what it shows as running though it is over, also when it says nothing more of it', () => {
    const { world, agent, id } = running();
    world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'ended', reason: 'stopped' });
    agent.acknowledge();
    agent.tell(id, 1, { kind: 'removed' });
    for (let times = 2; times > 0; times--) {
      const { answer, intents } = agent.attach(agent.holding([id, 1]));
      expect(answer.destroy).toEqual([{ sessionId: id, generation: 1 }]);
      expect(intents).toMatchObject([{ sessionId: id, generation: 1, order: { kind: 'remove' } }]);
    }
    expect(world.state(id)).toBe('TERMINATED');
    world.checkReservations();
  });

  it('is ordered nothing of what was never placed on it, whatever it says', () => {
    const { world, agent, id } = running();
    const other = new FakeAgent(world);
    other.attach();
    for (const generation of [1, 2, 3]) other.tell(id, generation, { kind: 'running', containerId: 'c' });
    agent.tell(id, 2, { kind: 'running', containerId: 'c' });
    expect(other.receive()).toEqual([]);
    expect(agent.receive()).toEqual([]);
  });

  it('goes on with restartable work when it is back before the lease is over', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    world.pass(lease, agent.gone);
    agent.attach(agent.holding([id, 1]));
    world.pass(lease, agent.alive);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'RUNNING', generation: 1 });
  });

  it('is not sent an order that it has not acknowledged any more when the lease of that is over', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit({ leaseMs: lease });
    // Whether the order arrived, nobody knows.
    agent.receive();
    world.pass(lease + 200_000, agent.gone);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'PENDING', generation: 2 });
    // It is back, and takes nothing new: nothing takes the place of what was ordered before.
    agent.put({ draining: true });
    expect(agent.attach().intents).toEqual([]);
    expect(world.store.reservations(agent.agentId)).toEqual([]);
  });

  it('tells when it is back that the lease ended the work: placed again at once', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    world.pass(lease + 20_000, agent.gone);
    agent.attach(agent.holding([id, 1, 'ended']));
    agent.tell(id, 1, { kind: 'ended', reason: 'lease-expired' });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2 });
  });

  it('ends stopped work whose agent stays away when its lease is over', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    world.pass(60_000, agent.gone);
    world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    expect(world.state(id)).toBe('UNREACHABLE');
    world.pass(lease + 60_000, agent.gone);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATED', reason: { code: 'stopped' } });
  });

  it('orders nothing of a revoked agent, and ends stopped work of it by its lease', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    agent.put({ state: 'revoked', approval: 2 });
    world.pass(1_000, agent.gone);
    world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    world.pass(lease + 60_000, agent.gone);
    expect(world.state(id)).toBe('TERMINATED');
    expect(world.store.intents()).toEqual([]);
  });

  it('frees what a revoked agent held when its work is ended by force', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    agent.put({ state: 'revoked', approval: 2 });
    world.pass(1_000, agent.gone);
    world.ledger.terminate(id, { graceMs: 0, force: true, reason: 'stopped' });
    expect(world.state(id)).toBe('TERMINATED');
    expect(world.store.intents()).toEqual([]);
    expect(world.store.reservations(agent.agentId)).toEqual([]);
  });

  it('has a session ended by force at once, its quota returned, its slots blocked', () => {
    const { world, agent, id } = running();
    world.pass(60_000, agent.gone);
    world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    expect(world.state(id)).toBe('UNREACHABLE');
    world.ledger.terminate(id, { graceMs: 0, force: true, reason: 'stopped' });
    expect(world.state(id)).toBe('TERMINATED');
    const releases = world.ledger.undelivered('admission', 100).flatMap(({ body }) => body.releases);
    expect(releases).toMatchObject([{ sessionId: id, generation: 1 }]);
    expect(world.ledger.view.agents()[0]?.sessions).toBe(1);
    const { answer, intents } = agent.attach(agent.holding([id, 1]));
    expect(answer.destroy).toEqual([{ sessionId: id, generation: 1 }]);
    expect(intents.map(({ order }) => order.kind)).toEqual(['stop', 'stop', 'remove']);
    agent.tell(id, 1, { kind: 'ended', reason: 'killed' });
    expect(world.ledger.view.agents()[0]?.sessions).toBe(0);
  });

  it('has a graceful stop carried out when it is back', () => {
    const { world, agent, id } = running();
    world.pass(60_000, agent.gone);
    world.ledger.terminate(id, { graceMs: 5000, force: false, reason: 'stopped' });
    const { intents } = agent.attach(agent.holding([id, 1]));
    expect(world.state(id)).toBe('TERMINATING');
    expect(intents).toMatchObject([{ order: { kind: 'stop', graceMs: 5000 } }]);
  });

  it('that acknowledges no orders for 90 s is fenced, and what it may have started is not placed twice', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.receive();
    world.pass(120_000, (effect) => {
      agent.alive(effect);
      if (effect.kind === 'intents')
        world.ledger.sent(
          agent.agentId,
          effect.epoch,
          effect.intents.map(({ intentId }) => intentId),
          'sent',
        );
    });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'UNREACHABLE', generation: 1 });
  });
});

describe('an inventory', () => {
  it('[M9] names what to destroy: ended, of a lower generation, never issued; everything else stays', () => {
    const { world, agent, id } = running();
    const ended = world.admit();
    agent.run(ended);
    agent.tell(ended, 1, { kind: 'ended', reason: 'exited' });
    const never = newSessionId(world.nowMs, world.bytes(10), group, 1);
    const foreign = newSessionId(world.nowMs, world.bytes(10), group + 1, 1);
    const { answer } = agent.attach(agent.holding([id, 1], [id, 0], [ended, 1], [never, 1], [foreign, 1]));
    expect(answer.destroy).toEqual([
      { sessionId: id, generation: 0 },
      { sessionId: ended, generation: 1 },
      { sessionId: never, generation: 1 },
      { sessionId: foreign, generation: 1 },
    ]);
    expect(world.state(id)).toBe('RUNNING');
  });

  it('leaves an ended container to its remove order', () => {
    const { world, agent, id } = running();
    agent.tell(id, 1, { kind: 'ended', reason: 'exited' });
    const { answer, intents } = agent.attach(agent.holding([id, 1, 'ended']));
    expect(answer.destroy).toEqual([]);
    expect(intents).toMatchObject([{ order: { kind: 'remove' } }]);
    void world;
  });

  it('that lacks a running session waits for the event that explains it', () => {
    const { world, agent, id } = running();
    agent.attach([]);
    expect(world.state(id)).toBe('RUNNING');
    agent.tell(id, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATED', reason: { code: 'exited' } });
  });

  it('that lacks a session means the host lost it, when nothing explains it', () => {
    const { world, agent, id } = running();
    agent.journalId = newId('journal', world.nowMs, world.bytes(10));
    agent.attach([]);
    world.pass(world.timers.missingMs + 15_000, agent.alive);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATED', reason: { code: 'host-lost' } });
    expect(world.ledger.view.agents()[0]?.sessions).toBe(0);
  });

  it('that has a session again, which an earlier one lacked, means that it goes on', () => {
    const { world, agent, id } = running();
    agent.attach([]);
    world.pass(world.timers.missingMs / 2, agent.alive);
    agent.attach(agent.holding([id, 1]));
    world.pass(world.timers.missingMs + 15_000, agent.alive);
    expect(world.state(id)).toBe('RUNNING');
  });

  it('that lacks a restartable session sends it back to the queue', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    agent.attach([]);
    world.pass(world.timers.missingMs + 15_000, agent.alive);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2 });
    world.checkReservations();
  });

  it('that lacks a session whose order is still under way means nothing', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    const { intents } = agent.attach([]);
    expect(intents).toMatchObject([{ sessionId: id, order: { kind: 'create' } }]);
    agent.run(id);
    world.pass(60_000, agent.alive);
    expect(world.state(id)).toBe('RUNNING');
  });
});

describe('a ledger that was restored', () => {
  it('spares what it may have issued after its snapshot, and destroys what it can not have', () => {
    const { world, agent } = running();
    const snapshotMs = world.nowMs;
    const lost = newSessionId(snapshotMs + 60_000, world.bytes(10), group, 1);
    const forgotten = newSessionId(snapshotMs - 100 * 86_400_000, world.bytes(10), group, 1);
    world.nowMs += 120_000;
    world.ledger.restored(group, snapshotMs);
    agent.counter += 5;
    const { answer } = agent.attach(agent.holding([lost, 1], [forgotten, 1]));
    expect(answer.destroy).toEqual([{ sessionId: forgotten, generation: 1 }]);
  });

  it('adopts a higher generation that an agent runs, and takes any join counter once', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit({ leaseMs: lease });
    const waiting = world.admit({ slots: { cpu: 4000, mem: gib } });
    agent.run(id);
    world.ledger.restored(group, world.nowMs);
    agent.counter += 17;
    agent.attach(agent.holding([id, 4], [waiting, 1]));
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'RUNNING', generation: 4, agentId: agent.agentId });
    expect(world.ledger.view.get(waiting)).toMatchObject({ state: 'RUNNING', generation: 1, agentId: agent.agentId });
    agent.tell(id, 4, { kind: 'ended', reason: 'exited', exitCode: 0 });
    expect(world.state(id)).toBe('TERMINATED');
    const copy = newId('attempt', world.nowMs, world.bytes(10));
    expect(agent.hello(3, copy)).toMatchObject({ accepted: false, code: 'agent_identity_conflict' });
  });
});

describe('an agent that lies to a restored ledger', () => {
  it('does not get a session whose generation was issued to another', () => {
    const { world, agent, id } = running();
    const liar = new FakeAgent(world);
    world.ledger.restored(group, world.nowMs);
    const { answer } = liar.attach(liar.holding([id, 1], [id, 1, 'ended']));
    expect(answer.destroy).toEqual([]);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'UNREACHABLE', generation: 1, agentId: agent.agentId });
  });
});

describe('revocation', () => {
  it('fences at once, ends what can not move, and frees its slots', () => {
    const { world, agent, id } = running({ type: 'interactive' });
    const restartable = world.admit({ leaseMs: lease });
    agent.run(restartable);
    world.effects = [];
    agent.put({ state: 'revoked' });
    expect(world.take('fence')).toHaveLength(1);
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'TERMINATED', reason: { code: 'agent-revoked' } });
    expect(world.state(restartable)).toBe('UNREACHABLE');
    expect(world.ledger.view.agents()[0]?.sessions).toBe(1);
    expect(agent.tell(id, 1, { kind: 'ended', reason: 'exited' })).toBe('stale');
  });

  it('has restartable work placed elsewhere after its lease', () => {
    const { world, agent, id } = running({ leaseMs: lease });
    agent.put({ state: 'revoked' });
    const other = new FakeAgent(world);
    other.attach();
    world.pass(lease + 60_000, (effect) => {
      if (effect.kind === 'fence') world.ledger.fenced(effect.agentId, effect.epoch);
      else other.alive(effect);
    });
    expect(world.ledger.view.get(id)).toMatchObject({ state: 'SCHEDULED', generation: 2, agentId: other.agentId });
    expect(world.ledger.view.agents().find(({ agentId }) => agentId === agent.agentId)?.sessions).toBe(0);
  });
});

describe('forgetting', () => {
  it('keeps an ended session 48 h, and longer until D1 and admission know of its end', () => {
    const { world, agent, id } = running();
    agent.tell(id, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    agent.acknowledge();
    const last = world.ledger.undelivered('events', 1000).at(-1)!.seq;
    world.ledger.delivered({ readModel: last, events: last });
    world.pass(49 * 3_600_000, agent.alive);
    expect(world.state(id)).toBe('TERMINATED');
    world.ledger.delivered({ admission: last });
    world.pass(3_600_000, agent.alive);
    world.pass(3_600_000, agent.alive);
    expect(world.ledger.view.get(id)).toBeUndefined();
    expect(world.store.outbox(0, 10)).toEqual([]);
  });

  it('never uses an outbox number twice, though all rows were delivered and memory was lost', () => {
    const { world } = running();
    const last = world.ledger.undelivered('events', 1000).at(-1)!.seq;
    world.ledger.delivered({ readModel: last, events: last, admission: last });
    world.crash();
    world.admit();
    expect(world.ledger.undelivered('events', 10).map(({ seq }) => seq)).toEqual([last + 1]);
  });
});

describe('a hub that has not read the answer to an attach yet', () => {
  it('casts no doubt on the agent by knowing no socket', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    world.nowMs -= world.timers.attachSettlesMs;
    world.ledger.seen([agent.agentId], {});
    expect(world.state(world.admit())).toBe('SCHEDULED');
  });
});

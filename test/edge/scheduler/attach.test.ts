/** Which control socket is an agent's: epochs, join counters, copies. */
import { describe, expect, it } from 'vitest';
import { newId } from '../../../schema/ids.ts';
import { FakeAgent, group, World } from './world.ts';

describe('the epoch', () => {
  it('is issued by the ledger, above every one before, also after a restore', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    const epochs = [agent.attach().epoch, agent.attach().epoch];
    world.crash();
    epochs.push(agent.attach().epoch);
    world.ledger.restored(group, world.nowMs - 1000);
    epochs.push(agent.attach().epoch);
    expect(epochs).toEqual([...epochs].sort((a, b) => a - b));
    expect(new Set(epochs).size).toBe(4);
    expect(Math.floor(epochs[0]! / 2 ** 20)).toBe(Math.floor(Date.UTC(2026, 10, 24) / 1000));
  });

  it('has older data sockets fenced when a newer control socket is accepted, and its hub replaces the older one', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    const { epoch } = agent.attach();
    world.take('fence');
    agent.attach();
    expect(world.take('fence')).toEqual([{ kind: 'fence', agentId: agent.agentId, epoch }]);
  });
});

describe('[M2] the join counter', () => {
  it('is taken on the newer socket also when the clock of the edge was set back behind the last one', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    world.nowMs -= 3_600_000;
    expect(agent.attach()).toMatchObject({ accepted: true });
  });

  it('is taken when it is the next, or the same attempt once more', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    expect(agent.hello(agent.counter, agent.lastAttempt)).toMatchObject({ accepted: true });
    expect(agent.hello(agent.counter + 1, newId('attempt', world.nowMs, world.bytes(10)))).toMatchObject({
      accepted: true,
    });
  });

  it.each([
    ['a counter that another attempt used', 0],
    ['an older counter', -1],
    ['a counter that skips one', 2],
  ])('suspends the identity for %s, and closes the older socket too', (_, ahead) => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    agent.attach();
    const id = world.admit();
    agent.run(id);
    world.effects = [];
    const copy = newId('attempt', world.nowMs, world.bytes(10));
    expect(agent.hello(agent.counter + ahead, copy)).toMatchObject({
      accepted: false,
      code: 'agent_identity_conflict',
    });
    expect(world.take('fence')).toHaveLength(1);
    expect(world.state(id)).toBe('UNREACHABLE');
    expect(agent.hello(agent.counter + 1, copy)).toMatchObject({ accepted: false, code: 'agent_suspended' });
    agent.put({ approval: 1 });
    expect(agent.hello(agent.counter + 1, copy)).toMatchObject({ accepted: false, code: 'agent_suspended' });
    agent.put({ approval: 2 });
    agent.counter += 40;
    agent.attach(agent.holding([id, 1]));
    expect(world.state(id)).toBe('RUNNING');
  });

  it('says nothing about copies when newer sockets were accepted while the hello was on its way', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const openedAtMs = world.nowMs;
    const { counter, lastAttempt } = agent;
    const late = () => agent.hello(counter, lastAttempt, [], agent.approved, openedAtMs);
    // The socket was lost before its hello was answered; two more came through.
    world.nowMs += 1;
    agent.attach();
    agent.attach();
    const id = world.admit();
    agent.run(id);
    expect(late()).toMatchObject({ accepted: false, code: 'agent_epoch_stale' });
    expect(world.state(id)).toBe('RUNNING');
    expect(world.ledger.view.agents()[0]).toMatchObject({ state: 'active', reachable: true });
    // A copy that said it does not stay away, and its next socket is newer.
    expect(agent.hello(counter, lastAttempt)).toMatchObject({ accepted: false, code: 'agent_identity_conflict' });
  });

  it('does not take what a hello said that its own repetition overtook: that list of sessions is old', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    const openedAtMs = world.nowMs;
    // The agent heard nothing on its first socket, and said the same on the next, which was heard first.
    world.nowMs += 1;
    agent.attach();
    const id = world.admit();
    agent.run(id);
    const late = agent.hello(agent.counter, agent.lastAttempt, [], agent.approved, openedAtMs);
    expect(late).toMatchObject({ accepted: false, code: 'agent_epoch_stale' });
    world.pass(world.timers.missingMs + 15_000, agent.alive);
    expect(world.state(id)).toBe('RUNNING');
    expect(agent.hello(agent.counter, agent.lastAttempt, agent.holding([id, 1]))).toMatchObject({ accepted: true });
  });

  it('does not take a late hello with the next counter either: who sent it may be gone', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    // A copy of the machine said it and lost its power; the original came meanwhile, on a newer socket.
    const openedAtMs = world.nowMs;
    const copy = newId('attempt', world.nowMs, world.bytes(10));
    const { counter } = agent;
    world.nowMs += 1;
    expect(agent.hello(counter, agent.lastAttempt, agent.holding([id, 1]))).toMatchObject({ accepted: true });
    const late = agent.hello(counter + 1, copy, [], agent.approved, openedAtMs);
    expect(late).toMatchObject({ accepted: false, code: 'agent_epoch_stale', retryAfterMs: 1_000 });
    world.pass(world.timers.missingMs + 15_000, agent.alive);
    expect(world.state(id)).toBe('RUNNING');
    // One that lives comes again.
    expect(agent.hello(counter + 1, copy, agent.holding([id, 1]))).toMatchObject({ accepted: true });
  });

  it('has an agent that is approved anew tell from the beginning: a copy may have told under its numbers', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.attach();
    const id = world.admit();
    agent.run(id);
    const copy = newId('attempt', world.nowMs, world.bytes(10));
    expect(agent.hello(agent.counter + 1, copy, agent.holding([id, 1]))).toMatchObject({ accepted: true });
    const original = newId('attempt', world.nowMs + 1, world.bytes(10));
    expect(agent.hello(agent.counter + 1, original)).toMatchObject({ code: 'agent_identity_conflict' });
    agent.put({ approval: 2 });
    const answer = agent.hello(agent.counter + 1, original, agent.holding([id, 1]));
    expect(answer).toMatchObject({ accepted: true, ackedIndex: 0 });
  });

  it('refuses who is not enrolled here, waits for approval, or was revoked', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    const attempt = newId('attempt', world.nowMs, world.bytes(10));
    agent.put({ state: 'pending' });
    expect(agent.hello(1, attempt)).toMatchObject({ accepted: false, code: 'agent_pending' });
    agent.put({ state: 'revoked' });
    expect(agent.hello(1, attempt)).toMatchObject({ accepted: false, code: 'agent_revoked' });
    const elsewhere = new World();
    elsewhere.bytes(99);
    const stranger = new FakeAgent(elsewhere);
    const nothing = {} as Parameters<typeof world.ledger.attach>[2];
    expect(world.ledger.attach(stranger.agentId, 'hub', nothing, world.nowMs)).toMatchObject({
      accepted: false,
      code: 'agent_not_found',
    });
  });

  it('keeps an approval when what was before it comes late', () => {
    const world = new World();
    const agent = new FakeAgent(world, { cpu: 4000 });
    agent.put({ state: 'active', approval: 2, approved: { cpu: 8000 } });
    agent.put({ state: 'pending', approval: 0, approved: {} });
    agent.put({ state: 'active', approval: 1 });
    expect(world.ledger.view.agents()[0]).toMatchObject({ state: 'active', approval: 2, approved: { cpu: 8000 } });
    agent.put({ state: 'revoked', approval: 1 });
    expect(world.ledger.view.agents()[0]).toMatchObject({ state: 'revoked' });
  });

  it('never takes back who was revoked, also when an approval or a drain comes late', () => {
    const world = new World();
    const agent = new FakeAgent(world);
    agent.put({ state: 'revoked' });
    agent.put({ state: 'active', approval: 2 });
    agent.put({ state: 'active', draining: true });
    const attempt = newId('attempt', world.nowMs, world.bytes(10));
    expect(agent.hello(1, attempt)).toMatchObject({ accepted: false, code: 'agent_revoked' });
    expect(world.ledger.view.agents()[0]).toMatchObject({ state: 'revoked', draining: false });
  });
});

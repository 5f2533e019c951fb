/** The agent's connection over real sockets against a fake edge: every rule of sections 1 and 3 that is the agent's to keep. */
import { describe, expect, it } from 'vitest';
import { newId } from '../../../schema/ids.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { fakeAgentId } from '../../support/fake-edge.ts';
import { attach, create, event, stop, welcome } from './bench.ts';
import { agentOn, edge, restart, startAnotherEdge } from './on-fake-edge.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

describe('joining', () => {
  it('enrols once, with a key that stays on the host, and proves it by a signature on each dial', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    expect(socket.headers.authorization).toMatch(new RegExp(`^Causeway-Agent id=${fakeAgentId},`));
    expect(edge.enrolments).toHaveLength(1);
    const again = await restart(agent);
    await attach(edge, again, 1);
    expect(edge.enrolments).toHaveLength(1);
    expect(edge.challenges).toBe(2);
  });

  it('enrols again with the same key when the answer was lost', async () => {
    let asked = 0;
    edge.enrolAnswer = () =>
      ++asked < 3
        ? { status: 503, body: { code: 'edge_overloaded' } }
        : {
            status: 200,
            body: {
              agentId: fakeAgentId,
              name: 'n',
              instance: 'test',
              controlHub: '0',
              resourceGroup: 'g',
              approved: true,
            },
          };
    const time = new VirtualTime();
    const starting = agentOn({ time });
    await time.until('three enrolments', () => edge.enrolments.length === 3, 200);
    await starting;
    expect(new Set(edge.enrolments.map(({ publicKey }) => publicKey)).size).toBe(1);
    expect(edge.enrolments).toHaveLength(3);
  });

  it('stops at once at whatever point of a dial', async () => {
    let agent = await agentOn();
    for (let turns = 0; turns < 24; turns++) {
      const { challenges } = edge;
      agent = await restart(agent);
      await agent.time.until('a dial', () => edge.challenges > challenges);
      for (let turn = 0; turn < turns; turn++) await new Promise<void>((resolve) => void setImmediate(resolve));
    }
    await agent.stop();
  });

  it('says what to do when the token is refused', async () => {
    edge.enrolAnswer = () => ({ status: 401, body: { code: 'agent_join_token_used', detail: 'Make another.' } });
    await expect(agentOn()).rejects.toThrow(/agent_join_token_used.*Make another/);
  });
});

describe('hello and welcome', () => {
  it('[M1] says hello first, and takes nothing before welcome', async () => {
    const agent = await agentOn();
    const socket = await agent.time.until('socket', () => edge.of('control')[0]);
    await agent.time.until('hello', () => socket.of('hello')[0]);
    expect(socket.messages[0]).toMatchObject({ type: 'hello', version: 1, minVersion: 1, counter: 1, inventory: [] });
    socket.send({ type: 'intents', epoch: 1, intents: [create()] });
    expect(await agent.time.until('close', () => socket.closed)).toMatchObject({ code: 1002 });
    expect(agent.done).toEqual([]);
  });

  it('[M2] repeats counter and attempt until they are accepted, and counts on then', async () => {
    const agent = await agentOn();
    const first = await agent.time.until('socket', () => edge.of('control')[0]);
    const { counter, attemptId } = await agent.time.until('hello', () => first.of('hello')[0]);
    first.ws.terminate();
    const second = await attach(edge, agent, 1);
    expect(second.of('hello')[0]).toMatchObject({ counter, attemptId });
    second.ws.terminate();
    const third = await agent.time.until('socket', () => edge.of('control')[2], 200);
    const hello = await agent.time.until('hello', () => third.of('hello')[0]);
    expect(hello.counter).toBe(counter + 1);
    expect(hello.attemptId).not.toBe(attemptId);
  });

  it('[K4] ends with a version that it does not speak', async () => {
    const agent = await agentOn();
    const socket = await agent.time.until('socket', () => edge.of('control')[0]);
    await agent.time.until('hello', () => socket.of('hello')[0]);
    socket.send(welcome({ version: 2 }));
    await agent.time.until('close', () => socket.closed);
    expect(agent.tunnel.status.state).toBe('connecting');
  });

  it('[K8] speaks the version of an edge that is one behind', async () => {
    const spoken = limits as { version: number };
    spoken.version = 2;
    try {
      const agent = await agentOn();
      const socket = await agent.time.until('socket', () => edge.of('control')[0]);
      expect(await agent.time.until('hello', () => socket.of('hello')[0])).toMatchObject({ version: 2, minVersion: 1 });
      socket.send(welcome({ version: 1 }));
      await agent.time.until('connected', () => agent.tunnel.status.state === 'connected');
    } finally {
      spoken.version = 1;
    }
  });

  it('shows a refusal in its status and comes again, not before it was told to', async () => {
    const agent = await agentOn();
    const socket = await agent.time.until('socket', () => edge.of('control')[0]);
    await agent.time.until('hello', () => socket.of('hello')[0]);
    socket.send({
      type: 'refused',
      code: 'agent_suspended',
      detail: 'An administrator must approve it.',
      retryAfterMs: 50_000,
    });
    await agent.time.until('refusal', () => agent.tunnel.status.state === 'refused');
    expect(agent.tunnel.status.detail).toContain('agent_suspended');
    agent.time.advance(30_000);
    await new Promise((resolve) => void setTimeout(resolve, 50));
    expect(edge.of('control')).toHaveLength(1);
    await agent.time.until('the next try', () => edge.of('control')[1], 1000);
  });

  it('[M12] dials again not before Retry-After says, when a dial was refused for too many failures around it', async () => {
    const refusal = { code: 'request_rate_limited', detail: 'Too many failures from this address.' };
    edge.upgradeAnswer = () => ({ status: 429, headers: { 'retry-after': '50' }, body: refusal });
    const agent = await agentOn();
    await agent.time.until('the refusal', () => agent.tunnel.status.detail?.includes(refusal.code));
    expect(agent.tunnel.status.state).toBe('connecting');
    edge.upgradeAnswer = undefined;
    const { challenges } = edge;
    agent.time.advance(49_000);
    await new Promise((resolve) => void setTimeout(resolve, 50));
    expect(edge.challenges).toBe(challenges);
    await agent.time.until('the next try', () => edge.of('control')[0], 1000);
  });

  it('[M9] lists what it has acknowledged, though nothing of it is there yet', async () => {
    const agent = await agentOn({ handlers: { create: () => new Promise(() => {}) } });
    const socket = await attach(edge, agent);
    const order = create();
    socket.send({ type: 'intents', epoch: 1, intents: [order] });
    await agent.time.until('the acknowledgement', () => socket.of('intentAck')[0]);
    socket.ws.terminate();
    const next = await attach(edge, agent, 1);
    const { sessionId, generation } = order;
    expect(next.of('hello')[0]?.inventory).toEqual([{ sessionId, generation, state: 'present' }]);
  });

  it('[M9] hands the answer to its inventory on, and destroys nothing else', async () => {
    const agent = await agentOn();
    const gone = { sessionId: create().sessionId, generation: 3 };
    await attach(edge, agent, 0, { answer: { destroy: [gone] } });
    await agent.time.until('reconcile', () => agent.answers[0]);
    expect(agent.answers).toEqual([{ destroy: [gone] }]);
  });
});

describe('orders', () => {
  it('[M4] acknowledges an intent after it is in the journal, and carries it out once', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    const order = create();
    socket.send({ type: 'intents', epoch: 1, intents: [order] });
    socket.send({ type: 'intents', epoch: 1, intents: [order] });
    await agent.time.until('two acknowledgements', () => socket.of('intentAck').length === 2);
    expect(socket.of('intentAck')[0]).toEqual({ type: 'intentAck', intentIds: [order.intentId] });
    expect(agent.journal.isSeen(order)).toBe(true);
    await agent.time.until('the order', () => agent.done.length === 1);
    expect(agent.done).toEqual(['create 1']);
  });

  it('[M4] takes up after a restart what it had acknowledged and not done', async () => {
    const agent = await agentOn({ handlers: { create: () => new Promise(() => {}) } });
    const socket = await attach(edge, agent);
    socket.send({ type: 'intents', epoch: 1, intents: [create(), stop(2)] });
    await agent.time.until('the acknowledgement', () => socket.of('intentAck')[0]);
    const again = await restart(agent);
    await again.time.until('both orders', () => again.done.length === 2);
    expect(again.done).toEqual(['create 1', 'stop 2']);
  });

  it('[M3] drops intents of another epoch', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    socket.send({ type: 'intents', epoch: 99, intents: [create()] });
    socket.send({ type: 'intents', epoch: 1, intents: [stop(2)] });
    await agent.time.until('the order', () => agent.done.length > 0);
    await agent.time.until('the acknowledgement', () => socket.of('intentAck').length > 0);
    expect(agent.done).toEqual(['stop 2']);
    expect(socket.of('intentAck')).toHaveLength(1);
  });

  it('[M8] answers calls', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    const callId = newId('call', 1, new Uint8Array(10));
    socket.send({ type: 'call', callId, op: 'echo', deadlineMs: 1000, input: { text: 'hi' } });
    const reply = await agent.time.until('the reply', () => socket.of('reply')[0]);
    expect(reply).toEqual({ type: 'reply', callId, ok: true, result: { text: 'hi' } });
  });
});

describe('events', () => {
  it('[M7] sends what is recorded in order, and again from the last confirmed after a cut', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    for (let n = 0; n < 5; n++) await agent.tunnel.services.recordEvent(event());
    const indexes = (from: typeof socket) =>
      from.of('events').flatMap(({ events }) => events.map(({ index }) => index));
    await agent.time.until('five events', () => indexes(socket).length === 5);
    expect(indexes(socket)).toEqual([1, 2, 3, 4, 5]);
    const { journalId } = agent.journal;
    socket.send({ type: 'eventAck', journalId, index: 2 });
    await agent.time.until('the acknowledgement', () => agent.journal.ackedIndex === 2);
    socket.ws.terminate();
    const second = await attach(edge, agent, 1, { ackedIndex: 3 });
    await agent.time.until('the rest', () => indexes(second).length === 2);
    expect(indexes(second)).toEqual([4, 5]);
    const again = await restart(agent);
    const third = await attach(edge, again, 2, { ackedIndex: 4 });
    await again.time.until('the last', () => indexes(third).length === 1);
    expect(third.of('events')[0]).toMatchObject({ journalId, events: [{ index: 5 }] });
  });

  it('[M7] keeps at most 256 in flight', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    await Promise.all(Array.from({ length: 400 }, () => agent.tunnel.services.recordEvent(event())));
    const last = () => socket.of('events').at(-1)?.events.at(-1)?.index ?? 0;
    await agent.time.until('256 events', () => last() >= 256);
    await new Promise((resolve) => void setTimeout(resolve, 50));
    expect(last()).toBe(256);
    socket.send({ type: 'eventAck', journalId: agent.journal.journalId, index: 200 });
    await agent.time.until('the rest', () => last() === 400);
    expect(socket.of('events').every(({ events }) => events.length <= 100)).toBe(true);
  });

  it('[M7] goes on as another journal when the edge has events that it has lost', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    for (let n = 0; n < 2; n++) await agent.tunnel.services.recordEvent(event());
    await agent.time.until('two events', () => socket.of('events').flatMap(({ events }) => events).length === 2);
    const { journalId } = agent.journal;
    socket.ws.terminate();
    // What was sent may have been confirmed, what was not sent may not.
    const second = await attach(edge, agent, 1, { ackedIndex: 1 });
    await agent.time.until('the second event', () => second.of('events').length === 1);
    expect(agent.journal.journalId).toBe(journalId);
    second.ws.terminate();
    const third = await agent.time.until(
      'the third hello',
      () => edge.of('control')[2]?.of('hello')[0] && edge.of('control')[2],
      200,
    );
    third.send(welcome({ epoch: 3, ackedIndex: 7 }));
    const fourth = await attach(edge, agent, 3);
    await agent.time.until('the event again', () => fourth.of('events').length === 1);
    expect(fourth.of('hello')[0]?.journalId).not.toBe(journalId);
    expect(fourth.of('events')[0]).toMatchObject({ journalId: agent.journal.journalId, events: [{ index: 1 }] });
  });

  it('[M7] goes on as another journal, and tells everything anew, when the edge has forgotten what it confirmed', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    for (let n = 0; n < 3; n++) await agent.tunnel.services.recordEvent(event());
    await agent.time.until('three events', () => socket.of('events').flatMap(({ events }) => events).length === 3);
    const { journalId } = agent.journal;
    socket.send({ type: 'eventAck', journalId, index: 2 });
    await agent.time.until('the confirmation', () => agent.journal.ackedIndex === 2);
    socket.ws.terminate();
    const second = await agent.time.until('the second hello', () => edge.of('control')[1], 200);
    second.send(welcome({ epoch: 2, ackedIndex: 1 }));
    const third = await attach(edge, agent, 2);
    await agent.time.until('the event that nobody confirmed', () => third.of('events').length === 1);
    expect(third.of('hello')[0]?.journalId).not.toBe(journalId);
    expect(third.of('events')[0]).toMatchObject({ journalId: agent.journal.journalId, events: [{ index: 1 }] });
    expect(agent.retold).toBe(1);
  });

  it('[M7] ignores an acknowledgement of another journal, or of what it never sent', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    await agent.tunnel.services.recordEvent(event());
    socket.send({ type: 'eventAck', journalId: newId('journal', 5, new Uint8Array(10)), index: 1 });
    socket.send({ type: 'eventAck', journalId: agent.journal.journalId, index: 1000 });
    socket.send({
      type: 'call',
      callId: newId('call', 2, new Uint8Array(10)),
      op: 'echo',
      deadlineMs: 1000,
      input: { text: '' },
    });
    await agent.time.until('the reply', () => socket.of('reply')[0]);
    expect(agent.journal.ackedIndex).toBe(0);
  });
});

describe('liveness', () => {
  it('[K5] [M6] pings every 10 s, and an answer renews the start lease', async () => {
    const agent = await agentOn();
    const { leases } = agent.tunnel.services;
    const socket = await attach(edge, agent);
    await agent.time.until('the first answer', () => leases.startHeld());
    expect(socket.pings).toBe(1);
    agent.time.advance(10_000);
    await agent.time.until('the second ping', () => socket.pings === 2);
    await agent.time.until('its answer', () => leases.runRemainingMs(60_000) === 60_000);
    socket.answersPings = false;
    agent.time.advance(10_000);
    expect(leases.runRemainingMs(60_000)).toBe(50_000);
  });

  it('[M6] a socket that the ledger did not accept renews no lease', async () => {
    const agent = await agentOn();
    const socket = await agent.time.until('socket', () => edge.of('control')[0]);
    await agent.time.until('hello', () => socket.of('hello')[0]);
    socket.ws.send('pong');
    agent.time.advance(10_000);
    expect(agent.tunnel.services.leases.startHeld()).toBe(false);
  });

  it('[K5] gives a socket up that is silent for 30 s, and dials another', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    socket.answersPings = false;
    await agent.time.until('the end of the silent socket', () => socket.closed, 1000);
    await attach(edge, agent, 1);
  });

  it('gives up an edge that does not answer hello', async () => {
    const agent = await agentOn();
    const socket = await agent.time.until('socket', () => edge.of('control')[0]);
    await agent.time.until('hello', () => socket.of('hello')[0]);
    await agent.time.until('the end', () => socket.closed, 1000);
    await agent.time.until('the next', () => edge.of('control')[1], 1000);
  });

  it('[M11] dials again after a go-away, within the time that it was given', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    const fromMs = agent.time.bootMs();
    socket.send({ type: 'goAway', spreadMs: 5000, reason: 'deploy' });
    await attach(edge, agent, 1);
    expect(agent.time.bootMs() - fromMs).toBeLessThanOrEqual(6000);
    expect(socket.closed?.code).toBe(1001);
  });

  it('[M12] comes back to an edge that was gone, at an address that is read anew', async () => {
    const agent = await agentOn();
    await attach(edge, agent);
    const { enrolments } = edge;
    await edge.stop();
    await agent.time.until('the loss', () => agent.tunnel.status.state === 'connecting');
    await agent.time.until(
      'a failed try',
      () => agent.log.lines.some(({ message }) => message === 'the edge was not reached'),
      500,
    );
    await startAnotherEdge();
    edge.enrolments.push(...enrolments);
    await attach(edge, agent);
  });
});

describe('a bad edge', () => {
  it.each([
    ['[F1] garbage', (ws: { send(data: Uint8Array): void }) => ws.send(new Uint8Array(100).fill(7))],
    ['[F2] a truncated frame', (ws: { send(data: Uint8Array): void }) => ws.send(new Uint8Array([1, 1, 0]))],
  ])('[K6] %s closes the socket, and the agent comes again', async (_, misbehave) => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    misbehave(socket.ws);
    expect(await agent.time.until('close', () => socket.closed)).toMatchObject({ code: 1002 });
    await attach(edge, agent, 1);
  });

  it.each([
    ['an unknown message', { type: 'selfDestruct' }],
    ['an unknown key', { type: 'goAway', spreadMs: 1, reason: '', more: 1 }],
    ['a second welcome', welcome()],
  ])('[F6] [M1] %s closes the socket', async (_, message) => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    socket.sendJson(frameTypes.message, 0, message);
    expect(await agent.time.until('close', () => socket.closed)).toMatchObject({ code: 1002 });
  });

  it('[F4] a message over 1 MiB closes the socket with 1009', async () => {
    const agent = await agentOn();
    const socket = await attach(edge, agent);
    socket.ws.send(new Uint8Array(1024 * 1024 + 1));
    expect(await agent.time.until('close', () => socket.closed)).toMatchObject({ code: 1009 });
  });
});

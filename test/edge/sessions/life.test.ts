/** A session from its POST to its end, through the front door, with an agent that does what it is told. */
import { beforeEach, expect, it } from 'vitest';
import type { Start } from '../../../schema/api/session-parts.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call } from '../client.ts';
import { BenchAgent } from '../scheduler/bench-agent.ts';

/** Behind what the isolate keeps of a group's shape from other files. */
beforeEach(() => passMs(6_000));

interface Session {
  id: string;
  name: string;
  state: string;
  version: number;
  generation: number;
  reason?: { code: string; detail?: string };
  start?: { warm: boolean; reason?: { code: string; detail?: string } };
  result?: { exitCode?: number; reason: string };
}

const batch = { type: 'batch', image: 'busybox', command: ['true'] };

it('runs a session from PENDING to TERMINATED on an agent that attaches later', async () => {
  const { token } = await bootstrapped();
  const made = await call<Session>('POST', '/v1/sessions', { token, body: batch });
  expect(made.status, made.text).toBe(201);
  expect(made.body).toMatchObject({ state: 'PENDING', generation: 1, version: 1 });
  const path = `/v1/sessions/${made.body.id}`;

  const waiting = await call<Session>('GET', path, { token });
  expect(waiting.body).toMatchObject({ state: 'PENDING', reason: { code: 'no_agents' } });

  const agent = new BenchAgent(1);
  await agent.enrol();
  const { intents } = await agent.attach();
  expect(intents).toMatchObject([{ sessionId: made.body.id, generation: 1, order: { kind: 'create' } }]);
  await agent.acknowledge(intents.map(({ intentId }) => intentId));
  expect((await call<Session>('GET', path, { token })).body.state).toBe('PREPARING');
  await agent.tell(made.body.id, 1, { kind: 'pulling' });
  await agent.tell(made.body.id, 1, { kind: 'creating' });
  await agent.tell(made.body.id, 1, { kind: 'running', containerId: 'c1' });
  expect((await call<Session>('GET', path, { token })).body.state).toBe('RUNNING');
  await agent.tell(made.body.id, 1, { kind: 'ended', reason: 'exited', exitCode: 3 });
  const ended = await call<Session>('GET', path, { token });
  expect(ended.body).toMatchObject({ state: 'TERMINATED', result: { exitCode: 3, reason: 'exited' } });

  const history = await call<{ items: { version: number; state: string }[] }>('GET', `${path}/history`, { token });
  expect(history.body.items.map(({ state }) => state)).toEqual([
    'PENDING',
    'SCHEDULED',
    'PREPARING',
    'PULLING',
    'CREATING',
    'RUNNING',
    'TERMINATED',
  ]);
  expect(history.body.items.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5, 6, 7]);
});

it('says of a running session whether its container was started in advance, or why not', async () => {
  const { token } = await bootstrapped();
  const agent = new BenchAgent(1);
  await agent.enrol();
  await agent.attach();
  const started = async (start?: Start) => {
    const { body } = await call<Session>('POST', '/v1/sessions', { token, body: batch });
    await agent.tell(body.id, 1, { kind: 'running', containerId: 'c', ...(start === undefined ? {} : { start }) });
    const shown = await call<Session>('GET', `/v1/sessions/${body.id}`, { token });
    expect(shown.body.state).toBe('RUNNING');
    expect(shown.body).not.toHaveProperty('reason');
    return shown.body.start;
  };
  expect(await started()).toBeUndefined();
  expect(await started('started-warm')).toEqual({ warm: true });
  expect(await started('home-kept')).toEqual({
    warm: false,
    reason: { code: 'home-kept', detail: 'its home was on the machine already' },
  });
});

/** GET /v1/events on the real edge: what happens to sessions reaches whoever may see it, over cuts of every part. */
import { afterEach, describe, expect, it } from 'vitest';
import { parseEvents, type ServerSentEvent } from '../../cli/events.ts';
import { CausewayEvent } from '../../schema/api/event.ts';
import { newStack, type Stack, type StackOptions } from '../support/stack.ts';
import { until } from '../support/wait.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

/** No agents: sessions wait, and waiting is enough to be told of. */
async function started(redis: StackOptions['redis']): Promise<Stack> {
  const stack = newStack(redis === undefined ? {} : { redis });
  ends.push(() => stack.stop());
  await stack.startEdge();
  return stack;
}

interface Listener {
  readonly status: number;
  readonly events: ServerSentEvent[];
  /** Objects of the events, in order. */
  objects(): string[];
  readonly ended: Promise<void>;
  close(): void;
}

async function listen(stack: Stack, { token = stack.client.token, query = '', lastId = '' } = {}): Promise<Listener> {
  const abort = new AbortController();
  const response = await fetch(`${stack.url}/v1/events${query}`, {
    headers: { authorization: `Bearer ${token}`, ...(lastId === '' ? {} : { 'last-event-id': lastId }) },
    signal: abort.signal,
  });
  const events: ServerSentEvent[] = [];
  const ended = (async () => {
    for await (const event of parseEvents(response.body!)) if (event.data !== '') events.push(event);
  })().catch(() => undefined);
  ends.push(() => abort.abort());
  const objects = () =>
    events.filter(({ event }) => event === 'message').map(({ data }) => CausewayEvent.parse(JSON.parse(data)).objectId);
  return { status: response.status, events, objects, ended, close: () => abort.abort() };
}

const batch = { type: 'batch', image: 'busybox', command: ['true'] } as never;

describe.each(['server', 'memory'] as const)('with redis on %s', (redis) => {
  it('tells of a session, with ids that Last-Event-ID goes on from', async () => {
    const stack = await started(redis);
    const live = await listen(stack);
    const first = await stack.client.createSession(batch);
    await until(() => live.objects().includes(first.id), { what: 'the event of the session' });
    const [told] = live.events;
    expect(told?.id).toMatch(/^[a-z0-9]+\.\d+-\d+$/);
    const { type, data, projectId } = CausewayEvent.parse(JSON.parse(told?.data ?? ''));
    expect([type, data['state'], projectId]).toEqual(['session.created', 'PENDING', first.projectId]);
    live.close();

    const second = await stack.client.createSession(batch);
    const resumed = await listen(stack, { lastId: live.events.at(-1)?.id ?? '' });
    const third = await stack.client.createSession(batch);
    await until(() => resumed.objects().includes(third.id), { what: 'the events since' });
    expect(resumed.objects().filter((id) => id !== first.id)).toEqual(
      [...new Set(resumed.objects())].filter((id) => id !== first.id),
    );
    expect(resumed.objects().indexOf(second.id)).toBeGreaterThanOrEqual(0);
    expect(resumed.objects().indexOf(second.id)).toBeLessThan(resumed.objects().indexOf(third.id));

    const kept = await listen(stack, { query: '?follow=false&type=session.created' });
    await kept.ended;
    expect(kept.objects()).toEqual([first.id, second.id, third.id]);
  });

  it('loses nothing to a listener while Redis is restarted under it', async () => {
    const stack = await started(redis);
    const live = await listen(stack, { query: '?type=session.created' });
    const before = await stack.client.createSession(batch);
    await until(() => live.objects().includes(before.id), { what: 'an event before' });
    if (redis === 'server') stack.redis?.killServer9();
    else {
      await stack.redis?.process.kill9();
      await stack.redis?.start();
    }
    const after = await stack.client.createSession(batch);
    await until(() => live.objects().includes(after.id), { what: 'an event after', timeoutMs: 60_000 });
    expect(live.objects()).toEqual([before.id, after.id]);
  });
});

describe('who may listen', () => {
  it('closes the stream of a revoked token within seconds, and tells it why', async () => {
    const stack = await started('memory');
    const user = (await stack.client.api('POST', '/v1/users', {
      email: 'robot@example.test',
      role: 'domain-admin',
    })) as { id: string };
    const made = (await stack.client.api('POST', `/v1/users/${user.id}/tokens`, { name: 'robot' })) as {
      id: string;
      token: string;
    };
    const live = await listen(stack, { token: made.token });
    expect(live.status).toBe(200);
    await stack.client.api('PATCH', `/v1/users/${user.id}`, { active: false });
    await live.ended;
    expect(live.events.at(-1)).toMatchObject({ event: 'end', data: '{"code":"auth_revoked"}' });
    expect((await listen(stack, { token: made.token })).status).toBe(401);
  });

  it('shows a member nothing of other projects', async () => {
    const stack = await started('memory');
    const [mine, other] = await Promise.all(
      ['mine', 'other'].map(
        async (name) => (await stack.client.api('POST', '/v1/projects', { name })) as { id: string },
      ),
    );
    const user = (await stack.client.api('POST', '/v1/users', { email: 'robot@example.test' })) as { id: string };
    await stack.client.api('PUT', `/v1/projects/${mine?.id}/members/${user.id}`, { role: 'viewer' });
    const { token } = (await stack.client.api('POST', `/v1/users/${user.id}/tokens`, { name: 'robot' })) as {
      token: string;
    };
    const [theirs, all] = [await listen(stack, { token }), await listen(stack)];
    const hidden = await stack.client.createSession({ ...(batch as object), project: other?.id } as never);
    const shown = await stack.client.createSession({ ...(batch as object), project: mine?.id } as never);
    await until(() => theirs.objects().includes(shown.id) && all.objects().includes(hidden.id), { what: 'the events' });
    expect(theirs.objects()).not.toContain(hidden.id);
    expect((await listen(stack, { token, query: `?project=${other?.id}` })).status).toBe(404);
    expect((await listen(stack, { token, query: '?domain=nowhere' })).status).toBe(404);
  });

  it('answers 503 with Retry-After without Redis, and 400 to an id that is none', async () => {
    const stack = await started(undefined);
    const absent = await stack.client.call('GET', '/v1/events');
    expect([absent.status, absent.headers.get('retry-after')]).toEqual([503, '60']);
    expect(absent.body).toMatchObject({ code: 'events_unavailable' });
    const wrong = await stack.client.call('GET', '/v1/events', undefined, { headers: { 'last-event-id': '42' } });
    expect([wrong.status, (wrong.body as { code: string }).code]).toEqual([400, 'request_header_invalid']);
  });
});

describe('the end', () => {
  it('comes to a listener when the edge stops, so that stopping does not wait for it', async () => {
    const stack = await started('memory');
    const live = await listen(stack);
    const stopped = stack.edge.stop();
    await live.ended;
    await stopped;
    expect(live.events.at(-1)).toMatchObject({ event: 'end', data: '{"code":"deploy_overlap"}' });
    expect(stack.edge.process.lines.find(({ msg }) => msg === 'stopped')).toMatchObject({ finished: true });
  });
});

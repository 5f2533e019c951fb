/** An outbox whose only sink is the event bus. */
import { expect, it } from 'vitest';
import { EventSink } from '../../../edge/event-bus/outbox-sink.ts';
import type { EventPublisher } from '../../../edge/event-bus/publish.ts';
import { VirtualTime } from '../../support/virtual-time.ts';
import { event } from './fakes.ts';

it('publishes again what was published and could not be written down', async () => {
  const rows = [{ seq: 1, events: [event(1)] }];
  const published: string[] = [];
  const publisher: Pick<EventPublisher, 'publish'> = {
    publish: (events) => Promise.resolve(published.push(...events.map(({ eventId }) => eventId))),
  };
  const pauses: (() => void)[] = [];
  const logged: string[] = [];
  let isBroken = true;
  const sink = new EventSink({
    publisher: publisher as EventPublisher,
    undelivered: () => rows,
    lastSeq: () => 1,
    delivered: () => {
      if (isBroken) throw new Error('the disk is full');
      rows.length = 0;
    },
    after: (_, task) => {
      pauses.push(task);
      return () => {};
    },
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: (message) => logged.push(message) },
  });
  await sink.kick();
  expect(logged).toEqual(['the outbox failed']);
  expect(pauses).toHaveLength(1);
  isBroken = false;
  pauses[0]!();
  await expect.poll(() => rows).toEqual([]);
  expect(published).toHaveLength(2);
  expect(new Set(published).size).toBe(1);
});

it('has one further round waiting, however often it was asked meanwhile', async () => {
  const time = new VirtualTime();
  let rounds = 0;
  const publisher: Pick<EventPublisher, 'publish'> = { publish: () => Promise.resolve(((rounds += 1), 0)) };
  const sink = new EventSink({
    publisher: publisher as EventPublisher,
    undelivered: () => [{ seq: 1, events: [event(1)] }],
    lastSeq: () => 1,
    delivered: () => undefined,
    after: (delayMs, task) => time.after(delayMs, task),
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  });
  for (let n = 0; n < 100; n += 1) await sink.kick();
  const asked = rounds;
  await time.pass(600_000);
  expect([asked, rounds - asked]).toEqual([100, 10]);
});

/** What a ledger's turns left to be told, while nobody takes it. */
import { expect, it } from 'vitest';
import { OutboxPump } from '../../../edge/manager/scheduler/outbox.ts';
import { productionTimers } from '../../../edge/manager/scheduler/timers.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

it('has one further try of a sink waiting, however often it was asked meanwhile', async () => {
  const time = new VirtualTime();
  let tries = 0;
  let isAway = true;
  const rows = [{ seq: 1, atMs: 0, body: { events: [], readModel: [], releases: [] } }];
  const pump = new OutboxPump({
    undelivered: (sink) => (sink === 'events' ? rows : []),
    delivered: () => void rows.splice(0),
    deliver: {
      readModel: () => Promise.resolve(1),
      admission: () => Promise.resolve(1),
      events: () => {
        tries += 1;
        return isAway ? Promise.reject(new Error('away')) : Promise.resolve(1);
      },
    },
    after: (delayMs, task) => time.after(delayMs, task),
    timers: productionTimers,
    log: silent,
  });
  for (let turn = 0; turn < 200; turn += 1) {
    await pump.kick();
    await time.pass(50);
  }
  const asked = tries;
  expect(asked).toBeGreaterThanOrEqual(200);
  await time.pass(600_000);
  expect(tries - asked).toBe(10);
  isAway = false;
  await time.pass(productionTimers.outboxCapMs + 1_000);
  expect(rows).toEqual([]);
});

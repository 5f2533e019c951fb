/** Intents: journaled, once, in order, superseded by later ones. */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Handlers } from '../../../agent-daemon/dispatch.ts';
import { systemDisk, systemRandom, systemTimers } from '../../../agent-daemon/platform.ts';
import { IntentQueue } from '../../../agent-daemon/tunnel/intents.ts';
import { Journal } from '../../../agent-daemon/tunnel/journal.ts';
import { newId, newSessionId } from '../../../schema/ids.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { keptLog, noFailpoints } from '../ports.ts';
import { create, stop } from './bench.ts';

let dir: TmpDir;
let journal: Journal;
const log = keptLog();
const ports = { disk: systemDisk, log, timers: systemTimers(log), random: systemRandom, failpoints: noFailpoints };
const open = () =>
  Journal.open(join(dir.path, 'journal.log'), {
    ...ports,
    freshJournalId: () => newId('journal', 1, new Uint8Array(10)),
  });

beforeEach(async () => {
  dir = tmpDir('int');
  journal = await open();
});
afterEach(async () => {
  await journal.close();
  dir.remove();
});

function queue(handlers: Partial<Handlers['intents']>): { queue: IntentQueue; done: string[] } {
  const done: string[] = [];
  const plain = (kind: string) => (order: { seq: number }) => {
    done.push(`${kind} ${order.seq}`);
    return Promise.resolve();
  };
  const table = { create: plain('create'), stop: plain('stop'), remove: plain('remove'), ...handlers };
  return { queue: new IntentQueue(journal, table, ports), done };
}

it('[M4] carries duplicated and reordered intents of a session out once, in the order of seq', async () => {
  const { queue: intents, done } = queue({});
  const [one, two, three] = [create(1), stop(2), stop(3)];
  await intents.accept([three, one, two, one]);
  await intents.accept([two]);
  await intents.accept([one, three]);
  await until(() => journal.pendingIntents().length === 0, { what: 'all to be done' });
  expect(done).toEqual(['create 1', 'stop 2', 'stop 3']);
});

it('[M4] acknowledges and drops an order that comes after a later one of its session', async () => {
  const { queue: intents, done } = queue({});
  await intents.accept([stop(5)]);
  await intents.accept([create(4)]);
  await until(() => journal.pendingIntents().length === 0, { what: 'all to be done' });
  expect(done).toEqual(['stop 5']);
});

it('runs sessions side by side, and orders of one session one at a time', async () => {
  const running = new Set<string>();
  const finish: (() => void)[] = [];
  const { queue: intents } = queue({
    create: async ({ sessionId, seq }) => {
      running.add(`${sessionId} ${seq}`);
      await new Promise<void>((resolve) => void finish.push(resolve));
      running.delete(`${sessionId} ${seq}`);
    },
  });
  const other = newSessionId(2, new Uint8Array(10), 1, 1);
  await intents.accept([create(1), create(2), create(1, 1, other)]);
  await until(() => running.size === 2, { what: 'two sessions to run' });
  expect([...running].every((each) => each.endsWith(' 1'))).toBe(true);
  for (const end of finish.splice(0)) end();
  await until(() => [...running].some((each) => each.endsWith(' 2')), { what: 'the second order' });
  for (const end of finish.splice(0)) end();
  await until(() => journal.pendingIntents().length === 0, { what: 'all to be done' });
});

it('tells a running create that a stop waits behind it', async () => {
  const { queue: intents, done } = queue({
    create: (_, superseded) =>
      new Promise((resolve) => superseded.addEventListener('abort', () => resolve(), { once: true })),
  });
  await intents.accept([create(1)]);
  await intents.accept([stop(2)]);
  await until(() => done.length === 1, { what: 'the stop' });
  expect(done).toEqual(['stop 2']);
});

it('[M5] drops an order of a lower generation than the session has', async () => {
  const seen: boolean[] = [];
  const { queue: intents, done } = queue({
    create: ({ generation }, superseded) => {
      seen.push(superseded.aborted);
      done.push(`create g${generation}`);
      return Promise.resolve();
    },
  });
  await intents.accept([create(1, 1), create(2, 2)]);
  await until(() => journal.pendingIntents().length === 0, { what: 'all to be done' });
  await intents.accept([stop(3, 1)]);
  await until(() => journal.pendingIntents().length === 0, { what: 'all to be done' });
  expect(done).toEqual(['create g2']);
  expect(seen).toEqual([false]);
});

it('[M5] goes on with a create when an order for an older placement comes behind it', async () => {
  const seen: boolean[] = [];
  const finish: (() => void)[] = [];
  const { queue: intents, done } = queue({
    create: async ({ generation }, superseded) => {
      await new Promise<void>((resolve) => void finish.push(resolve));
      seen.push(superseded.aborted);
      done.push(`create g${generation}`);
    },
  });
  await intents.accept([create(1, 2)]);
  await intents.accept([stop(2, 1)]);
  finish[0]!();
  await until(() => journal.pendingIntents().length === 0, { what: 'all to be done' });
  expect([done, seen]).toEqual([['create g2'], [false]]);
});

it('asks a handler that fails again, and a restarted agent finishes what it had taken', async () => {
  let tries = 0;
  const first = queue({ create: () => (++tries < 2 ? Promise.reject(new Error('once')) : Promise.resolve()) });
  await first.queue.accept([create(1)]);
  await until(() => journal.pendingIntents().length === 0, { what: 'the second try' });
  expect(tries).toBe(2);
  const stuck = queue({ create: () => new Promise(() => {}) });
  await stuck.queue.accept([create(2)]);
  stuck.queue.stop();
  await journal.close();
  journal = await open();
  const next = queue({});
  next.queue.resume();
  await until(() => journal.pendingIntents().length === 0, { what: 'the left order' });
  expect(next.done).toEqual(['create 2']);
});

/** What admission tells ledgers and D1, and what becomes of it when they fail. */
import { describe, expect, it } from 'vitest';
import { anySpec } from '../scheduler/rows.ts';
import { Desk, domain } from './desk.ts';

describe('the hand-over', () => {
  it('is done once and forgotten, and D1 gets its row', async () => {
    const desk = new Desk();
    const id = desk.create();
    await desk.teller.kick();
    expect(desk.admission.get(id)).toBeUndefined();
    expect(desk.listed.get(id)).toMatchObject({ state: 'PENDING', version: 1 });
    expect(desk.store.claim(id)).toMatchObject({ place: 'handed', spec: null, todo: 0 });
    expect(desk.admission.todo(9)).toEqual([]);
  });

  it('is tried again after a crash, and when a ledger or D1 was down', async () => {
    const desk = new Desk();
    const id = desk.create();
    desk.crash();
    desk.d1 = 'down';
    desk.ledger = 'down';
    await desk.teller.kick();
    expect(desk.admission.get(id)).toMatchObject({ state: 'PENDING' });
    desk.ledger = 'accepted';
    desk.crash();
    await desk.teller.kick();
    expect(desk.admission.get(id)).toBeUndefined();
    expect(desk.listed.size).toBe(0);
    expect(desk.pauses).toHaveLength(1);
    desk.d1 = 'up';
    desk.pauses[0]!();
    await desk.teller.kick();
    expect(desk.listed.get(id)).toMatchObject({ state: 'PENDING' });
  });

  it('is tried again by the same object when what came of it could not be written down', async () => {
    const desk = new Desk();
    const id = desk.create();
    desk.store.crashAfter(1);
    await desk.teller.kick();
    expect(desk.admission.get(id)).toMatchObject({ state: 'PENDING' });
    expect(desk.pauses).toHaveLength(1);
    const next = desk.create();
    await desk.teller.kick();
    expect([...desk.admitted.keys()]).toEqual([id, next]);
    expect(desk.admission.todo(9)).toEqual([]);
  });

  it('holds a session while the group is full, and says so once', async () => {
    const desk = new Desk();
    desk.ledger = 'full';
    const id = desk.create();
    await desk.teller.kick();
    await desk.teller.kick();
    expect(desk.admission.get(id)).toMatchObject({ state: 'PENDING', version: 2, reason: { code: 'group_full' } });
    expect(desk.listed.get(id)).toMatchObject({ version: 2, reason: { code: 'group_full' } });
    desk.ledger = 'accepted';
    await desk.teller.retry();
    expect(desk.admitted.get(id)?.trail.map(({ version }) => version)).toEqual([1, 2]);
  });

  it.each(['full', 'down'] as const)('to a group whose ledger is %s holds up that to no other', async (state) => {
    const desk = new Desk();
    desk.ledgers.set(4, state);
    // More than are told in one round.
    const held = Array.from({ length: 450 }, () => desk.create({}, 4));
    await desk.teller.kick();
    expect([desk.listed.size, desk.admitted.size]).toEqual([450, 0]);
    desk.asked.length = 0;
    for (let n = 0; n < 3; n++) {
      const id = desk.create();
      await desk.teller.kick();
      expect([...desk.admitted.keys()].at(-1)).toBe(id);
    }
    expect([desk.asked, desk.pauses.length]).toEqual([[3, 3, 3], 1]);
    desk.ledgers.delete(4);
    desk.pauses[0]!();
    await desk.teller.kick();
    expect(held.every((id) => desk.admitted.has(id))).toBe(true);
    expect(desk.admission.todo(9)).toEqual([]);
  });

  it('goes on without D1, whose rows follow', async () => {
    const desk = new Desk();
    desk.d1 = 'down';
    for (let n = 0; n < 450; n++) desk.create();
    await desk.teller.kick();
    expect([desk.admitted.size, desk.listed.size]).toEqual([450, 0]);
    desk.d1 = 'up';
    desk.pauses[0]!();
    await desk.teller.kick();
    expect([desk.listed.size, desk.admission.todo(9)]).toEqual([450, []]);
  });

  it('to a full group is given up at once for what is ended, however many wait before it', async () => {
    const desk = new Desk();
    desk.ledger = 'full';
    const ids = Array.from({ length: 450 }, () => desk.create());
    await desk.teller.kick();
    desk.admission.terminate(ids[449]!, { graceMs: 0, force: false, reason: 'stopped' });
    await desk.teller.retry();
    expect(desk.listed.get(ids[449]!)).toMatchObject({ state: 'CANCELLED' });
  });

  it('to a closed group cancels the session, and frees its name and quota', async () => {
    const desk = new Desk();
    desk.ledger = 'closed';
    const id = desk.create({ name: 'mine' });
    await desk.teller.kick();
    expect(desk.listed.get(id)).toMatchObject({ state: 'CANCELLED', reason: { code: 'group_closed' } });
    expect(desk.usage()).toEqual({ live: 0, waiting: 0 });
    expect(desk.store.claim(id)).toBeUndefined();
    desk.create({ name: 'mine' });
  });

  it('carries an order to end behind it', async () => {
    const desk = new Desk();
    desk.ledger = 'down';
    const id = desk.create();
    await desk.teller.kick();
    expect(desk.admission.terminate(id, { graceMs: 1, force: false, reason: 'stopped' })).toBe('accepted');
    desk.ledger = 'accepted';
    await desk.teller.retry();
    expect(desk.stopped).toEqual([id]);
    expect(desk.admission.terminate(id, { graceMs: 1, force: false, reason: 'stopped' })).toBe('unknown');
  });

  it('never happens for a session that was cancelled while it waited for quota', async () => {
    const desk = new Desk();
    desk.admission.setLimits(domain, anySpec.projectId, { concurrentSessions: 0 });
    const id = desk.create();
    expect(desk.admission.terminate(id, { graceMs: 0, force: false, reason: 'stopped' })).toBe('accepted');
    expect(desk.admission.terminate(id, { graceMs: 0, force: false, reason: 'stopped' })).toBe('ended');
    await desk.teller.kick();
    expect(desk.admitted.size).toBe(0);
    expect(desk.listed.get(id)).toMatchObject({
      state: 'CANCELLED',
      version: 2,
      history: [{ version: 1 }, { version: 2 }],
    });
    expect(
      desk.admission.undelivered(10).flatMap(({ events }) => events.map(({ type, version }) => [type, version])),
    ).toEqual([
      ['session.created', 1],
      ['session.state', 2],
    ]);
  });

  it('leaves no row of what was purged here, before its row was written, after, or meanwhile', async () => {
    for (const when of ['before', 'after', 'meanwhile']) {
      const desk = new Desk();
      desk.admission.setLimits(domain, anySpec.projectId, { concurrentSessions: 0 });
      const id = desk.create();
      if (when === 'after') await desk.teller.kick();
      const end = (purge: boolean) =>
        desk.admission.terminate(id, { graceMs: 0, force: false, reason: 'stopped', purge });
      if (when === 'meanwhile') {
        expect(end(false)).toBe('accepted');
        desk.whileListing = () => {
          desk.whileListing = () => undefined;
          expect(end(true)).toBe('ended');
        };
      } else expect(end(true)).toBe('accepted');
      await desk.teller.kick();
      await desk.teller.kick();
      expect([desk.listed.size, desk.store.claim(id), desk.usage()]).toEqual([0, undefined, { live: 0, waiting: 0 }]);
    }
  });

  it('is given up for good when the group is full and the session was ended meanwhile', async () => {
    const desk = new Desk();
    desk.ledger = 'full';
    const id = desk.create();
    await desk.teller.kick();
    desk.admission.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    await desk.teller.retry();
    expect(desk.listed.get(id)).toMatchObject({ state: 'CANCELLED' });
    expect([desk.store.claim(id), desk.admission.todo(9)]).toEqual([undefined, []]);
  });
});

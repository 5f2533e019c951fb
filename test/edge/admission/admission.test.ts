/** Admission's core and what is around it, moved by hand: quota, names, keys, releases. */
import * as fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { Committer } from '../../../edge/manager/admission/committer.ts';
import type { SessionRequest } from '../../../edge/manager/admission/rpc.ts';
import { anySpec } from '../scheduler/rows.ts';
import { Desk, domain } from './desk.ts';

const hour = 3_600_000;

describe('a batch', () => {
  it('answers each request by itself: a refused one leaves no trace and hurts no neighbour', () => {
    const desk = new Desk();
    const answers = desk.admission.create(domain, [
      desk.request({ name: 'one' }),
      desk.request({ name: 'one' }),
      desk.request({ name: 'two' }),
    ]);
    expect(answers.map(({ kind }) => kind)).toEqual(['created', 'refused', 'created']);
    expect(answers[1]).toMatchObject({ code: 'session_name_taken' });
    expect(desk.usage()).toEqual({ live: 2, waiting: 0 });
  });

  it('answers a copy of a refused request as it answered the first, for two minutes', () => {
    const desk = new Desk();
    const taken = desk.create({ name: 'one' });
    const [refused] = desk.admission.create(domain, [desk.request({ name: 'one' }, 'k')]);
    expect(refused).toMatchObject({ kind: 'refused', code: 'session_name_taken' });
    desk.release(taken);
    desk.crash();
    expect(desk.admission.create(domain, [desk.request({ name: 'one' }, 'k')])).toEqual([refused]);
    desk.nowMs += 2 * 60_000;
    expect(desk.admission.create(domain, [desk.request({ name: 'one' }, 'k')])).toMatchObject([{ kind: 'created' }]);
  });

  it('collapses equal keys, and refuses the same key with another body', () => {
    const desk = new Desk();
    const answers = desk.admission.create(domain, [
      desk.request({}, 'k'),
      desk.request({}, 'k'),
      desk.request({}, 'k', 'other'),
    ]);
    const [first] = answers;
    if (first?.kind !== 'created') throw new Error('not created');
    expect(answers[1]).toEqual({ kind: 'replay', sessionId: first.session.sessionId });
    expect(answers[2]).toMatchObject({ kind: 'refused', code: 'idempotency_key_reused' });
    desk.crash();
    expect(desk.admission.create(domain, [desk.request({}, 'k')])).toEqual([answers[1]]);
    desk.nowMs += 49 * hour;
    expect(desk.admission.create(domain, [desk.request({}, 'k', 'other')])).toMatchObject([{ kind: 'created' }]);
    expect(desk.usage().live).toBe(2);
  });

  it('makes nothing of a batch whose sessions can not all be noted with it', () => {
    const desk = new Desk();
    const noted: string[] = [];
    const fail = (_: SessionRequest, sessionId: string) => {
      if (noted.push(sessionId) === 2) throw new Error('the disk is full');
    };
    expect(() => desk.admission.create(domain, [desk.request({}, 'k'), desk.request()], fail)).toThrow('full');
    expect(desk.usage()).toEqual({ live: 0, waiting: 0 });
    expect(desk.admission.todo(9)).toEqual([]);
    expect(desk.admission.create(domain, [desk.request({}, 'k')])).toMatchObject([{ kind: 'created' }]);
  });

  it('gives a name to a session without one, and the id of its ledger and domain', () => {
    const desk = new Desk();
    const id = desk.create({ type: 'interactive' });
    expect(id).toMatch(/^ses_[0-9a-z]{26}_3_1$/);
    expect(desk.admission.get(id)?.spec.name).toMatch(/^interactive-[0-9a-z]{8}$/);
  });

  it('belongs to one domain for ever', () => {
    const desk = new Desk();
    desk.create();
    expect(() => desk.admission.create({ id: 'dom_2', number: 2 }, [desk.request()])).toThrow(/another domain/);
  });
});

describe('quota', () => {
  it('refuses beyond the hard limit with the numbers, and holds beyond the concurrency limit', async () => {
    const desk = new Desk();
    desk.admission.setLimits(domain, anySpec.projectId, { concurrentSessions: 2, liveSessions: 3 });
    const ids = [desk.create(), desk.create(), desk.create()];
    expect(desk.admission.get(ids[2]!)).toMatchObject({ state: 'PENDING', reason: { code: 'quota_sessions' } });
    expect(desk.admission.create(domain, [desk.request()])).toMatchObject([
      {
        kind: 'refused',
        code: 'session_quota_exceeded',
        detail: expect.stringContaining('3 live sessions of at most 3') as string,
      },
    ]);
    await desk.teller.kick();
    expect([...desk.admitted.keys()]).toEqual(ids.slice(0, 2));
    expect(desk.listed.get(ids[2]!)).toMatchObject({ state: 'PENDING', reason: { code: 'quota_sessions' } });
    expect(desk.usage()).toEqual({ live: 3, waiting: 1 });
  });

  it('lets held sessions go on in order of birth when others end, across groups and projects apart', async () => {
    const desk = new Desk();
    desk.admission.setLimits(domain, undefined, { concurrentSessions: 1 });
    const ids = [desk.create(), desk.create(), desk.create()];
    const elsewhere = desk.create({ projectId: 'prj_00000000000000000000000002' });
    await desk.teller.kick();
    expect([...desk.admitted.keys()]).toEqual([ids[0], elsewhere]);
    desk.release(ids[0]!);
    desk.release(ids[0]!);
    await desk.teller.kick();
    expect([...desk.admitted.keys()]).toEqual([ids[0], elsewhere, ids[1]]);
    expect(desk.admitted.get(ids[1]!)?.trail).toMatchObject([
      { version: 1, reason: { code: 'quota_sessions' } },
      { version: 2, state: 'PENDING' },
    ]);
    expect(desk.usage()).toEqual({ live: 2, waiting: 1 });
  });

  it('is given back once for each session, whatever order things happen in', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(4), fc.nat(9)), { maxLength: 60 }), async (actions) => {
        const desk = new Desk();
        desk.admission.setLimits(domain, anySpec.projectId, { concurrentSessions: 2, liveSessions: 5 });
        const ids: string[] = [];
        for (const [action, number] of actions) {
          const id = ids[number % Math.max(1, ids.length)];
          if (action === 0) {
            const [answer] = desk.admission.create(domain, [desk.request()]);
            if (answer?.kind === 'created') ids.push(answer.session.sessionId);
          }
          if (action === 1 && id !== undefined && desk.admitted.has(id)) desk.release(id);
          if (action === 2 && id !== undefined)
            desk.admission.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
          if (action === 3) await desk.teller.kick();
          if (action === 4) desk.crash();
          const claims = ids.flatMap((each) => desk.store.claim(each) ?? []).filter(({ place }) => place !== 'over');
          const waiting = claims.filter(({ place }) => place === 'quota').length;
          expect(desk.usage()).toEqual({ live: claims.length, waiting });
          expect(claims.length).toBeLessThanOrEqual(5);
          expect(claims.length - waiting).toBeLessThanOrEqual(2);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('other creating requests', () => {
  const key = { actorId: 'usr_1', key: 'k', bodyHash: 'h' };

  it('have the same ids when they are repeated, and their answer when they are done', () => {
    const desk = new Desk();
    const { keys } = desk.admission;
    const first = keys.begin(key);
    expect(first).toMatchObject({ kind: 'begun', idBody: expect.stringMatching(/^[0-9a-z]{26}$/) as string });
    expect(keys.begin(key)).toEqual({ kind: 'inProgress' });
    desk.nowMs += 10_001;
    expect(keys.begin(key)).toEqual(first);
    expect(keys.begin(key)).toEqual({ kind: 'inProgress' });
    keys.rest(key);
    expect(keys.begin(key)).toEqual(first);
    desk.crash();
    expect(desk.admission.keys.begin(key)).toEqual(first);
    const answer = { status: 201, body: { id: 'x' } };
    desk.admission.keys.finish(key, { answer });
    expect(desk.admission.keys.begin(key)).toEqual({ kind: 'replay', answer });
    expect(desk.admission.keys.begin({ ...key, bodyHash: 'other' })).toEqual({ kind: 'conflict' });
    expect(desk.admission.keys.begin({ ...key, actorId: 'usr_2' }).kind).toBe('begun');
  });

  it('do not show a secret twice, and free their key when they are refused', () => {
    const { admission } = new Desk();
    admission.keys.begin(key);
    admission.keys.finish(key, { secret: { id: 'tok_1' } });
    expect(admission.keys.begin(key)).toEqual({ kind: 'secretShown', id: 'tok_1' });
    const other = { ...key, key: 'other' };
    admission.keys.begin(other);
    admission.keys.abandon(other);
    expect(admission.keys.begin({ ...other, bodyHash: 'new' }).kind).toBe('begun');
  });
});

describe('the committer', () => {
  it('makes one commit of what arrives while another is under way, and answers when it is durable', async () => {
    const batches: number[][] = [];
    let durable = () => {};
    const committer = new Committer<number, number>({
      commit: (requests) => {
        batches.push([...requests]);
        return requests.map((each) => each * 10);
      },
      durable: () =>
        new Promise((resolve) => {
          durable = resolve;
        }),
      sizeBytes: () => 1,
    });
    const first = committer.submit(1);
    await Promise.resolve();
    await Promise.resolve();
    const others = [2, 3, 4].map((each) => committer.submit(each));
    expect(batches).toEqual([[1]]);
    durable();
    expect(await first).toBe(10);
    await vi.waitFor(() => expect(batches).toHaveLength(2));
    expect(batches).toEqual([[1], [2, 3, 4]]);
    durable();
    expect(await Promise.all(others)).toEqual([20, 30, 40]);
  });

  it('fails a whole batch, and goes on with the next', async () => {
    let broken = true;
    const committer = new Committer<number, number>({
      commit: (requests) => {
        if (broken) throw new Error('broken');
        return [...requests];
      },
      durable: () => Promise.resolve(),
      sizeBytes: () => 1,
    });
    await expect(committer.submit(1)).rejects.toThrow('broken');
    broken = false;
    expect(await committer.submit(2)).toBe(2);
  });

  it('splits by bytes, but never refuses a single large one', async () => {
    const batches: number[][] = [];
    const committer = new Committer<number, number>({
      commit: (requests) => {
        batches.push([...requests]);
        return [...requests];
      },
      durable: () => Promise.resolve(),
      sizeBytes: (kib) => kib * 1024,
    });
    await Promise.all([300, 200, 500, 1].map((each) => committer.submit(each)));
    expect(batches).toEqual([[300], [200], [500], [1]]);
  });
});

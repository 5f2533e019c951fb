/** Admission's core and what is around it, moved by hand: quota, names, keys, hand-over, releases. */
import * as fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { Admission } from '../../../edge/manager/admission/admission.ts';
import { Committer } from '../../../edge/manager/admission/committer.ts';
import { memoryStore } from '../../../edge/manager/admission/memory-store.ts';
import type { SessionRequest } from '../../../edge/manager/admission/rpc.ts';
import { Teller } from '../../../edge/manager/admission/teller.ts';
import type { AdmitAnswer, AdmittedSession } from '../../../edge/manager/scheduler/rpc.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import { anySpec } from '../scheduler/rows.ts';

const domain = { id: 'dom_1', number: 1 };
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const hour = 3_600_000;

/** Admission over a model store, with a ledger and a D1 that a test can break. */
/** Goes into the audit chain of the object around the core, which has nothing to do with it. */
const audit: SessionRequest['audit'] = {
  id: 'aud_1',
  atMs: 0,
  action: 'session.create',
  outcome: 'done',
  actor: { kind: 'user', id: 'usr_1' },
  address: 'unknown',
  requestId: 'req_1',
};

class Desk {
  readonly store = memoryStore();
  nowMs = Date.UTC(2026, 10, 24);
  admission = this.#open();
  readonly admitted = new Map<string, AdmittedSession>();
  readonly listed = new Map<string, SessionRow>();
  readonly stopped: string[] = [];
  ledger: AdmitAnswer | 'down' = 'accepted';
  d1: 'up' | 'down' = 'up';
  pauses: (() => void)[] = [];
  whileListing = (): void => undefined;
  #seed = 7;
  teller = this.#tell();

  #open(): Admission {
    return new Admission({
      store: this.store,
      clock: { nowMs: () => this.nowMs, bootMs: () => this.nowMs },
      random: {
        bytes: (count) =>
          Uint8Array.from({ length: count }, () => (this.#seed = (this.#seed * 69069 + 1) >>> 0) >>> 24),
        fraction: () => 0.5,
      },
    });
  }
  #tell(): Teller {
    return new Teller({
      admission: this.admission,
      admit: (_, sessions) => {
        if (this.ledger === 'down') return Promise.reject(new Error('down'));
        const { ledger } = this;
        if (ledger === 'accepted') for (const each of sessions) this.admitted.set(each.sessionId, each);
        return Promise.resolve(sessions.map(() => ledger));
      },
      terminate: (_, sessionId) => Promise.resolve(this.stopped.push(sessionId)),
      list: (rows, gone) => {
        if (this.d1 === 'down') return Promise.reject(new Error('down'));
        for (const id of gone) this.listed.delete(id);
        this.whileListing();
        for (const row of rows) if (row.version > (this.listed.get(row.id)?.version ?? 0)) this.listed.set(row.id, row);
        return Promise.resolve();
      },
      after: (_, task) => {
        this.pauses.push(task);
        return () => {};
      },
      log: silent,
    });
  }
  /** The object is evicted: only its storage is left. */
  crash(): void {
    this.admission = this.#open();
    this.pauses = [];
    this.teller = this.#tell();
  }

  request(spec: Partial<KernelSpec> = {}, key?: string, bodyHash = 'h'): SessionRequest {
    this.nowMs += 1;
    return {
      groupNumber: 3,
      spec: { ...anySpec, name: '', ...spec },
      audit,
      ...(key === undefined ? {} : { key: { actorId: 'usr_1', key, bodyHash } }),
    };
  }
  /** Admits one and answers its id. */
  create(spec: Partial<KernelSpec> = {}): string {
    const [answer] = this.admission.create(domain, [this.request(spec)]);
    if (answer?.kind !== 'created') throw new Error(JSON.stringify(answer));
    return answer.session.sessionId;
  }
  release(...sessionIds: string[]): void {
    this.admission.release(
      domain,
      sessionIds.map((sessionId) => ({ sessionId, generation: 1, version: 9 })),
    );
  }
  usage(projectId = anySpec.projectId) {
    const { live, waiting } = this.admission.limits(projectId);
    return { live, waiting };
  }
}

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
    expect(desk.store.todo(9)).toEqual([]);
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

describe('the hand-over', () => {
  it('is done once and forgotten, and D1 gets its row', async () => {
    const desk = new Desk();
    const id = desk.create();
    await desk.teller.kick();
    expect(desk.admission.get(id)).toBeUndefined();
    expect(desk.listed.get(id)).toMatchObject({ state: 'PENDING', version: 1 });
    expect(desk.store.claim(id)).toMatchObject({ place: 'handed', spec: null, todo: 0 });
    expect(desk.store.todo(9)).toEqual([]);
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
    expect(desk.store.todo(9)).toEqual([]);
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
    await desk.teller.kick();
    expect(desk.admitted.get(id)?.trail.map(({ version }) => version)).toEqual([1, 2]);
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
    await desk.teller.kick();
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
    await desk.teller.kick();
    await desk.teller.kick();
    expect(desk.listed.get(id)).toMatchObject({ state: 'CANCELLED' });
    expect([desk.store.claim(id), desk.store.todo(9)]).toEqual([undefined, []]);
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

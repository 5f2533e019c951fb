/** One suite for both stores of admission: random steps in two stores at once, and transactions that fail. */
import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { drizzle } from 'drizzle-orm/durable-sqlite';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AdmissionStore, noneHeld } from '../../../edge/manager/admission/admission-store.ts';
import { memoryStore } from '../../../edge/manager/admission/memory-store.ts';
import { sqlStore } from '../../../edge/manager/admission/sql-store.ts';
import type { ClaimRow } from '../../../schema/admission/claims.ts';
import { anySpec } from '../scheduler/rows.ts';

const ids = ['ses_a', 'ses_b', 'ses_c', 'ses_d'];
const projects = ['prj_1', 'prj_2'];
const days = [1, 2, 3];
const any = <T>(values: readonly T[]) => fc.constantFrom(...values);

function anyClaim(sessionId: string, projectId: string): ClaimRow {
  return {
    sessionId,
    projectId,
    ownerId: 'usr',
    name: `name of ${sessionId}`,
    groupNumber: sessionId < 'ses_c' ? 1 : 2,
    createdAtMs: 1,
    place: 'leaving',
    reason: null,
    version: 1,
    trail: [],
    spec: anySpec,
    stop: null,
    unlisted: 1,
    todo: 1,
  };
}

type Step = (store: AdmissionStore) => void;
const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(any(ids), any(projects)).map(([id, project]): Step => (store) => {
    if (!store.claim(id)) store.insertClaim(anyClaim(id, project));
  }),
  fc
    .tuple(any(ids), any(['quota', 'leaving', 'handed', 'over'] as const), fc.nat(1), fc.nat(1), fc.boolean())
    .map(([id, place, todo, unlisted, isStopped]): Step => (store) => {
      const claim = store.claim(id);
      const reason = todo === 1 ? null : { code: place };
      const stop = isStopped ? { graceMs: 1, force: false, reason: 'user' } : null;
      const version = (claim?.version ?? 0) + 1;
      if (claim) store.updateClaim(claim, { ...claim, place, todo, unlisted, stop, reason, version });
    }),
  any(ids).map(
    (id): Step =>
      (store) =>
        store.deleteClaim(id),
  ),
  fc.tuple(any(days), any(['a', 'b'])).map(([day, key]): Step => (store) => {
    store.putKey({ day, actorId: 'u', key, bodyHash: `${day}`, atMs: day, made: 'm', outcome: { kind: 'session' } });
  }),
  fc.tuple(any(days), any(['a', 'b'])).map(
    ([day, key]): Step =>
      (store) =>
        store.deleteKey(day, 'u', key),
  ),
  any(days).map(
    (day): Step =>
      (store) =>
        store.purgeKeys(day),
  ),
  fc.tuple(any(projects), fc.nat(5), fc.nat(5)).map(([projectId, live, waiting]): Step => (store) => {
    store.putUsage({ projectId, live, waiting });
  }),
  fc.tuple(any([...projects, '']), fc.option(fc.nat(5), { nil: undefined })).map(([id, live]): Step => (store) => {
    store.putLimits(id, live === undefined ? {} : { liveSessions: live });
  }),
  fc.nat(9).map(
    (atMs): Step =>
      (store) =>
        store.appendOutbox(atMs, []),
  ),
);

function read(store: AdmissionStore): unknown {
  return {
    domain: store.domain(),
    claims: ids.map((id) => store.claim(id)),
    named: ids.flatMap((id) => projects.map((project) => store.isNamed(project, `name of ${id}`))),
    todo: [
      store.todo(2, noneHeld),
      ...[[], [1], [1, 2]].flatMap((groups) => [true, false].map((list) => store.todo(9, { list, groups }))),
    ],
    waiting: projects.map((project) => store.waiting(project, 3)),
    keys: days.flatMap((day) => ['a', 'b'].map((key) => store.key(day, 'u', key))),
    usage: projects.map((project) => store.usage(project)),
    limits: [...projects, ''].map((project) => store.limits(project)),
    outbox: store.outbox(100).map(({ atMs }) => atMs),
  };
}

function wipe(store: AdmissionStore): void {
  store.transaction(() => {
    for (const id of ids) store.deleteClaim(id);
    store.purgeKeys(99);
    store.trimOutbox(Number.MAX_SAFE_INTEGER);
  });
}

async function withSqlStore(work: (store: AdmissionStore) => void): Promise<void> {
  await runInDurableObject(env.ADMISSION.getByName(`contract ${crypto.randomUUID()}`), (_, state) => {
    work(sqlStore(drizzle(state.storage), (step) => state.storage.transactionSync(step)));
  });
}
function withMemoryStore(work: (store: AdmissionStore) => void): Promise<void> {
  work(memoryStore());
  return Promise.resolve();
}

describe.each([
  ['durable SQLite', withSqlStore],
  ['memory', withMemoryStore],
])('the store of admission in %s', (_, withStore) => {
  it('reads back what was written, like the model', async () => {
    await withStore((store) => {
      const model = memoryStore();
      fc.assert(
        fc.property(fc.array(steps, { minLength: 5, maxLength: 30 }), (sequence) => {
          for (const each of [store, model]) wipe(each);
          for (const step of sequence) {
            for (const each of [store, model]) each.transaction(() => step(each));
            expect(read(store)).toEqual(read(model));
          }
        }),
        { numRuns: 40 },
      );
    });
  });

  it('leaves nothing of a transaction that fails', async () => {
    await withStore((store) => {
      fc.assert(
        fc.property(
          fc.array(steps, { maxLength: 10 }),
          fc.array(steps, { minLength: 1, maxLength: 5 }),
          (before, cut) => {
            wipe(store);
            for (const step of before) store.transaction(() => step(store));
            const kept = read(store);
            const attempt = () =>
              store.transaction(() => {
                for (const step of cut) step(store);
                throw new Error('cut');
              });
            expect(attempt).toThrow('cut');
            expect(read(store)).toEqual(kept);
          },
        ),
        { numRuns: 40 },
      );
    });
  });

  it('refuses a name that a live session of the project has', async () => {
    await withStore((store) => {
      store.transaction(() => store.insertClaim(anyClaim('ses_a', 'prj_1')));
      const twice = { ...anyClaim('ses_b', 'prj_1'), name: 'name of ses_a' };
      expect(() => store.transaction(() => store.insertClaim(twice))).toThrow();
      store.transaction(() => store.insertClaim({ ...twice, projectId: 'prj_2' }));
    });
  });
});

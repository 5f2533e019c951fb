/** Admission's storage in the SQLite of its Durable Object. Only SQL; no decisions. */
import { and, asc, desc, eq, gt, lt, lte, or, sql } from 'drizzle-orm';
import type { DrizzleSqliteDODatabase } from 'drizzle-orm/durable-sqlite';
import {
  admissionClaims,
  admissionKeys,
  admissionLimits,
  admissionMeta,
  admissionOutbox,
  admissionUsage,
} from '../../../schema/admission/claims.ts';
import { preparedInsert, preparedUpdate } from '../../platform/prepared.ts';
import { changed } from '../scheduler/ledger-store.ts';
import type { AdmissionStore } from './admission-store.ts';

type Part<Name extends keyof AdmissionStore> = Pick<AdmissionStore, Name>;

/** The store over a Durable Object's own database, with admission's migrations applied. */
export function sqlStore(db: DrizzleSqliteDODatabase, transactionSync: <T>(work: () => T) => T): AdmissionStore {
  return {
    transaction: transactionSync,
    ...domainPart(db),
    ...claimPart(db),
    ...keyPart(db),
    ...quotaPart(db),
    ...outboxPart(db),
  };
}

function domainPart(db: DrizzleSqliteDODatabase): Part<'domain' | 'putDomain'> {
  return {
    domain() {
      const row = db.select().from(admissionMeta).get();
      return row && { id: row.domainId, number: row.domainNumber };
    },
    putDomain({ id, number }) {
      db.insert(admissionMeta).values({ one: 1, domainId: id, domainNumber: number }).run();
    },
  };
}

function claimPart(
  db: DrizzleSqliteDODatabase,
): Part<'claim' | 'isNamed' | 'insertClaim' | 'updateClaim' | 'deleteClaim' | 'claimsAfter' | 'todo' | 'waiting'> {
  const c = admissionClaims;
  const find = db
    .select()
    .from(c)
    .where(eq(c.sessionId, sql.placeholder('id')))
    .prepare();
  const named = db
    .select({ id: c.sessionId })
    .from(c)
    .where(and(eq(c.projectId, sql.placeholder('projectId')), eq(c.name, sql.placeholder('name'))))
    .prepare();
  const update = preparedUpdate(db, c, c.sessionId);
  return {
    claim: (sessionId) => find.get({ id: sessionId }),
    isNamed: (projectId, name) => named.get({ projectId, name }) !== undefined,
    insertClaim: preparedInsert(db, c),
    updateClaim(before, after) {
      const diff = changed(before, after);
      if (diff) update(after.sessionId, diff);
    },
    deleteClaim(sessionId) {
      db.delete(c).where(eq(c.sessionId, sessionId)).run();
    },
    claimsAfter: (after, limit) =>
      db
        .select({ sessionId: c.sessionId, projectId: c.projectId, groupNumber: c.groupNumber, place: c.place })
        .from(c)
        .where(gt(c.sessionId, after))
        .orderBy(asc(c.sessionId))
        .limit(limit)
        .all(),
    todo: (limit, { list, groups }) => {
      const toLedger = sql`(place = 'leaving' or (place = 'handed' and stop is not null))`;
      const isOpen = sql`group_number not in (select value from json_each(${JSON.stringify(groups)}))`;
      const rows = db
        .select({ id: c.sessionId })
        .from(c)
        .where(
          and(
            sql`todo = 1`,
            or(
              sql`unlisted = 1 and ${list ? 0 : 1}`,
              sql`${toLedger} and ${isOpen}`,
              sql`unlisted = 0 and not ${toLedger}`,
            ),
          ),
        )
        .orderBy(sql`stop is null`, asc(c.sessionId))
        .limit(limit)
        .all();
      return rows.map(({ id }) => id);
    },
    waiting: (projectId, limit) =>
      db
        .select({ id: c.sessionId })
        .from(c)
        .where(and(sql`place = 'quota'`, eq(c.projectId, projectId)))
        .orderBy(asc(c.sessionId))
        .limit(limit)
        .all()
        .map(({ id }) => id),
  };
}

function keyPart(db: DrizzleSqliteDODatabase): Part<'key' | 'putKey' | 'deleteKey' | 'purgeKeys'> {
  const k = admissionKeys;
  const is = (day: number, actorId: string, key: string) => and(eq(k.day, day), eq(k.actorId, actorId), eq(k.key, key));
  return {
    key: (day, actorId, key) =>
      db
        .select()
        .from(k)
        .where(is(day, actorId, key))
        .get(),
    putKey(row) {
      const { bodyHash, atMs, made, outcome } = row;
      db.insert(k)
        .values(row)
        .onConflictDoUpdate({ target: [k.day, k.actorId, k.key], set: { bodyHash, atMs, made, outcome } })
        .run();
    },
    deleteKey(day, actorId, key) {
      db.delete(k)
        .where(is(day, actorId, key))
        .run();
    },
    purgeKeys(day) {
      db.delete(k).where(lt(k.day, day)).run();
    },
  };
}

function quotaPart(db: DrizzleSqliteDODatabase): Part<'usage' | 'usages' | 'putUsage' | 'limits' | 'putLimits'> {
  const u = admissionUsage;
  const l = admissionLimits;
  const findUsage = db
    .select()
    .from(u)
    .where(eq(u.projectId, sql.placeholder('projectId')))
    .prepare();
  const findLimits = db
    .select()
    .from(l)
    .where(eq(l.projectId, sql.placeholder('projectId')))
    .prepare();
  return {
    usage: (projectId) => findUsage.get({ projectId }) ?? { projectId, live: 0, waiting: 0 },
    usages: () => db.select().from(u).orderBy(asc(u.projectId)).all(),
    putUsage({ projectId, live, waiting }) {
      db.insert(u)
        .values({ projectId, live, waiting })
        .onConflictDoUpdate({ target: u.projectId, set: { live, waiting } })
        .run();
    },
    limits(projectId) {
      const row = findLimits.get({ projectId });
      if (!row) return undefined;
      return {
        ...(row.concurrentSessions === null ? {} : { concurrentSessions: row.concurrentSessions }),
        ...(row.liveSessions === null ? {} : { liveSessions: row.liveSessions }),
      };
    },
    putLimits(projectId, limits) {
      const set = { concurrentSessions: limits.concurrentSessions ?? null, liveSessions: limits.liveSessions ?? null };
      db.insert(l)
        .values({ projectId, ...set })
        .onConflictDoUpdate({ target: l.projectId, set })
        .run();
    },
  };
}

function outboxPart(db: DrizzleSqliteDODatabase): Part<'appendOutbox' | 'outbox' | 'lastOutboxSeq' | 'trimOutbox'> {
  const o = admissionOutbox;
  return {
    appendOutbox(atMs, events) {
      db.insert(o)
        .values({ atMs, events: [...events] })
        .run();
    },
    outbox: (limit) => db.select().from(o).orderBy(asc(o.seq)).limit(limit).all(),
    lastOutboxSeq: () => db.select({ seq: o.seq }).from(o).orderBy(desc(o.seq)).limit(1).get()?.seq ?? 0,
    trimOutbox(uptoSeq) {
      db.delete(o).where(lte(o.seq, uptoSeq)).run();
    },
  };
}

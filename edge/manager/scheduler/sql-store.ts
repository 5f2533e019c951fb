/** A ledger's storage in the SQLite of its Durable Object. Only SQL; no decisions. */
import { and, asc, count, eq, gt, lt, lte, max, min, sql } from 'drizzle-orm';
import type { DrizzleSqliteDODatabase } from 'drizzle-orm/durable-sqlite';
import { ledgerAgents, ledgerImages, ledgerIntents, ledgerOrphans } from '../../../schema/ledger/agents.ts';
import { ledgerCursors, ledgerMeta, ledgerOutbox } from '../../../schema/ledger/book.ts';
import { ledgerReservations, ledgerSessions, ledgerSpecs, ledgerTrails } from '../../../schema/ledger/sessions.ts';
import { preparedInsert, preparedUpdate, preparedUpsert } from '../../platform/prepared.ts';
import { changed, type LedgerStore } from './ledger-store.ts';

const id = sql.placeholder('id');
const isPending = sql`state = 'PENDING'`;

/** The store over a Durable Object's own database, with the ledger's migrations applied. */
export function sqlStore(db: DrizzleSqliteDODatabase, transactionSync: <T>(work: () => T) => T): LedgerStore {
  return {
    transaction: transactionSync,
    ...metaPart(db),
    ...sessionPart(db),
    ...queuePart(db),
    ...reservationPart(db),
    ...agentPart(db),
    ...outboxPart(db),
  };
}

type Part<Name extends keyof LedgerStore> = Pick<LedgerStore, Name>;

function metaPart(db: DrizzleSqliteDODatabase): Part<'meta' | 'putMeta' | 'cursors' | 'putCursors'> {
  const putMeta = preparedUpsert(db, ledgerMeta, ledgerMeta.one);
  const putCursors = preparedUpsert(db, ledgerCursors, ledgerCursors.one);
  return {
    meta() {
      const row = db.select().from(ledgerMeta).get();
      if (!row) return undefined;
      const { one: _, ...meta } = row;
      return meta;
    },
    putMeta: (meta) => putMeta({ one: 1, ...meta }),
    cursors() {
      const row = db.select().from(ledgerCursors).get();
      return row
        ? { readModel: row.readModel, events: row.events, admission: row.admission }
        : { readModel: 0, events: 0, admission: 0 };
    },
    putCursors: (cursors) => putCursors({ one: 1, ...cursors }),
  };
}

function sessionPart(
  db: DrizzleSqliteDODatabase,
): Part<
  'session' | 'insertSession' | 'updateSession' | 'deleteSession' | 'spec' | 'trail' | 'appendTrail' | 'sessionsAfter'
> {
  const is = eq(ledgerSessions.sessionId, id);
  const find = db.select().from(ledgerSessions).where(is).prepare();
  const insert = preparedInsert(db, ledgerSessions);
  const update = preparedUpdate(db, ledgerSessions, ledgerSessions.sessionId);
  const insertSpec = preparedInsert(db, ledgerSpecs);
  const findSpec = db.select().from(ledgerSpecs).where(eq(ledgerSpecs.sessionId, id)).prepare();
  const trails = db
    .select()
    .from(ledgerTrails)
    .where(eq(ledgerTrails.sessionId, id))
    .orderBy(asc(ledgerTrails.firstVersion))
    .prepare();
  return {
    session: (sessionId) => find.get({ id: sessionId }),
    insertSession(row, spec) {
      insert(row);
      insertSpec({ sessionId: row.sessionId, spec });
    },
    updateSession(before, after) {
      const diff = changed(before, after);
      if (diff) update(after.sessionId, diff);
    },
    deleteSession(sessionId) {
      db.delete(ledgerSessions).where(eq(ledgerSessions.sessionId, sessionId)).run();
      db.delete(ledgerSpecs).where(eq(ledgerSpecs.sessionId, sessionId)).run();
      db.delete(ledgerTrails).where(eq(ledgerTrails.sessionId, sessionId)).run();
    },
    sessionsAfter: (after, limit) =>
      db
        .select({ sessionId: ledgerSessions.sessionId })
        .from(ledgerSessions)
        .where(gt(ledgerSessions.sessionId, after))
        .orderBy(asc(ledgerSessions.sessionId))
        .limit(limit)
        .all()
        .map((row) => row.sessionId),
    spec: (sessionId) => findSpec.get({ id: sessionId })?.spec,
    trail: (sessionId) => trails.all({ id: sessionId }).flatMap((chunk) => chunk.rows),
    appendTrail(sessionId, rows) {
      const first = rows[0];
      if (first) db.insert(ledgerTrails).values({ sessionId, firstVersion: first.version, rows }).run();
    },
  };
}

function queuePart(
  db: DrizzleSqliteDODatabase,
): Part<'pendingShapes' | 'pending' | 'oldestPending' | 'pendingBefore' | 'moving' | 'over'> {
  const s = ledgerSessions;
  const pending = db
    .select({ sessionId: s.sessionId })
    .from(s)
    .where(and(isPending, eq(s.shape, sql.placeholder('shape')), gt(s.sessionId, sql.placeholder('after'))))
    .orderBy(asc(s.sessionId))
    .limit(sql.placeholder('limit'))
    .prepare();
  const over = db
    .select({ sessionId: s.sessionId })
    .from(s)
    .where(
      and(
        sql`ended_at_ms IS NOT NULL`,
        lte(s.endedAtMs, sql.placeholder('endedAtMs')),
        lte(s.endSeq, sql.placeholder('endSeq')),
        sql`holds = '[]'`,
      ),
    )
    .orderBy(asc(s.endedAtMs))
    .limit(sql.placeholder('limit'))
    .prepare();
  return {
    pendingShapes: () =>
      db
        .select({ shape: s.shape, count: count(), first: sql<string>`${min(s.sessionId)}` })
        .from(s)
        .where(isPending)
        .groupBy(s.shape)
        .all(),
    pending: (shape, limit, after = '') => pending.all({ shape, limit, after }).map((row) => row.sessionId),
    oldestPending: () =>
      db
        .select({ first: min(s.sessionId) })
        .from(s)
        .where(isPending)
        .get()?.first ?? undefined,
    pendingBefore: (sessionId) =>
      db
        .select({ count: count() })
        .from(s)
        .where(and(isPending, lt(s.sessionId, sessionId)))
        .get()?.count ?? 0,
    moving: () =>
      db
        .select({ sessionId: s.sessionId, deadlineMs: s.deadlineMs })
        .from(s)
        .where(sql`moving = 1`)
        .all(),
    over: (upto, limit) => over.all({ ...upto, limit }).map((row) => row.sessionId),
  };
}

function reservationPart(
  db: DrizzleSqliteDODatabase,
): Part<'reservationTotals' | 'reservations' | 'insertReservation' | 'deleteReservation'> {
  const r = ledgerReservations;
  const of = db.select().from(r).where(eq(r.agentId, id)).prepare();
  const remove = db
    .delete(r)
    .where(
      and(
        eq(r.agentId, id),
        eq(r.sessionId, sql.placeholder('sessionId')),
        eq(r.generation, sql.placeholder('generation')),
      ),
    )
    .prepare();
  return {
    reservationTotals: () =>
      db.select({ agentId: r.agentId, shape: r.shape, count: count() }).from(r).groupBy(r.agentId, r.shape).all(),
    reservations: (agentId) => of.all({ id: agentId }),
    insertReservation: preparedInsert(db, r),
    deleteReservation(agentId, sessionId, generation) {
      remove.run({ id: agentId, sessionId, generation });
    },
  };
}

function agentPart(
  db: DrizzleSqliteDODatabase,
): Part<
  | 'agents'
  | 'insertAgent'
  | 'updateAgent'
  | 'putImages'
  | 'images'
  | 'putOrphans'
  | 'orphans'
  | 'intents'
  | 'insertIntent'
  | 'deleteIntent'
> {
  const i = ledgerIntents;
  const update = preparedUpdate(db, ledgerAgents, ledgerAgents.agentId);
  const putImages = preparedUpsert(db, ledgerImages, ledgerImages.agentId);
  const remove = db
    .delete(i)
    .where(and(eq(i.agentId, id), eq(i.intentId, sql.placeholder('intentId'))))
    .prepare();
  return {
    agents: () => db.select().from(ledgerAgents).orderBy(asc(ledgerAgents.agentId)).all(),
    insertAgent: preparedInsert(db, ledgerAgents),
    updateAgent(before, after) {
      const diff = changed(before, after);
      if (diff) update(after.agentId, diff);
    },
    putImages: (agentId, images) => putImages({ agentId, images }),
    images: () => db.select().from(ledgerImages).orderBy(asc(ledgerImages.agentId)).all(),
    putOrphans(agentId, items) {
      const o = ledgerOrphans;
      if (items.length === 0) db.delete(o).where(eq(o.agentId, agentId)).run();
      else
        db.insert(o)
          .values({ agentId, items: [...items] })
          .onConflictDoUpdate({ target: o.agentId, set: { items: [...items] } })
          .run();
    },
    orphans: () => db.select().from(ledgerOrphans).orderBy(asc(ledgerOrphans.agentId)).all(),
    intents: () => db.select().from(i).orderBy(asc(i.agentId), asc(i.intentId)).all(),
    insertIntent: preparedInsert(db, i),
    deleteIntent(agentId, intentId) {
      remove.run({ id: agentId, intentId });
    },
  };
}

function outboxPart(db: DrizzleSqliteDODatabase): Part<'lastOutboxSeq' | 'appendOutbox' | 'outbox' | 'trimOutbox'> {
  const o = ledgerOutbox;
  const append = preparedInsert(db, o);
  return {
    lastOutboxSeq: () =>
      db
        .select({ last: max(o.seq) })
        .from(o)
        .get()?.last ?? 0,
    appendOutbox: (seq, atMs, body) => append({ seq, atMs, body }),
    outbox: (afterSeq, limit) => db.select().from(o).where(gt(o.seq, afterSeq)).orderBy(asc(o.seq)).limit(limit).all(),
    trimOutbox(uptoSeq) {
      db.delete(o).where(lte(o.seq, uptoSeq)).run();
    },
  };
}

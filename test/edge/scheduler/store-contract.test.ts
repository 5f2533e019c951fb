/**
 * One suite for both stores of a ledger. Random steps of a ledger's life are done in two stores at once and everything
 * that can be read is compared; transactions are cut at every write, and then nothing of them may be left.
 */
import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { drizzle } from 'drizzle-orm/durable-sqlite';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LedgerStore } from '../../../edge/manager/scheduler/ledger-store.ts';
import { memoryStore } from '../../../edge/manager/scheduler/memory-store.ts';
import { sqlStore } from '../../../edge/manager/scheduler/sql-store.ts';
import type { AgentRow, IntentRow } from '../../../schema/ledger/agents.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import { isTerminal, SessionState } from '../../../schema/api/session-parts.ts';
import { anyAgentRow, anySession, anySpec } from './rows.ts';

const sessionIds = ['ses_a_1_1', 'ses_b_1_1', 'ses_c_1_1', 'ses_d_1_1', 'ses_e_1_1'];
const agentIds = ['agt_a_1', 'agt_b_1'];
const shapes = ['cpu=1000', 'cpu=1000,mem=5', ''];
const any = <T>(values: readonly T[]) => fc.constantFrom(...values);

type Step = (store: LedgerStore) => void;
const steps: fc.Arbitrary<[string, Step]> = fc.oneof(
  fc.tuple(any(sessionIds), any(shapes), fc.boolean()).map(([id, shape, isMoving]): [string, Step] => [
    `insert ${id} ${shape}`,
    (store) => {
      if (!store.session(id)) store.insertSession({ ...anySession(id), shape, moving: isMoving ? 1 : 0 }, anySpec);
    },
  ]),
  fc.tuple(any(sessionIds), any(SessionState.options), fc.nat(50)).map(([id, state, ms]): [string, Step] => [
    `move ${id} ${state}`,
    (store) => {
      const row = store.session(id);
      if (row) store.updateSession(row, moved(row, state, ms));
    },
  ]),
  any(sessionIds).map((id): [string, Step] => [`delete ${id}`, (store) => store.deleteSession(id)]),
  fc.tuple(any(sessionIds), fc.nat(1000)).map(([id, version]): [string, Step] => [
    `trail ${id} ${version}`,
    (store) => {
      const first = (store.trail(id).at(-1)?.version ?? 0) + 1 + version;
      if (store.session(id)) store.appendTrail(id, [{ version: first, state: 'RUNNING', generation: 1, atMs: 5 }]);
    },
  ]),
  fc.tuple(any(agentIds), any(sessionIds), fc.nat(2), any(shapes)).map(([a, s, generation, shape]): [string, Step] => [
    `reserve ${a} ${s}`,
    (store) => {
      const known = store.reservations(a).some((row) => row.sessionId === s && row.generation === generation);
      if (known) store.deleteReservation(a, s, generation);
      else store.insertReservation({ agentId: a, sessionId: s, generation, shape });
    },
  ]),
  fc.tuple(any(agentIds), any(sessionIds), fc.nat(2)).map(([a, sessionId, count]): [string, Step] => [
    `orphans ${a} ${count}`,
    (store) => {
      const item = { sessionId, generation: 1, state: 'running' as const };
      store.putOrphans(
        a,
        Array.from({ length: count }, () => item),
      );
    },
  ]),
  fc.tuple(any(agentIds), fc.nat(9), fc.boolean()).map(([id, epoch, reachable]): [string, Step] => [
    `agent ${id}`,
    (store) => {
      const before = store.agents().find((row) => row.agentId === id);
      const after: AgentRow = { ...(before ?? anyAgentRow(id)), epoch, reachable, offered: { cpu: epoch } };
      if (before) store.updateAgent(before, after);
      else store.insertAgent(after);
    },
  ]),
  fc.tuple(any(agentIds), fc.nat(5)).map(([id, number]): [string, Step] => [
    `intent ${id} ${number}`,
    (store) => {
      const intentId = `int_${number}`;
      const known = store.intents().some((row) => row.agentId === id && row.intentId === intentId);
      if (known) store.deleteIntent(id, intentId);
      else store.insertIntent(anyIntent(id, intentId));
    },
  ]),
  fc.tuple(fc.nat(3), fc.nat(8)).map(([kind, number]): [string, Step] => [
    `book ${kind} ${number}`,
    (store) => {
      if (kind === 0) store.putMeta({ ...meta, epochCounter: number });
      if (kind === 1) store.putCursors({ readModel: number, events: number + 1, admission: number + 2 });
      if (kind === 2)
        store.appendOutbox(store.lastOutboxSeq() + 1, number, { events: [], readModel: [`s${number}`], releases: [] });
      if (kind === 3) store.trimOutbox(number);
    },
  ]),
  fc
    .tuple(any(agentIds), fc.nat(9))
    .map(([id, sizeBytes]): [string, Step] => [
      `images ${id}`,
      (store) => store.putImages(id, [{ digest: 'sha256:1', names: ['a'], sizeBytes }]),
    ]),
);

const meta = {
  groupNumber: 1,
  incarnation: 7,
  epochCounter: 0,
  snapshotAtMs: null,
  restoredAtMs: null,
  closing: false,
};
function anyIntent(agentId: string, intentId: string): IntentRow {
  return { agentId, intentId, sessionId: 's', generation: 1, seq: 1, order: { kind: 'create' }, createdAtMs: 3 };
}
function moved(row: SessionRow, state: SessionState, ms: number): SessionRow {
  return {
    ...row,
    state,
    version: row.version + 1,
    endedAtMs: isTerminal(state) ? ms : null,
    deadlineMs: ms > 25 ? ms : null,
    moving: ms > 25 ? 1 : 0,
    reason: ms % 2 === 0 ? null : { code: 'why', detail: `${ms}` },
    holds: ms > 40 ? [{ agentId: 'agt_a_1', generation: 1 }] : [],
  };
}

/** Everything that can be read. */
function read(store: LedgerStore): unknown {
  const byAgent = <Row extends { agentId: string }>(rows: Row[]) =>
    rows.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return {
    meta: store.meta(),
    cursors: store.cursors(),
    sessions: sessionIds.map((id) => [store.session(id), store.spec(id), store.trail(id), store.pendingBefore(id)]),
    known: [store.sessionsAfter('', 3), store.sessionsAfter('ses_b_1_1', 9)],
    orphans: store.orphans(),
    shapes: store.pendingShapes(),
    pending: shapes.map((shape) => [store.pending(shape, 2), store.pending(shape, 9, 'ses_b_1_1')]),
    oldest: store.oldestPending(),
    moving: store.moving(),
    over: [
      store.over({ endedAtMs: 20, endSeq: 30 }, 9).sort(),
      store.over({ endedAtMs: 1000, endSeq: 1000 }, 2).length,
    ],
    totals: byAgent(store.reservationTotals()),
    reservations: agentIds.map((id) => byAgent(store.reservations(id))),
    agents: store.agents(),
    intents: store.intents(),
    images: store.images(),
    outbox: [store.outbox(0, 100), store.outbox(2, 3), store.lastOutboxSeq()],
  };
}

/** Runs `work` with a SQLite store of its own. */
async function withSqlStore(work: (store: LedgerStore) => void): Promise<void> {
  const stub = env.LEDGER.getByName(`contract ${crypto.randomUUID()}`);
  await runInDurableObject(stub, (_, state) => {
    work(sqlStore(drizzle(state.storage), (step) => state.storage.transactionSync(step)));
  });
}
function withMemoryStore(work: (store: LedgerStore) => void): Promise<void> {
  work(memoryStore());
  return Promise.resolve();
}

describe.each([
  ['durable SQLite', withSqlStore],
  ['memory', withMemoryStore],
])('the store of a ledger in %s', (_, withStore) => {
  it('reads back what was written, like the model', async () => {
    await withStore((store) => {
      const model = memoryStore();
      fc.assert(
        fc.property(fc.array(steps, { minLength: 10, maxLength: 40 }), (sequence) => {
          for (const each of [store, model]) wipe(each);
          for (const [name, step] of sequence) {
            store.transaction(() => step(store));
            model.transaction(() => step(model));
            expect(read(store), name).toEqual(read(model));
          }
        }),
        { numRuns: 40 },
      );
    });
  });

  it('leaves nothing of a transaction that fails, whatever it did before', async () => {
    await withStore((store) => {
      fc.assert(
        fc.property(
          fc.array(steps, { maxLength: 12 }),
          fc.array(steps, { minLength: 1, maxLength: 6 }),
          (before, cut) => {
            wipe(store);
            for (const [, step] of before) store.transaction(() => step(store));
            const kept = read(store);
            for (let done = 0; done <= cut.length; done += 1) {
              const attempt = () =>
                store.transaction(() => {
                  for (const [, step] of cut.slice(0, done)) step(store);
                  throw new Error('cut');
                });
              expect(attempt).toThrow('cut');
              expect(read(store)).toEqual(kept);
            }
          },
        ),
        { numRuns: 30 },
      );
    });
  });

  it('gives copies: what a caller changes in a row is not stored', async () => {
    await withStore((store) => {
      store.transaction(() => store.insertSession(anySession('ses_a_1_1'), anySpec));
      store.session('ses_a_1_1')!.holds.push({ agentId: 'x', generation: 9 });
      expect(store.session('ses_a_1_1')!.holds).toEqual([]);
    });
  });
});

describe('the model in memory', () => {
  it('crashes at the write that a test chose, and keeps what was committed', () => {
    const store = memoryStore();
    store.transaction(() => store.insertSession(anySession('ses_a_1_1'), anySpec));
    for (let writes = 1; writes <= 3; writes += 1) {
      store.crashAfter(writes);
      const attempt = () =>
        store.transaction(() => {
          store.insertSession(anySession('ses_b_1_1'), anySpec);
          store.putMeta(meta);
        });
      expect(attempt).toThrow('planned crash');
      expect(store.session('ses_b_1_1')).toBeUndefined();
      expect(store.meta()).toBeUndefined();
    }
    expect(store.session('ses_a_1_1')).toBeDefined();
  });
});

/** Empties a store between the runs of a property, as far as it can be emptied. */
function wipe(store: LedgerStore): void {
  store.transaction(() => {
    for (const id of sessionIds) store.deleteSession(id);
    for (const { agentId, intentId } of store.intents()) store.deleteIntent(agentId, intentId);
    for (const id of agentIds)
      for (const row of store.reservations(id)) store.deleteReservation(id, row.sessionId, row.generation);
    store.trimOutbox(Number.MAX_SAFE_INTEGER);
  });
}

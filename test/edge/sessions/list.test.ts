/** Lists of sessions: every filter against a plain reading, page by page; and what a page costs in a long table. */
import { env } from 'cloudflare:workers';
import * as fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { writeReadModel } from '../../../edge/manager/sessions/read-model.ts';
import { type ListFilter, type ListScope, listSessions } from '../../../edge/manager/sessions/store.ts';
import { isTerminal, SessionState } from '../../../schema/api/session-parts.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import { newSessionId } from '../../../schema/ids.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call } from '../client.ts';
import { makePeople } from '../accounts/people.ts';
import { anySpec } from '../scheduler/rows.ts';

/** Behind what the isolate keeps of a group's shape from other files. */
beforeEach(() => passMs(6_000));

const projects = ['prj_1', 'prj_2', 'prj_3'];
const owners = ['usr_1', 'usr_2'];
const names = ['aa', 'ab', 'b', 'ba-1'];

function row(at: number, change: Partial<SessionRow> = {}): SessionRow {
  const bytes = new Uint8Array(10);
  new DataView(bytes.buffer).setUint32(0, at);
  const state = change.state ?? 'TERMINATED';
  return {
    id: newSessionId(1_700_000_000_000 + at, bytes, 1, 1),
    domainId: 'dom_1',
    projectId: 'prj_1',
    ownerId: 'usr_1',
    name: `n-${at}`,
    type: 'batch',
    groupNumber: 1,
    createdAtMs: at,
    state,
    version: 7,
    generation: 1,
    reason: { code: 'exited' },
    agentId: 'agt_1',
    agentName: 'host',
    imageDigest: null,
    startedAtMs: at,
    endedAtMs: isTerminal(state) ? at : null,
    result: { reason: 'exited', exitCode: 0 },
    spec: anySpec,
    history: isTerminal(state) ? [{ version: 7, state, generation: 1, atMs: at }] : null,
    ...change,
  };
}

const matches = (each: SessionRow, scope: ListScope, filter: ListFilter): boolean =>
  (scope.kind === 'all' ||
    (scope.kind === 'domain' ? each.domainId === scope.domainId : scope.ids.includes(each.projectId))) &&
  (filter.states === undefined ||
    (filter.states === 'live' ? each.endedAtMs === null : filter.states.includes(each.state))) &&
  (filter.type === undefined || each.type === filter.type) &&
  (filter.namePrefix === undefined || each.name.startsWith(filter.namePrefix)) &&
  (filter.ownerId === undefined || each.ownerId === filter.ownerId);

describe('a list', () => {
  it('shows exactly the sessions that match, newest first, each once, whatever the pages', async () => {
    const rows = Array.from({ length: 120 }, (_, at) =>
      row(at, {
        domainId: at % 7 === 0 ? 'dom_2' : 'dom_1',
        projectId: projects[at % 3]!,
        ownerId: owners[at % 2]!,
        name: `${names[at % 4]!}${at}`,
        type: at % 5 === 0 ? 'interactive' : 'batch',
        state: SessionState.options[at % SessionState.options.length]!,
      }),
    );
    await writeReadModel(env.DB, rows);
    const option = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<ListScope>(
          { kind: 'all' },
          { kind: 'domain', domainId: 'dom_1' },
          { kind: 'projects', ids: ['prj_1'] },
          { kind: 'projects', ids: ['prj_1', 'prj_3'] },
          { kind: 'projects', ids: [] },
        ),
        fc.record<ListFilter>({
          states: option(
            fc.oneof(
              fc.constant('live' as const),
              fc.uniqueArray(fc.constantFrom(...SessionState.options), { minLength: 1, maxLength: 3 }),
            ),
          ),
          type: option(fc.constantFrom('batch' as const, 'interactive' as const)),
          namePrefix: option(fc.constantFrom('a', 'ab', 'ba-', 'zz')),
          ownerId: option(fc.constantFrom(...owners)),
        }),
        fc.integer({ min: 1, max: 50 }),
        async (scope, filter, limit) => {
          const expected = rows.filter((each) => matches(each, scope, filter)).map(({ id }) => id);
          const found: string[] = [];
          let below: string | undefined;
          for (let pages = 0; pages < 200; pages += 1) {
            const page = await listSessions(env.DB, scope, filter, below, limit);
            expect(page.rows.length).toBeLessThanOrEqual(limit);
            found.push(...page.rows.map(({ id }) => id));
            below = page.nextBelow;
            if (below === undefined) break;
          }
          expect(found).toEqual(expected.toReversed());
        },
      ),
      { numRuns: 60 },
    );
  });

  it('finds by name for whoever is in more projects than a statement has parameters', async () => {
    const many = Array.from({ length: 120 }, (_, at) => `prj_many-${at}`);
    const mine = row(1, { projectId: 'prj_many-119', name: 'wanted' });
    await writeReadModel(env.DB, [mine, row(2, { projectId: 'prj_other', name: 'wanted' })]);
    const page = await listSessions(
      env.DB,
      { kind: 'projects', ids: many },
      emptyFilter({ namePrefix: 'wanted', states: ['TERMINATED'] }),
      undefined,
      50,
    );
    expect(page.rows.map(({ id }) => id)).toEqual([mine.id]);
  });

  it('reads its page, not its table: rows read are the same in 1,000 sessions and in 20,000', async () => {
    const filters: [string, ListScope, Partial<ListFilter>][] = [
      ['everything', { kind: 'all' }, {}],
      ['a domain', { kind: 'domain', domainId: 'dom_1' }, {}],
      ['a project', { kind: 'projects', ids: ['prj_1'] }, {}],
      ['live', { kind: 'all' }, { states: 'live' }],
      ['live of a project', { kind: 'projects', ids: ['prj_1'] }, { states: 'live' }],
      ['errors of a project', { kind: 'projects', ids: ['prj_1'] }, { states: ['ERROR'] }],
      ['mine', { kind: 'projects', ids: ['prj_1'] }, { ownerId: 'usr_2' }],
      ['a name that is not there', { kind: 'projects', ids: ['prj_1'] }, { namePrefix: 'zzz' }],
      ['a name that everybody has', { kind: 'projects', ids: ['prj_1'] }, { namePrefix: 'n-' }],
      ['a type that is rare', { kind: 'all' }, { type: 'interactive' }],
    ];
    const fill = (from: number, to: number) =>
      writeReadModel(
        env.DB,
        Array.from({ length: to - from }, (_, at) =>
          row(from + at, (from + at) % 100 === 0 ? { ownerId: 'usr_2' } : {}),
        ),
      );
    const cost = async () => {
      const costs: number[] = [];
      for (const [, scope, filter] of filters) {
        const counted = countReads(env.DB);
        await listSessions(counted.db, scope, emptyFilter(filter), undefined, 50);
        costs.push(counted.rows());
      }
      return costs;
    };
    for (let at = 0; at < 5_000; at += 2_500) await fill(at, at + 2_500);
    const small = await cost();
    for (let at = 5_000; at < 20_000; at += 2_500) await fill(at, at + 2_500);
    const large = await cost();
    for (const [at, [name]] of filters.entries()) {
      expect(large[at], name).toBeLessThanOrEqual(small[at]! + 5);
      expect(large[at], name).toBeLessThanOrEqual(4_100);
    }
    expect(large[7], 'a name that is not there').toBeLessThanOrEqual(5);
    // A page of 50 through an index reads little more than the page: rows of the index, rows of the table.
    expect(large[0]).toBeLessThanOrEqual(110);
    expect(large[2]).toBeLessThanOrEqual(110);
  });

  it('is written idempotently: an older version changes nothing, in whatever order it comes', async () => {
    const late = row(1, { state: 'TERMINATED', version: 9 });
    const early = row(1, { state: 'RUNNING', version: 5, endedAtMs: null, history: null });
    await writeReadModel(env.DB, [late]);
    await writeReadModel(env.DB, [early]);
    await writeReadModel(env.DB, [early, late]);
    const page = await listSessions(env.DB, { kind: 'all' }, emptyFilter({}), undefined, 9);
    expect(page.rows).toMatchObject([{ state: 'TERMINATED', version: 9, endedAtMs: 1 }]);
  });
});

const emptyFilter = (change: Partial<ListFilter>): ListFilter => ({
  states: undefined,
  type: undefined,
  namePrefix: undefined,
  ownerId: undefined,
  ...change,
});

/** Counts the rows that statements of a batch read. */
function countReads(db: D1Database): { db: D1Database; rows: () => number } {
  let rows = 0;
  const counted = {
    prepare: (sql: string) => db.prepare(sql),
    batch: async (statements: D1PreparedStatement[]) => {
      const results = await db.batch(statements);
      for (const { meta } of results) rows += meta.rows_read;
      return results;
    },
  } as unknown as D1Database;
  return { db: counted, rows: () => rows };
}

describe('GET /v1/sessions', () => {
  const batch = { type: 'batch', image: 'busybox', command: ['true'] };
  interface Page {
    items: { id: string; name: string }[];
    next?: string;
  }

  it('pages with a cursor, and refuses one that is not its own', async () => {
    const { token } = await bootstrapped();
    for (let at = 0; at < 5; at += 1)
      await call('POST', '/v1/sessions', { token, body: { ...batch, name: `s-${at}` } });
    const first = await call<Page>('GET', '/v1/sessions?limit=3', { token });
    expect(first.body.items.map(({ name }) => name)).toEqual(['s-4', 's-3', 's-2']);
    const second = await call<Page>('GET', `/v1/sessions?limit=3&cursor=${first.body.next}`, { token });
    expect(second.body.items.map(({ name }) => name)).toEqual(['s-1', 's-0']);
    expect(second.body.next).toBeUndefined();
    expect((await call('GET', '/v1/sessions?cursor=bm90aGluZw', { token })).status).toBe(400);
    expect((await call('GET', '/v1/sessions?cursor=%00', { token })).status).toBe(400);
  });

  it('filters by state, name and owner, and refuses states that do not exist', async () => {
    const { token } = await bootstrapped();
    const names: string[] = [];
    for (const name of ['alpha', 'beta']) {
      const { body } = await call<{ id: string }>('POST', '/v1/sessions', { token, body: { ...batch, name } });
      names.push(body.id);
    }
    await call('DELETE', `/v1/sessions/${names[0]}`, { token });
    const list = async (query: string) =>
      (await call<Page>('GET', `/v1/sessions?${query}`, { token })).body.items?.map(({ name }) => name);
    await expect.poll(() => list('state=live')).toEqual(['beta']);
    expect(await list('state=cancelled')).toEqual(['alpha']);
    expect(await list('state=PENDING,CANCELLED')).toEqual(['beta', 'alpha']);
    expect(await list('name=al')).toEqual(['alpha']);
    expect(await list('owner=me&type=batch')).toEqual(['beta', 'alpha']);
    expect(await list('owner=usr_nobody')).toEqual([]);
    expect((await call('GET', '/v1/sessions?state=SLEEPING', { token })).status).toBe(400);
    expect((await call('GET', '/v1/sessions?limit=1000', { token })).status).toBe(400);
    expect((await call('GET', '/v1/sessions?colour=red', { token })).status).toBe(400);
  });

  it('shows to each what is theirs', async () => {
    const people = await makePeople();
    const mine = { token: people.member.token, body: { ...batch, project: people.projectId } };
    const { body } = await call<{ id: string }>('POST', '/v1/sessions', mine);
    const seen = async (token: string, query = '') =>
      (await call<Page>('GET', `/v1/sessions${query}`, { token })).body.items.map(({ id }) => id);
    expect(await seen(people.member.token)).toEqual([body.id]);
    expect(await seen(people.viewer.token)).toEqual([body.id]);
    expect(await seen(people.domainAdmin.token)).toEqual([body.id]);
    expect(await seen(people.superadmin.token)).toEqual([body.id]);
    expect(await seen(people.outsider.token)).toEqual([]);
    const foreign = await call('GET', `/v1/sessions?project=${people.projectId}`, { token: people.outsider.token });
    expect(foreign.status).toBe(404);
  });
});

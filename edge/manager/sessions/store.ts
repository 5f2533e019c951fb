/**
 * SQL of the session lists, always scoped. A page reads its page: each way through the table has its index, and a filter
 * without one looks at a bounded number of rows and then says where it stopped.
 */
import type { SessionState, SessionType } from '../../../schema/api/session-parts.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';

/** Whose sessions may be read at all. */
export type ListScope = { kind: 'all' } | { kind: 'domain'; domainId: string } | { kind: 'projects'; ids: string[] };

export interface ListFilter {
  states: readonly SessionState[] | 'live' | undefined;
  type: SessionType | undefined;
  namePrefix: string | undefined;
  ownerId: string | undefined;
}
export type ListedRow = Omit<SessionRow, 'history'>;

/** Rows, newest first, and below which id the list goes on. */
export interface ListedPage {
  rows: ListedRow[];
  nextBelow: string | undefined;
}

/** Rows that a filter without an index looks at for one page. */
const scanRows = 1000;
/** Above every id. */
const top = '~';

const listed =
  'id, domain_id, project_id, owner_id, name, type, group_number, created_at_ms, state, version, generation, reason, ' +
  'agent_id, agent_name, image_digest, started_at_ms, ended_at_ms, result, spec';

interface Condition {
  sql: string;
  values: readonly unknown[];
}
const all = (...conditions: readonly (Condition | undefined)[]): Condition => {
  const present = conditions.filter((each) => each !== undefined);
  return {
    sql: present.map(({ sql }) => sql).join(' AND ') || 'true',
    values: present.flatMap(({ values }) => values),
  };
};

/** One way through an index: its conditions, and what is left to be looked at row by row. */
interface Branch {
  indexed: Condition;
  residual: Condition | undefined;
  /** So few rows that all are looked at and sorted. */
  isFew?: boolean;
}

/** A page of at most `limit` sessions whose ids are below `below`. */
export async function listSessions(
  db: D1Database,
  scope: ListScope,
  filter: ListFilter,
  below: string | undefined,
  limit: number,
): Promise<ListedPage> {
  const byName = await branchByName(db, scope, filter);
  const branches = byName ? [byName] : toBranches(scope, filter);
  if (branches.length === 0) return { rows: [], nextBelow: undefined };
  const pages = branches.map((branch) => pageOf(db, branch, below ?? top, limit));
  const bounds = branches.map((branch) => boundOf(db, branch, below ?? top));
  const results = await readAll(db, [...pages, ...bounds.filter((bound) => bound !== undefined)]);
  const boundRows = results.slice(pages.length);
  return merge(
    bounds.map((bound, at) => ({
      rows: (results[at] ?? []).map(toRow),
      bound: bound && (boundRows.shift()?.[0]?.['id'] as string | undefined),
    })),
    limit,
  );
}

/** One statement needs no transaction around it, which costs as much as a small page. */
async function readAll(db: D1Database, statements: D1PreparedStatement[]): Promise<Record<string, unknown>[][]> {
  const [only, ...others] = statements;
  if (only && others.length === 0) return [(await only.all()).results];
  return (await db.batch<Record<string, unknown>>(statements)).map(({ results }) => results);
}

/** Goes by name when few sessions have one that begins like this; many are soon met by going by age. */
async function branchByName(db: D1Database, scope: ListScope, filter: ListFilter): Promise<Branch | undefined> {
  if (filter.namePrefix === undefined) return undefined;
  const named = prefixed(filter.namePrefix);
  const count = `SELECT count(*) AS count FROM (SELECT 1 FROM sessions WHERE ${named.sql} LIMIT ${scanRows + 1})`;
  const found = await db
    .prepare(count)
    .bind(...named.values)
    .first<{ count: number }>();
  if ((found?.count ?? 0) > scanRows) return undefined;
  const within =
    scope.kind === 'projects'
      ? oneOf('project_id', scope.ids)
      : scope.kind === 'domain'
        ? equal('domain_id', scope.domainId)
        : undefined;
  const { states, type, ownerId } = filter;
  const residual = some(
    within,
    states === undefined ? undefined : states === 'live' ? isLive : oneOf('state', states),
    type === undefined ? undefined : equal('type', type),
    ownerId === undefined ? undefined : equal('owner_id', ownerId),
  );
  return { indexed: named, residual: residual ?? { sql: 'true', values: [] }, isFew: true };
}

function toBranches(scope: ListScope, filter: ListFilter): Branch[] {
  const { states, type, namePrefix, ownerId } = filter;
  const live = states === 'live' ? isLive : undefined;
  const stateIn = Array.isArray(states) ? oneOf('state', states) : undefined;
  const typeIs = type === undefined ? undefined : equal('type', type);
  const named = namePrefix === undefined ? undefined : prefixed(namePrefix);
  const ownedBy = ownerId === undefined ? undefined : equal('owner_id', ownerId);
  if (scope.kind !== 'projects') {
    const domain = scope.kind === 'domain' ? equal('domain_id', scope.domainId) : undefined;
    // Live rows are few: their index serves every scope, and the rest is looked at row by row.
    const indexed = live ?? domain ?? { sql: 'true', values: [] };
    return [{ indexed, residual: some(live ? domain : undefined, stateIn, typeIs, named, ownedBy) }];
  }
  return scope.ids.flatMap((projectId): Branch[] => {
    const project = equal('project_id', projectId);
    if (live) return [{ indexed: all(project, live), residual: some(typeIs, named, ownedBy) }];
    if (stateIn && Array.isArray(states))
      return states.map((state) => ({
        indexed: all(project, equal('state', state)),
        residual: some(typeIs, named, ownedBy),
      }));
    return [{ indexed: all(project, ownedBy), residual: some(typeIs, named) }];
  });
}

const isLive: Condition = { sql: 'ended_at_ms IS NULL', values: [] };
function equal(column: string, value: string): Condition {
  return { sql: `${column} = ?`, values: [value] };
}
/** One parameter, however many: D1 binds at most 100 for a statement. */
function oneOf(column: string, values: readonly string[]): Condition {
  return { sql: `${column} IN (SELECT value FROM json_each(?))`, values: [JSON.stringify(values)] };
}
/** Names have lower-case letters, digits and dashes: `{` is above all of them. */
function prefixed(prefix: string): Condition {
  return { sql: 'name >= ? AND name < ?', values: [prefix, `${prefix}{`] };
}
function some(...conditions: readonly (Condition | undefined)[]): Condition | undefined {
  return conditions.some((each) => each !== undefined) ? all(...conditions) : undefined;
}

const boundSql = (indexed: Condition) =>
  `SELECT id FROM sessions WHERE ${indexed.sql} AND id < ? ORDER BY id DESC LIMIT 1 OFFSET ${scanRows - 1}`;

function pageOf(db: D1Database, branch: Branch, below: string, limit: number): D1PreparedStatement {
  const { indexed, residual, isFew } = branch;
  const order = `ORDER BY id DESC LIMIT ${limit + 1}`;
  if (residual && isFew)
    return db
      .prepare(
        `SELECT ${listed} FROM sessions INDEXED BY sessions_by_name WHERE ${indexed.sql} AND id < ? AND ${residual.sql} ${order}`,
      )
      .bind(...indexed.values, below, ...residual.values);
  if (!residual)
    return db
      .prepare(`SELECT ${listed} FROM sessions WHERE ${indexed.sql} AND id < ? ${order}`)
      .bind(...indexed.values, below);
  return db
    .prepare(
      `SELECT ${listed} FROM sessions WHERE ${indexed.sql} AND id < ? AND id >= coalesce((${boundSql(indexed)}), '')
       AND ${residual.sql} ${order}`,
    )
    .bind(...indexed.values, below, ...indexed.values, below, ...residual.values);
}

/** Where looking row by row had to stop; undefined when nothing is looked at row by row. */
function boundOf(db: D1Database, { indexed, residual, isFew }: Branch, below: string): D1PreparedStatement | undefined {
  if (!residual || isFew) return undefined;
  return db.prepare(boundSql(indexed)).bind(...indexed.values, below);
}

function toRow(columns: Record<string, unknown>): ListedRow {
  const json = (name: string) => {
    const text = columns[name];
    return typeof text === 'string' ? (JSON.parse(text) as unknown) : null;
  };
  return {
    id: columns['id'],
    domainId: columns['domain_id'],
    projectId: columns['project_id'],
    ownerId: columns['owner_id'],
    name: columns['name'],
    type: columns['type'],
    groupNumber: columns['group_number'],
    createdAtMs: columns['created_at_ms'],
    state: columns['state'],
    version: columns['version'],
    generation: columns['generation'],
    reason: json('reason'),
    agentId: columns['agent_id'],
    agentName: columns['agent_name'],
    imageDigest: columns['image_digest'],
    startedAtMs: columns['started_at_ms'],
    endedAtMs: columns['ended_at_ms'],
    result: json('result'),
    spec: json('spec'),
  } as ListedRow;
}

/** Joins branches into one page. Nothing below the point to which every branch was read may be shown. */
function merge(parts: readonly { rows: ListedRow[]; bound: string | undefined }[], limit: number): ListedPage {
  let floor = '';
  for (const { rows, bound } of parts) {
    const full = rows.length > limit ? rows.at(-1)?.id : bound;
    if (full !== undefined && full !== null && full > floor) floor = full;
  }
  const rows = parts
    .flatMap((part) => part.rows)
    .filter(({ id }) => id >= floor)
    .sort((a, b) => (a.id < b.id ? 1 : -1));
  const shown = rows.slice(0, limit);
  const nextBelow = rows.length > limit ? shown.at(-1)?.id : floor === '' ? undefined : floor;
  return { rows: shown, nextBelow };
}

/** One session as listed; undefined when D1 has none. */
export async function findListed(db: D1Database, id: string): Promise<ListedRow | undefined> {
  const row = await db.prepare(`SELECT ${listed} FROM sessions WHERE id = ?`).bind(id).first();
  return row === null ? undefined : toRow(row);
}

/** The transitions of an ended session as text of JSON; undefined when D1 has none. */
export async function findHistory(db: D1Database, id: string): Promise<SessionRow['history'] | undefined> {
  const row = await db
    .prepare('SELECT history FROM sessions WHERE id = ?')
    .bind(id)
    .first<{ history: string | null }>();
  return row?.history ? (JSON.parse(row.history) as SessionRow['history']) : undefined;
}

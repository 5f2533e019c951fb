/**
 * Alarms of objects whose files were put back. An object's own file says when its alarm rings; `metadata.sqlite` of the class
 * is what rings it, and was copied at another moment. An alarm that only the object knows would never ring: the object thinks
 * that it is set. Only for a state directory on which no edge runs.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** No alarm rings sooner: whoever put the files back comes first. */
const notBeforeMs = 30_000;

/** Key of the alarm in workerd's own table of an object. */
const alarmKey = 1;

interface Alarm {
  actorId: string;
  /** Nanoseconds since 1970, as workerd keeps it in both places. */
  at: bigint;
  /** By which the object is woken; objects that have no table for it do without. */
  name: string | null;
}

/**
 * Makes the alarms of every class those that its objects know, none sooner than half a minute after `nowMs`. Returns how
 * many are set.
 */
export function settleAlarms(state: string, nowMs: number): number {
  const folder = join(state, 'do');
  if (!existsSync(folder)) return 0;
  const earliest = BigInt(nowMs + notBeforeMs) * 1_000_000n;
  return readdirSync(folder)
    .map((name) => settleClass(join(folder, name), earliest))
    .reduce((sum, count) => sum + count, 0);
}

function settleClass(folder: string, earliest: bigint): number {
  const alarms = readdirSync(folder)
    .filter((name) => name.endsWith('.sqlite') && name !== 'metadata.sqlite')
    .flatMap((name) => settleObject(folder, name.slice(0, -'.sqlite'.length), earliest) ?? []);
  const metadata = new DatabaseSync(join(folder, 'metadata.sqlite'));
  try {
    metadata.exec('BEGIN');
    metadata
      .prepare('DELETE FROM _cf_ALARM WHERE actor_id NOT IN (SELECT value FROM json_each(?))')
      .run(JSON.stringify(alarms.map(({ actorId }) => actorId)));
    // A name that is known stays: an object without it would not know which one it is.
    const put = metadata.prepare(
      `INSERT INTO _cf_ALARM (actor_id, scheduled_time, actor_name) VALUES (?, ?, ?)
        ON CONFLICT (actor_id) DO UPDATE SET scheduled_time = excluded.scheduled_time`,
    );
    for (const { actorId, at, name } of alarms) put.run(actorId, at, name);
    metadata.exec('COMMIT');
  } finally {
    metadata.close();
  }
  return alarms.length;
}

/** Puts the alarm of one object off, and says what it is; undefined without one. */
function settleObject(folder: string, actorId: string, earliest: bigint): Alarm | undefined {
  const database = new DatabaseSync(join(folder, `${actorId}.sqlite`));
  try {
    const tables = new Set(
      database
        .prepare('SELECT name FROM sqlite_master')
        .all()
        .map((row) => String(row['name'])),
    );
    if (!tables.has('_cf_METADATA')) return undefined;
    const find = database.prepare('SELECT value FROM _cf_METADATA WHERE key = ?');
    find.setReadBigInts(true);
    const known = find.get(alarmKey)?.['value'];
    if (typeof known !== 'bigint') return undefined;
    const at = known < earliest ? earliest : known;
    database.prepare('UPDATE _cf_METADATA SET value = ? WHERE key = ?').run(at, alarmKey);
    return { actorId, at, name: nameOf(database, tables) };
  } finally {
    database.close();
  }
}

/** An admission object is named by its domain, a ledger by its group. An admission object without a domain is `system`. */
function nameOf(database: DatabaseSync, tables: ReadonlySet<string>): string | null {
  const numbered = { claims: 'domain_number', reservations: 'group_number' };
  for (const [table, column] of Object.entries(numbered)) {
    if (!tables.has(table)) continue;
    const number = database.prepare(`SELECT ${column} AS number FROM meta`).get()?.['number'];
    return typeof number === 'number' ? String(number) : 'system';
  }
  return null;
}

/**
 * Writes the read model of sessions in D1. Called by admission and by ledgers, never by a request: what a caller sees was
 * decided elsewhere. Idempotent by (id, version): older writes change nothing, whatever order they come in.
 */
import type { SessionRow } from '../../../schema/db/sessions.ts';

/** Rows of one statement, as one JSON parameter: D1 binds at most 100 parameters and 2 MB. */
const bytesPerStatement = 400 * 1024;

const columns = {
  id: 'id',
  domain_id: 'domainId',
  project_id: 'projectId',
  owner_id: 'ownerId',
  name: 'name',
  type: 'type',
  group_number: 'groupNumber',
  created_at_ms: 'createdAtMs',
  state: 'state',
  version: 'version',
  generation: 'generation',
  reason: 'reason',
  agent_id: 'agentId',
  agent_name: 'agentName',
  image_digest: 'imageDigest',
  started_at_ms: 'startedAtMs',
  ended_at_ms: 'endedAtMs',
  result: 'result',
  spec: 'spec',
  history: 'history',
} as const satisfies Record<string, keyof SessionRow>;

/** What changes in a session's life. The rest is written once. */
const mutable = [
  'state',
  'version',
  'generation',
  'reason',
  'agent_id',
  'agent_name',
  'image_digest',
  'started_at_ms',
  'ended_at_ms',
  'result',
  'history',
] as const satisfies readonly (keyof typeof columns)[];

/** `ended_at_ms` has an index; it is left alone until there is an end. */
function upsert(ended: boolean): string {
  const names = Object.keys(columns);
  const read = names.map((_, at) => `value ->> ${at}`);
  const set = mutable.filter((name) => ended || name !== 'ended_at_ms').map((name) => `${name} = excluded.${name}`);
  return `INSERT INTO sessions (${names.join(', ')}) SELECT ${read.join(', ')} FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET ${set.join(', ')} WHERE excluded.version > sessions.version`;
}
const upsertLive = upsert(false);
const upsertEnded = upsert(true);

/** JSON columns are texts inside the parameter; absent ones are null. */
function toValues(row: SessionRow): unknown[] {
  return Object.values(columns).map((key) => {
    const value = row[key];
    return typeof value === 'object' && value !== null ? JSON.stringify(value) : (value ?? null);
  });
}

/** Brings D1 up to these rows, and takes `gone` off the lists. Rejects when it is unknown whether it is. */
export async function writeReadModel(
  db: D1Database,
  rows: readonly SessionRow[],
  gone: readonly string[] = [],
): Promise<void> {
  const statements: D1PreparedStatement[] = [];
  for (const [statement, part] of [
    [upsertLive, rows.filter((row) => row.endedAtMs === null)],
    [upsertEnded, rows.filter((row) => row.endedAtMs !== null)],
  ] as const)
    for (const chunk of chunks(part.map((row) => JSON.stringify(toValues(row)))))
      statements.push(db.prepare(statement).bind(`[${chunk.join(',')}]`));
  if (gone.length > 0)
    statements.push(
      db.prepare('DELETE FROM sessions WHERE id IN (SELECT value FROM json_each(?))').bind(JSON.stringify(gone)),
    );
  if (statements.length > 0) await db.batch(statements);
}

function* chunks(texts: readonly string[]): Generator<string[]> {
  let chunk: string[] = [];
  let bytes = 0;
  for (const text of texts) {
    if (chunk.length > 0 && bytes + text.length > bytesPerStatement) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(text);
    bytes += text.length;
  }
  if (chunk.length > 0) yield chunk;
}

/**
 * Deploys overlap, so an object's storage may be newer than the code that wakes it. Each object keeps the version of its
 * schema and the oldest code that can still read it; a release only adds, and drops one release later.
 */
import { Refusal } from '../../schema/errors.ts';

export interface ObjectSchema {
  /** Of this code. */
  version: number;
  /** Oldest version of the code that can work with what this version writes. */
  minReader: number;
}

/**
 * Refuses storage that this code is too old for, and notes its own version in what it opens. Call before migrations, in the
 * constructor's `blockConcurrencyWhile`.
 * @throws Refusal `deploy_overlap`
 */
export function claimObjectSchema(sql: SqlStorage, schema: ObjectSchema): void {
  sql.exec(
    'CREATE TABLE IF NOT EXISTS schema_state (one INTEGER PRIMARY KEY, version INTEGER NOT NULL, min_reader INTEGER NOT NULL)',
  );
  const [found] = sql.exec<{ version: number; min_reader: number }>('SELECT version, min_reader FROM schema_state');
  if (found && found.min_reader > schema.version)
    throw new Refusal('deploy_overlap', undefined, { retryAfterSeconds: 2 });
  if (found && found.version >= schema.version) return;
  sql.exec(
    'INSERT OR REPLACE INTO schema_state (one, version, min_reader) VALUES (1, ?, ?)',
    schema.version,
    schema.minReader,
  );
}

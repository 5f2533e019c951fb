/** D1 as the Worker's own code asks it: the real schema in SQLite, behind calls that take time and may fail or lose their answer. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { asked, type OutsidePorts } from './outside.ts';

interface Answer {
  success: true;
  results: Record<string, unknown>[];
  meta: { changes: number };
}

/** A statement that is run when its moment comes. */
interface Bound {
  sql: string;
  run: () => Answer;
}

const rights = /^update "(users|tokens)"/;
const folder = join(import.meta.dirname, '../../../schema/db/migrations');
/** An empty database with every migration, made once. */
let empty: Uint8Array | undefined;

function migrated(): Uint8Array {
  const fresh = new DatabaseSync(':memory:');
  for (const name of readdirSync(folder).toSorted())
    if (name.endsWith('.sql')) fresh.exec(readFileSync(join(folder, name), 'utf8'));
  return fresh.serialize();
}

/** Settles as what it was given does, while whoever asks lives. */
type Guard = <Result>(work: Promise<Result>) => Promise<Result>;

export class SqliteD1 {
  readonly #db = new DatabaseSync(':memory:');
  readonly #prepared = new Map<string, StatementSync>();
  readonly #ports: OutsidePorts;
  readonly #wrote: () => void;

  /** `wrote` is called after each transaction that may have changed who is let in. */
  constructor(ports: OutsidePorts, wrote: () => void) {
    this.#ports = ports;
    this.#wrote = wrote;
    empty ??= migrated();
    this.#db.deserialize(empty);
  }

  /** At once and past all faults: what was there before the world, and what a checker looks at. */
  now<Row = Record<string, unknown>>(sql: string, ...params: SQLInputValue[]): Row[] {
    return this.#statement(sql).all(...params) as Row[];
  }

  /** The binding of one isolate. */
  door(guard: Guard): D1Database {
    const ask = <Result>(work: () => Result) => guard(asked(this.#ports, work));
    const door = {
      prepare: (sql: string) => this.#bound(sql, [], ask),
      batch: (statements: Bound[]) => ask(() => this.#together(statements)),
    };
    return door as unknown as D1Database;
  }

  #bound(sql: string, params: SQLInputValue[], ask: <Result>(work: () => Result) => Promise<Result>) {
    const run = () => this.#run(sql, params);
    return {
      bind: (...given: SQLInputValue[]) => this.#bound(sql, given, ask),
      raw: () => ask(() => this.#rows(sql, params)),
      all: () => ask(() => run()),
      run,
      sql,
    };
  }

  #rows(sql: string, params: SQLInputValue[]): unknown[][] {
    const statement = this.#statement(sql);
    statement.setReturnArrays(true);
    try {
      return statement.all(...params) as unknown as unknown[][];
    } finally {
      statement.setReturnArrays(false);
    }
  }

  #together(statements: readonly Bound[]): Answer[] {
    this.#db.exec('BEGIN');
    try {
      const answers = statements.map(({ run }) => run());
      this.#db.exec('COMMIT');
      if (statements.some(({ sql }) => rights.test(sql))) this.#wrote();
      return answers;
    } catch (error) {
      this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  #run(sql: string, params: SQLInputValue[]): Answer {
    const statement = this.#statement(sql);
    if (statement.columns().length > 0)
      return { success: true, results: statement.all(...params), meta: { changes: 0 } };
    return { success: true, results: [], meta: { changes: Number(statement.run(...params).changes) } };
  }

  #statement(sql: string): StatementSync {
    const known = this.#prepared.get(sql) ?? this.#db.prepare(sql);
    this.#prepared.set(sql, known);
    return known;
  }
}

/** Structured log: one JSON object a line. It holds no secret: fields are chosen by the caller, never a body or a header. */
import { DrizzleQueryError } from 'drizzle-orm';
import type { Log } from '../../schema/ports.ts';

/**
 * An error for the log. Of a failed query only what the database said: drizzle's own message repeats every parameter, hashes
 * of passwords among them.
 */
export function describeError(error: unknown): { cause: string; stack?: string } {
  const shown = error instanceof DrizzleQueryError ? (error.cause ?? new Error('a query failed')) : error;
  if (!(shown instanceof Error)) return { cause: String(shown) };
  const { name, message, stack } = shown;
  return { cause: `${name}: ${message}`, ...(stack === undefined ? {} : { stack: stack.slice(0, 2000) }) };
}

type Fields = Record<string, unknown>;

/** A class, since one is made for each request: closures would be named one by one by the bundle's `keepNames`. */
class ConsoleLog implements Log {
  readonly #bound: Fields;
  constructor(bound: Fields) {
    this.#bound = bound;
  }
  debug(message: string, fields?: Fields): void {
    console.debug(this.#line('debug', message, fields));
  }
  info(message: string, fields?: Fields): void {
    console.info(this.#line('info', message, fields));
  }
  warn(message: string, fields?: Fields): void {
    console.warn(this.#line('warn', message, fields));
  }
  error(message: string, fields?: Fields): void {
    console.error(this.#line('error', message, fields));
  }
  #line(level: string, message: string, fields: Fields | undefined): string {
    return JSON.stringify({ level, message, ...this.#bound, ...fields });
  }
}

/** A log whose lines all carry `bound` (request id, route ...). */
export function consoleLog(bound: Fields = {}): Log {
  return new ConsoleLog(bound);
}

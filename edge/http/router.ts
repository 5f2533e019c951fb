/**
 * Finds the handler of an address. Hono's fast router refuses a table in which `/v1/agents/join-tokens` stands beside
 * `/v1/agents/{id}`, and its other one costs as much as checking a token. Ours knows what the corridor needs and no more:
 * exact addresses by one look, and whole segments as parameters. No wildcards, no middleware by path.
 */
import type { Params, Result, Router } from 'hono/router';

interface Pattern<T> {
  segments: readonly string[];
  handler: T;
}

interface Table<T> {
  exact: Map<string, Result<T>>;
  /** By number of segments; the first that fits is taken. */
  patterns: Map<number, Pattern<T>[]>;
}

export class PathRouter<T> implements Router<T> {
  name = 'PathRouter';
  readonly #tables = new Map<string, Table<T>>();
  readonly #none: Result<T> = [[]];

  /** `path`: `/v1/sessions/:id`. @throws Error for what it does not know */
  add(method: string, path: string, handler: T): void {
    if (method === 'ALL' || path.includes('*')) throw new Error(`this router takes no ${method} ${path}`);
    const table = this.#tables.get(method) ?? { exact: new Map(), patterns: new Map() };
    this.#tables.set(method, table);
    const segments = path.split('/');
    if (!path.includes(':')) {
      table.exact.set(path, [[[handler, {}]]]);
      return;
    }
    const alike = table.patterns.get(segments.length) ?? [];
    table.patterns.set(segments.length, [...alike, { segments, handler }]);
  }

  match(method: string, path: string): Result<T> {
    const table = this.#tables.get(method);
    if (!table) return this.#none;
    const exact = table.exact.get(path);
    if (exact) return exact;
    const given = path.split('/');
    for (const { segments, handler } of table.patterns.get(given.length) ?? []) {
      const params = paramsOf(segments, given);
      if (params) return [[[handler, params]]];
    }
    return this.#none;
  }
}

/** Undefined when the address does not fit. */
function paramsOf(segments: readonly string[], given: readonly string[]): Params | undefined {
  let params: Params | undefined;
  for (let at = 0; at < segments.length; at += 1) {
    const segment = segments[at]!;
    const value = given[at]!;
    if (segment.startsWith(':')) {
      if (value === '') return undefined;
      params ??= {};
      params[segment.slice(1)] = value;
    } else if (segment !== value) return undefined;
  }
  return params;
}

/** Cursor pages: a cursor is the sort key of the last row seen, opaque to callers. */
import { Refusal } from '../../schema/errors.ts';
import { fromBase64Url, toBase64Url } from '../platform/base64.ts';

/** Wraps a sort key (at most 256 bytes). */
export function toCursor(key: string): string {
  return toBase64Url(new TextEncoder().encode(key));
}

/** Unwraps a cursor. @throws Refusal `request_query_invalid` */
export function parseCursor(cursor: string): string {
  const bytes = fromBase64Url(cursor);
  if (bytes && bytes.length > 0 && bytes.length <= 256) return new TextDecoder().decode(bytes);
  throw new Refusal('request_query_invalid', 'The cursor is not one of ours.', {
    issues: [{ path: 'cursor', message: 'not a cursor of this list' }],
  });
}

/** A page of rows that were read with `limit + 1`: the extra row tells that there is more. */
export function toPage<Row, Item>(
  rows: readonly Row[],
  limit: number,
  keyOf: (row: Row) => string,
  toItem: (row: Row) => Item,
): { items: Item[]; next?: string } {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.map(toItem),
    ...(rows.length > limit && last !== undefined ? { next: toCursor(keyOf(last)) } : {}),
  };
}

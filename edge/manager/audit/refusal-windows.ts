/**
 * Refusals as they are written down: the first of (who, route) in a minute at once, those after it as a count when the
 * minute is over. So that a flood writes two entries a minute, not a million.
 */
import { AuditEntry } from '../../../schema/api/audit.ts';

/** Refusals of one kind, counted by an isolate. */
export interface Refusals {
  /** Who and what: `usr_... GET /v1/users`. */
  key: string;
  /** The first of them. */
  entry: AuditEntry;
  count: number;
}
export interface Window {
  key: string;
  untilMs: number;
  /** Beyond the first. */
  count: number;
  /** JSON of the first entry. */
  entry: string;
}
export interface WindowStore {
  find(key: string): Window | undefined;
  put(window: Window): void;
  drop(key: string): void;
  over(nowMs: number): Window[];
  size(): number;
}

const windowMs = 60_000;
/** More kinds than this at once are counted together. */
const mostWindows = 5_000;
const others = '(others)';

/** Counts refusals; returns the entries to write now. */
export function countRefusals(store: WindowStore, refusals: readonly Refusals[], nowMs: number): AuditEntry[] {
  return refusals.flatMap(({ key: wanted, entry, count }) => {
    const key = store.find(wanted) || store.size() < mostWindows ? wanted : others;
    const open = store.find(key);
    if (open) store.put({ ...open, count: open.count + count });
    else store.put({ key, untilMs: nowMs + windowMs, count: count - 1, entry: JSON.stringify(entry) });
    return open ? [] : [entry];
  });
}

/** Closes the minutes that are over; returns the counts to write. `newId` makes an id for each. */
export function closeWindows(store: WindowStore, nowMs: number, newId: () => string): AuditEntry[] {
  return store.over(nowMs).flatMap(({ key, count, entry }) => {
    store.drop(key);
    if (count === 0) return [];
    return [{ ...AuditEntry.parse(JSON.parse(entry)), id: newId(), atMs: nowMs, count }];
  });
}

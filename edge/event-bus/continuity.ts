/** Is what a reader has the beginning of what is kept? Pure. */
import { compareEntryIds, type EventCursor } from '../../schema/api/event.ts';
import type { StreamHead } from '../platform/redis-door.ts';

/** Before every entry. */
export const beginning = '0-0';

/** False when events between the cursor and what is kept may be missing: another generation, or trimmed away. */
export function isContinuous(cursor: EventCursor, { generation, oldestId }: StreamHead): boolean {
  if (cursor.generation !== generation) return false;
  if (cursor.id === beginning) return true;
  return oldestId !== undefined && compareEntryIds(cursor.id, oldestId) >= 0;
}

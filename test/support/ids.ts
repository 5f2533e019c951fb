/** Ids that clients choose, for tests. */
import { randomBytes } from 'node:crypto';
import { newId } from '../../schema/ids.ts';

/** A fresh process id. */
export function newProcessId(): string {
  return newId('process', Date.now(), randomBytes(10));
}

/**
 * `ETag` and `If-Match`: a change that is wanted only if nobody changed the object meanwhile. A tag is the object's version.
 * Routes that take `If-Match` say `conditional`; on others it is refused, because a condition must not be overlooked.
 */
import { Refusal } from '../../schema/errors.ts';
import type { RouteSpec } from './slice.ts';

/** The header of an answer that shows one object. */
export function etagOf(version: number | string): { etag: string } {
  return { etag: `"${version}"` };
}

const tagPattern = /(W\/)?"([\x21\x23-\x7e]*)"/g;

/** True when the request has no condition, or one that `version` meets. Weak tags never match. */
export function isMatched(request: Request, version: number | string): boolean {
  const header = request.headers.get('if-match');
  if (header === null || header.trim() === '*') return true;
  return [...header.matchAll(tagPattern)].some(([, weak, tag]) => weak === undefined && tag === String(version));
}

/** @throws Refusal `request_precondition_failed` */
export function requireMatch(request: Request, version: number | string): void {
  if (!isMatched(request, version)) throw stale();
}

/** The refusal of a condition that is not met. */
export function stale(): Refusal {
  return new Refusal('request_precondition_failed', 'It was changed since: read it again and decide anew.');
}

/** Refuses a condition on a route that could not keep it. */
export function checkCondition(request: Request, { conditional }: RouteSpec): void {
  if (conditional === true || !request.headers.has('if-match')) return;
  if (request.headers.get('if-match')?.trim() === '*') return;
  throw new Refusal('request_precondition_failed', 'This address has no ETag; send no If-Match.');
}

/** RFC 9457 problem details: the only form of an error on the wire. Renders refusals; never shows a cause or a stack. */
import type { Problem } from '../../schema/api/problem.ts';
import { errors, type ErrorCode, outcomeUnknown, Refusal } from '../../schema/errors.ts';
import { BlobsUnavailable } from '../platform/blobs-port.ts';
import { rateLimitHeaders } from './rate-limit.ts';
import type { Reply } from './slice.ts';

/** The answer to a refusal. The request id is only in a header, so that equal refusals are equal byte for byte. */
export function toProblem(refusal: Refusal): Reply & { body: Problem; headers: Record<string, string> } {
  const { status, title } = errors[refusal.code];
  const retryAfterSeconds = refusal.retryAfterSeconds ?? (status === 429 ? 1 : undefined);
  const body: Problem = {
    type: `/errors/${refusal.code}`,
    title,
    status,
    code: refusal.code,
    ...(refusal.detail === undefined ? {} : { detail: refusal.detail }),
    ...(refusal.issues === undefined ? {} : { errors: refusal.issues.map(({ path, message }) => ({ path, message })) }),
  };
  return {
    status,
    body,
    headers: {
      'content-type': 'application/problem+json',
      ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
      ...(refusal.rateLimit ? rateLimitHeaders(refusal.rateLimit) : {}),
      ...(status === 401 ? { 'www-authenticate': 'Bearer realm="causeway"' } : {}),
    },
  };
}

/** What a thrown value means to a caller. Anything that is not a refusal or a known overload is `internal`. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof BlobsUnavailable)
    return new Refusal('archive_unavailable', undefined, { retryAfterSeconds: 10 });
  // A refusal of an object crosses to its caller as its text alone.
  if (error instanceof Error && error.message === outcomeUnknown)
    return new Refusal('edge_overloaded', outcomeUnknown, { retryAfterSeconds: 1 });
  if (error instanceof Error && error.message === errors.deploy_overlap.title)
    return new Refusal('deploy_overlap', undefined, { retryAfterSeconds: 2 });
  // Durable Objects mark what may be tried again: https://developers.cloudflare.com/durable-objects/best-practices/error-handling/
  const marks = error as { overloaded?: boolean; retryable?: boolean } | undefined;
  const code: ErrorCode = marks?.overloaded === true || marks?.retryable === true ? 'edge_overloaded' : 'internal';
  return new Refusal(code, undefined, code === 'edge_overloaded' ? { retryAfterSeconds: 1 } : {});
}

/** `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), where a limit exists. */
import type { RateLimit } from '../../schema/errors.ts';

/** One policy and what is left of it. */
export function rateLimitHeaders(limit: RateLimit): Record<string, string> {
  const { name, quota, windowSeconds, remaining, resetSeconds } = limit;
  return {
    'ratelimit-policy': `"${name}";q=${quota};w=${windowSeconds}`,
    ratelimit: `"${name}";r=${remaining};t=${resetSeconds}`,
  };
}

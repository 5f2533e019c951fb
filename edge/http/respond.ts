/** From a handler's reply to the Response, with the headers that every answer has. On the path of every request: no copies. */
import type { Reply } from './slice.ts';

/** JSON, or no body. */
export function render({ status, body, text, headers }: Reply, requestId: string): Response {
  const all: Record<string, string> = {
    'x-request-id': requestId,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  };
  const json = text ?? (body === undefined ? null : JSON.stringify(body));
  if (json !== null) all['content-type'] = 'application/json';
  if (headers) Object.assign(all, headers);
  return new Response(json, { status, headers: all });
}

/** A Response that a handler made or passed on. A switched protocol stays as it is. */
export function dress(response: Response, requestId: string): Response {
  if (response.status === 101) return response;
  try {
    return withHeaders(response, requestId);
  } catch {
    // Its headers are fixed: it came from a fetch or from an object.
    return withHeaders(new Response(response.body, response), requestId);
  }
}

function withHeaders(response: Response, requestId: string): Response {
  response.headers.set('x-request-id', requestId);
  response.headers.set('x-content-type-options', 'nosniff');
  if (!response.headers.has('cache-control')) response.headers.set('cache-control', 'no-store');
  return response;
}

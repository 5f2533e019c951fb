/** A client of the edge in tests: JSON over the front door, and the accounts that tests begin with. */
import { exports } from 'cloudflare:workers';

export const origin = 'https://causeway.test';
export const bootstrapSecret = 'test-bootstrap-secret';
export const password = 'a long enough password';

export interface Call {
  token?: string;
  body?: unknown;
  headers?: Record<string, string>;
}
export interface Answer<Body = Record<string, unknown>> {
  status: number;
  headers: Headers;
  body: Body;
  text: string;
}

/** The answer as it came, body unread. */
export function send(method: string, path: string, { token, body, headers }: Call = {}): Promise<Response> {
  return exports.default.fetch(
    new Request(origin + path, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined || typeof body === 'string' ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    }),
  );
}

/** One call and its JSON answer. */
export async function call<Body = Record<string, unknown>>(
  method: string,
  path: string,
  options: Call = {},
): Promise<Answer<Body>> {
  const response = await send(method, path, options);
  const text = await response.text();
  const isJson = /json/.test(response.headers.get('content-type') ?? '');
  return { status: response.status, headers: response.headers, text, body: (isJson ? JSON.parse(text) : {}) as Body };
}

/** Makes the first administrator. */
export async function bootstrapped(): Promise<{ token: string; userId: string }> {
  const { status, body, text } = await call<{ token: string; userId: string }>('POST', '/v1/bootstrap', {
    token: bootstrapSecret,
    body: { email: 'admin@causeway.test', password },
  });
  if (status !== 201) throw new Error(`bootstrap answered ${status}: ${text}`);
  return body;
}

/** From a request to the input that a route declared. */
import type { z } from 'zod';
import { defaultBodyLimitBytes, limitedStream, parseInput, queryObject, readJson } from './body.ts';
import type { InputOf, RequestSpec, RouteSpec } from './slice.ts';

export interface ReadInput {
  input: InputOf<RequestSpec>;
  /** The JSON body as it came, for its hash; empty without one. */
  bodyText: string;
}

/** Validates path, query (of `address`), headers and body, in this order. @throws Refusal */
export async function readInput(
  request: Request,
  address: string,
  spec: RouteSpec,
  params: Record<string, string>,
): Promise<ReadInput> {
  const wanted: RequestSpec = spec.request ?? {};
  const limitBytes = spec.bodyLimitBytes ?? defaultBodyLimitBytes;
  const input: Record<string, unknown> = {};
  if (wanted.params) input['params'] = parseInput(wanted.params, params, 'request_path_invalid');
  const query = wanted.query && queryObject(new URL(address));
  if (wanted.query) input['query'] = parseInput(wanted.query, query, 'request_query_invalid');
  if (wanted.headers)
    input['headers'] = parseInput(wanted.headers, namedHeaders(request, wanted.headers), 'request_header_invalid');
  if (wanted.body === undefined) return { input: input as unknown as InputOf<RequestSpec>, bodyText: '' };
  if (wanted.body === 'stream') {
    input['body'] = limitedStream(request, limitBytes);
    return { input: input as unknown as InputOf<RequestSpec>, bodyText: '' };
  }
  const { text, value } = await readJson(request, limitBytes, undefined, spec.surface?.bodyTypes);
  input['body'] = parseInput(wanted.body, value, 'request_body_invalid');
  return { input: input as unknown as InputOf<RequestSpec>, bodyText: text };
}

/** The declared headers alone: a strict schema must not see those of the transport. */
function namedHeaders(request: Request, schema: z.ZodObject): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of Object.keys(schema.shape)) {
    const value = request.headers.get(name);
    if (value !== null) headers[name] = value;
  }
  return headers;
}

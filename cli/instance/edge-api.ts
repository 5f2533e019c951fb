/** The few calls that a supervisor makes to its own edge. Refusals are failures worded for the person who typed `up`. */
import { randomUUID } from 'node:crypto';
import type { z } from 'zod';

import { Problem } from '../../schema/api/problem.ts';
import { type Fetch, fetchBy } from '../../wire/http.ts';
import { wayTo } from '../config.ts';
import { CliFailure } from '../exit.ts';

/** Where the edge is, and its pin when it speaks TLS. */
export type EdgeAddress = { url: string; pin?: string | undefined };

export type EdgeCall<Schema extends z.ZodType> = EdgeAddress & {
  path: string;
  /** Bearer credential; none to sign in. */
  token?: string | undefined;
  body: unknown;
  answer: Schema;
  /** What is refused, when it is: "make the first administrator". */
  what: string;
  /** Default 15 s. */
  timeoutMs?: number;
};

export class EdgeRefused extends CliFailure {
  readonly httpStatus: number;
  constructor(what: string, httpStatus: number, code: string | undefined, why: string) {
    super(`the edge did not ${what}: ${why}`, { hint: 'causeway doctor', code });
    this.httpStatus = httpStatus;
  }
}

/** A fetch that takes no other server for the edge. */
export function fetchEdge(edge: EdgeAddress): Fetch {
  return fetchBy(wayTo(edge));
}

/** POSTs and parses the answer. Throws EdgeRefused for an answer that is no success. */
export async function postToEdge<Schema extends z.ZodType>(call: EdgeCall<Schema>): Promise<z.infer<Schema>> {
  const answer = await fetchEdge(call)(new URL(call.path, call.url), {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'idempotency-key': randomUUID(),
      ...(call.token === undefined ? {} : { authorization: `Bearer ${call.token}` }),
    },
    body: JSON.stringify(call.body),
    signal: AbortSignal.timeout(call.timeoutMs ?? 15_000),
  });
  const text = await answer.text();
  if (answer.ok) return call.answer.parse(JSON.parse(text)) as z.infer<Schema>;
  const problem = parseProblem(text);
  const why = problem
    ? `${problem.title}${problem.detail === undefined ? '' : `: ${problem.detail}`}`
    : text.slice(0, 300);
  throw new EdgeRefused(call.what, answer.status, problem?.code, `${why} (HTTP ${answer.status})`);
}

function parseProblem(text: string): z.infer<typeof Problem> | undefined {
  try {
    return Problem.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/**
 * The CLI's only way to the API: JSON in and out, problem+json turned into failures with a hint, network faults retried
 * with the same Idempotency-Key so that a lost answer never makes a second thing.
 */
import { randomUUID } from 'node:crypto';
import type { z } from 'zod';
import { Problem } from '../../schema/api/problem.ts';
import { type Fetch, fetchBy } from '../../wire/http.ts';
import type { Way } from '../../wire/way.ts';
import { CliFailure } from '../exit.ts';
import { currentContext, type Context, wayTo } from '../config.ts';
import { hintFor } from './hints.ts';
import { silenceMs, untilSilent } from './silence.ts';
import { wayFailure } from './way-failure.ts';

export type Query = Record<string, string | number | boolean | undefined>;
export interface Call {
  query?: Query;
  body?: unknown;
  headers?: Record<string, string>;
  /** Bytes instead of JSON. */
  stream?: Uint8Array;
  signal?: AbortSignal;
  /** What a person typed for a field of the request (`resources.mem`: `--mem`): refusals name that. */
  typed?: Readonly<Record<string, string>>;
}

/** Code of the failure when the control plane can not be reached. */
export const unreachableCode = 'edge_unreachable';

/** Attempts of one call over network faults, and the wait before each further one. */
const retryDelaysMs = [200, 500, 1000, 2000, 3000];

/** An attempt of this very call whose answer was lost may hold its Idempotency-Key for 10 s more. */
const inProgress = { againMs: 1000, mostMs: 11_000 };

const mostPerPage = 200;

/** The API of one control plane with one credential. */
export class Api {
  readonly context: Context;
  /** How it is reached, for sockets too. */
  readonly way: Way;
  readonly #fetch: Fetch;

  constructor(context: Context = currentContext()) {
    this.context = context;
    this.way = wayTo(context);
    this.#fetch = fetchBy(this.way);
  }

  /** Calls and parses the answer. @throws CliFailure for refusals and for a control plane that can not be reached. */
  async json<Schema extends z.ZodType>(
    schema: Schema,
    method: string,
    path: string,
    call: Call = {},
  ): Promise<z.infer<Schema>> {
    const response = await this.raw(method, path, call);
    const parsed = schema.safeParse(await response.json());
    if (parsed.success) return parsed.data;
    throw new CliFailure(`${this.context.url} answered ${method} ${path} in a way this CLI does not know`, {
      hint: 'update this checkout: it is older or newer than the control plane',
    });
  }

  /** The items of a list, newest or first in name first, page after page as they are asked for. */
  async *items<Item>(
    page: z.ZodType<{ items: Item[]; next?: string | undefined }>,
    path: string,
    call: Call = {},
  ): AsyncGenerator<Item, void, void> {
    for (let cursor: string | undefined; ;) {
      const query = { limit: mostPerPage, ...call.query, cursor };
      const { items, next } = await this.json(page, 'GET', path, { ...call, query });
      yield* items;
      if (next === undefined) return;
      cursor = next;
    }
  }

  /** Calls and returns a 2xx response with its body unread. */
  async raw(method: string, path: string, call: Call = {}): Promise<Response> {
    const headers: Record<string, string> = {
      authorization: `Bearer ${this.context.token}`,
      accept: 'application/json',
      ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(method === 'POST' ? { 'idempotency-key': randomUUID() } : {}),
      ...call.headers,
    };
    for (let waitedMs = 0; ; waitedMs += inProgress.againMs) {
      const response = await this.#send(method, this.url(path, call.query), headers, call);
      if (response.ok) return response;
      const failure = await failureOf(response, method, path, call.typed);
      if (failure.code !== 'idempotency_in_progress' || waitedMs >= inProgress.mostMs) throw failure;
      await new Promise((resolve) => setTimeout(resolve, inProgress.againMs));
    }
  }

  /**
   * Calls for an answer that goes on for ever, of which something comes every `limitMs`. @throws CliFailure as of `raw`, and
   * where nothing is answered for so long; the body throws an Error where it falls silent.
   */
  async follow(
    path: string,
    call: Call,
    limitMs = silenceMs,
  ): Promise<{ headers: Headers; body: AsyncIterable<Uint8Array> }> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new Error(`no answer within ${limitMs / 1000} s`)), limitMs);
    try {
      const { headers, body } = await this.raw('GET', path, { ...call, signal: limit.signal });
      return { headers, body: untilSilent(body!, limitMs) };
    } catch (error) {
      throw limit.signal.aborted ? unreachable(this.context.url, limit.signal.reason) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Absolute address of `path`. */
  url(path: string, query: Query = {}): URL {
    const url = new URL(path, `${this.context.url}/`);
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(name, String(value));
    return url;
  }

  async #send(method: string, url: URL, headers: Record<string, string>, call: Call): Promise<Response> {
    const body = call.stream ?? (call.body === undefined ? undefined : JSON.stringify(call.body));
    for (let attempt = 0; ; attempt++) {
      try {
        const response = await this.#fetch(url, { method, headers, body, signal: call.signal });
        const again = (response.status === 503 || response.status === 502) && attempt < retryDelaysMs.length;
        if (!again) return response;
        await response.body?.cancel();
      } catch (error) {
        if (call.signal?.aborted) throw error;
        const inTheWay = wayFailure(error);
        if (inTheWay !== undefined) throw inTheWay;
        if (attempt >= retryDelaysMs.length) throw unreachable(this.context.url, error);
        if (attempt === 1) process.stderr.write(`causeway: waiting for ${this.context.url} (${reasonOf(error)}) ...\n`);
      }
      await new Promise((resolve) => setTimeout(resolve, retryDelaysMs[attempt]));
    }
  }
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = (cause as { code?: string } | undefined)?.code;
  if (code === 'ECONNREFUSED') return 'connection refused';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the name can not be resolved';
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'the connection was cut';
  return cause instanceof Error ? cause.message : String(cause);
}

function unreachable(url: string, error: unknown): CliFailure {
  return new CliFailure(`${url} can not be reached: ${reasonOf(error)}`, {
    code: unreachableCode,
    hint: 'causeway status   or: causeway up',
  });
}

async function failureOf(
  response: Response,
  method: string,
  path: string,
  typed: Call['typed'] = {},
): Promise<CliFailure> {
  const text = await response.text();
  let problem: Problem | undefined;
  try {
    problem = Problem.parse(JSON.parse(text));
  } catch {
    return new CliFailure(`${method} ${path} was answered with HTTP ${response.status}`, {
      code: `http_${response.status}`,
    });
  }
  const issues = problem.errors ?? [];
  const known = issues.filter((each) => typedFor(each.path, typed) !== undefined);
  if (known.length > 0 && known.length === issues.length)
    return new CliFailure(known.map((each) => `${typedFor(each.path, typed)}: ${each.message}`).join('\n  '), {
      code: problem.code,
      hint: hintFor(problem.code),
    });
  const fields = issues.map((each) => `\n  ${each.path}: ${each.message}`).join('');
  return new CliFailure(`${problem.title}${problem.detail === undefined ? '' : `: ${problem.detail}`}${fields}`, {
    code: problem.code,
    hint: hintFor(problem.code),
  });
}

/** The option behind a field, or behind what the field is in (`env.1A` is of `-e`). */
function typedFor(path: string, typed: NonNullable<Call['typed']>): string | undefined {
  const name = Object.keys(typed).find((each) => path === each || path.startsWith(`${each}.`));
  return name === undefined ? undefined : typed[name];
}

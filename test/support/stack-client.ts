/**
 * A client of the API for tests: plain calls with their whole answer, and the few verbs that every test of sessions
 * needs. Creating is repeated under one idempotency key until it is answered, as a well-behaved client does through an
 * outage; nothing else is repeated, so that a test sees what a user would see.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Bootstrapped } from '../../schema/api/account.ts';
import type { z } from 'zod';
import type { JoinTokenCreated } from '../../schema/api/agent.ts';
import type { NewSession, Session, SessionHistory } from '../../schema/api/session.ts';
import { type Fetch, fetchBy } from '../../wire/http.ts';
import { Way } from '../../wire/way.ts';
import { type SessionState, isTerminal } from '../../schema/api/session-parts.ts';
import { until } from './wait.ts';

export interface Answer {
  status: number;
  headers: Headers;
  /** Parsed when it is JSON, else the text. */
  body: unknown;
}

export interface CallOptions {
  /** Bearer token instead of the client's; null sends none. */
  token?: string | null;
  headers?: Record<string, string>;
  timeoutMs?: number;
}

/** An answer that was not a success. */
export class ApiError extends Error {
  readonly answer: Answer;
  /** Code of the problem, when it was one. */
  readonly code: string | undefined;
  constructor(call: string, answer: Answer) {
    super(`${call} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    this.answer = answer;
    this.code = (answer.body as { code?: string } | null)?.code;
  }
}

const plainFetch = fetchBy(new Way({}));

export class StackClient {
  /** Of the first administrator, after `bootstrap`. */
  token: string | undefined;
  readonly password = `canary-password-${randomBytes(12).toString('hex')}`;
  readonly email = 'admin@example.test';
  readonly #url: () => string;
  readonly #fetch: () => Fetch;

  /** `by`: how it is reached, over TLS. */
  constructor(url: () => string, token?: string, by: () => Fetch = () => plainFetch) {
    this.#url = url;
    this.token = token;
    this.#fetch = by;
  }

  get url(): string {
    return this.#url();
  }

  /** One request; rejects only when there was no answer. A body that is neither a string nor bytes goes as JSON. */
  async call(method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<Answer> {
    const { token = this.token, headers = {}, timeoutMs = 30_000 } = options;
    const response = await this.#fetch()(new URL(path, this.#url()), {
      method,
      headers: {
        ...(token === null || token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      signal: AbortSignal.timeout(timeoutMs),
      ...(body === undefined ? {} : { body: isRaw(body) ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: parsed(text, response.headers) };
  }

  /** One request whose answer must be a success; returns its body. */
  async api(method: string, path: string, body?: unknown, options?: CallOptions): Promise<unknown> {
    const answer = await this.call(method, path, body, options);
    if (answer.status < 200 || answer.status > 299) throw new ApiError(`${method} ${path}`, answer);
    return answer.body;
  }

  /** Creates the first administrator and signs this client in, through any outage: where the answer was lost, by password. */
  async bootstrap(secret: string): Promise<void> {
    const body = { email: this.email, password: this.password };
    const headers = { 'idempotency-key': randomUUID() };
    const answer = await this.#insist('POST', '/v1/bootstrap', body, { token: secret, headers });
    if (answer.status === 409) {
      const login = await this.#insist('POST', '/v1/auth/login', body, { token: null });
      this.token = (login.body as { token: string }).token;
      return;
    }
    this.token = (answer.body as z.infer<typeof Bootstrapped>).token;
  }

  /** A new join token for the group, through any outage: where the answer was lost, another token. */
  async newJoinToken(resourceGroup = 'default'): Promise<string> {
    for (;;) {
      const headers = { 'idempotency-key': randomUUID() };
      const answer = await this.#insist('POST', '/v1/agents/join-tokens', { resourceGroup }, { headers });
      if (answer.status !== 409) return (answer.body as z.infer<typeof JoinTokenCreated>).token;
    }
  }

  /** Creates a session, repeating with the same key until it is answered, whatever fails meanwhile. */
  async createSession(spec: NewSession, key: string = randomUUID()): Promise<Session> {
    const headers = { 'idempotency-key': key };
    const answer = await this.#insist('POST', '/v1/sessions', spec, { headers });
    if (answer.status !== 201) throw new ApiError('POST /v1/sessions', answer);
    return answer.body as Session;
  }

  /** Repeats a call, which must be idempotent, until it is answered with a success, or 409, or refused for good (a 500 is a defect). */
  async #insist(method: string, path: string, body: unknown, options: CallOptions): Promise<Answer> {
    const answer = await until(
      async () => {
        const last = await this.call(method, path, body, options);
        if (last.status > 500 || last.status === 429) throw new ApiError(`${method} ${path}`, last);
        return last;
      },
      { what: `${method} ${path} to be answered`, everyMs: 250, timeoutMs: 60_000 },
    );
    if (answer.status >= 400 && answer.status !== 409) throw new ApiError(`${method} ${path}`, answer);
    return answer;
  }

  async session(id: string): Promise<Session> {
    return (await this.api('GET', `/v1/sessions/${id}`)) as Session;
  }

  async history(id: string): Promise<SessionHistory['items']> {
    return ((await this.api('GET', `/v1/sessions/${id}/history`)) as SessionHistory).items;
  }

  /** Every session that the administrator sees, all pages, ended ones included. */
  async sessions(): Promise<Session[]> {
    const all: Session[] = [];
    for (let cursor: string | undefined; ;) {
      const query = new URLSearchParams({ limit: '200', ...(cursor === undefined ? {} : { cursor }) });
      const page = (await this.api('GET', `/v1/sessions?${query.toString()}`)) as { items: Session[]; next?: string };
      all.push(...page.items);
      if (page.next === undefined) return all;
      cursor = page.next;
    }
  }

  /** Waits until the session is in one of the states; through outages, but not past an end that is not among them. */
  async waitForState(id: string, states: readonly SessionState[], timeoutMs = 60_000): Promise<Session> {
    let last: Session | undefined;
    return until(
      async () => {
        last = await this.session(id);
        return states.includes(last.state) ? last : undefined;
      },
      {
        what: `session ${id} to be ${states.join(' or ')}`,
        timeoutMs,
        everyMs: 100,
        giveUp: () =>
          last !== undefined && isTerminal(last.state) && !states.includes(last.state)
            ? `it is ${JSON.stringify(last)}`
            : undefined,
      },
    );
  }

  async deleteSession(id: string, query = ''): Promise<void> {
    await this.api('DELETE', `/v1/sessions/${id}${query}`);
  }

  /** The kept output of the main process from an offset, as bytes. */
  async logs(id: string, stream: 'stdout' | 'stderr' = 'stdout', offset = 0): Promise<Buffer> {
    const query = new URLSearchParams({ stream, offset: String(offset) });
    const response = await this.#fetch()(new URL(`/v1/sessions/${id}/logs?${query.toString()}`, this.#url()), {
      headers: { authorization: `Bearer ${this.token ?? ''}`, accept: 'application/octet-stream' },
      signal: AbortSignal.timeout(120_000),
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    if (!response.ok)
      throw new Error(`GET logs of ${id} answered ${response.status}: ${bytes.toString('utf8', 0, 500)}`);
    return bytes;
  }
}

function isRaw(body: unknown): body is string | Uint8Array<ArrayBuffer> {
  return typeof body === 'string' || body instanceof Uint8Array;
}

function parsed(text: string, headers: Headers): unknown {
  return /json/.test(headers.get('content-type') ?? '') ? (JSON.parse(text) as unknown) : text;
}

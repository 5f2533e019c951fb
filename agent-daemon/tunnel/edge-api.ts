/** The agent's plain HTTP calls to the edge: enrolment, challenge, and what it signs. Each answer is parsed; each refusal keeps its code. */
import { z } from 'zod';
import { Challenged, type Enrol, Enrolled } from '../../schema/api/agent.ts';
import { badgeHeader } from '../../schema/protocol/limits.ts';

const Refused = z.object({ code: z.string().max(64), detail: z.string().max(1024).optional() });

/** Sends a JSON text; rejects when there is no whole answer of at most 256 KiB, or `signal` aborts. */
export type Post = (
  url: URL,
  body: string,
  signal: AbortSignal,
  headers?: Readonly<Record<string, string>>,
) => Promise<{ status: number; retryAfter: string | undefined; text: string }>;

/** Sends bytes; rejects as {@link Post} does. */
export type Put = (
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: Uint8Array,
  signal: AbortSignal,
) => ReturnType<Post>;

/** Puts bytes at a path of the edge, as this agent. Rejects with an {@link EdgeRefusal}, or when the edge can not be reached. */
export type Upload = (
  path: string,
  headers: Readonly<Record<string, string>>,
  body: Uint8Array,
  signal: AbortSignal,
) => Promise<void>;

/** An answer of the edge that is not what was asked for. */
export class EdgeRefusal extends Error {
  readonly status: number;
  /** Code of the problem document; `unknown` when there was none. */
  readonly code: string;
  readonly retryAfterMs: number | undefined;

  constructor(status: number, code: string, detail: string | undefined, retryAfterMs: number | undefined) {
    super(`${code} (${status})${detail === undefined ? '' : `: ${detail}`}`);
    this.name = 'EdgeRefusal';
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }

  /** True when the same request may do better later. */
  get retryable(): boolean {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }

  /** True when the edge has more to do than it can and named the moment to come back at (SPEC rule M12). */
  get isAppointment(): boolean {
    return this.code === 'edge_overloaded' && this.retryAfterMs !== undefined;
  }
}

/** Reads a problem document, however wrong it is. */
export function toEdgeRefusal(status: number, body: string, retryAfter: string | undefined): EdgeRefusal {
  const seconds = Number(retryAfter);
  const retryAfterMs = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) * 1000 : undefined;
  try {
    const { code, detail } = Refused.parse(JSON.parse(body));
    return new EdgeRefusal(status, code, detail, retryAfterMs);
  } catch {
    return new EdgeRefusal(status, 'unknown', undefined, retryAfterMs);
  }
}

async function post<Schema extends z.ZodType>(
  by: Post,
  url: string,
  path: string,
  body: unknown,
  schema: Schema,
  signal: AbortSignal,
  headers: Readonly<Record<string, string>> = {},
): Promise<z.output<Schema>> {
  const { status, retryAfter, text } = await by(new URL(path, url), JSON.stringify(body), signal, headers);
  if (status < 200 || status > 299) throw toEdgeRefusal(status, text, retryAfter);
  return schema.parse(JSON.parse(text));
}

/** Spends a join token for this key. Repeated with the same key it answers the same. */
export function enrol(by: Post, url: string, request: Enrol, signal: AbortSignal): Promise<Enrolled> {
  return post(by, url, '/agent/v1/enrol', request, Enrolled, signal);
}

/**
 * A nonce to be signed within 30 s. Its header is for an edge that is full: it sends a herd away without a look at bodies. The
 * badge is for one that somebody at this address attacks.
 */
export function challenge(
  by: Post,
  url: string,
  { agentId, badge }: { agentId: string; badge: string | undefined },
  signal: AbortSignal,
): Promise<Challenged> {
  const headers = { 'x-causeway-agent': agentId, ...badgeShown(badge) };
  return post(by, url, '/agent/v1/challenge', { agentId }, Challenged, signal, headers);
}

/** The header by which an agent shows what it was given when it last proved itself. */
export function badgeShown(badge: string | undefined): Record<string, string> {
  return badge === undefined ? {} : { [badgeHeader]: badge };
}

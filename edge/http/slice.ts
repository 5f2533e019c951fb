/**
 * How a feature declares its routes: method, path, permission, schemas and answers once; routing, validation, access and
 * OpenAPI follow from it. A slice is a name and its routes; `edge/index.ts` mounts slices.
 *
 * @example
 * export const notes = slice('notes', [
 *   route({
 *     method: 'post', path: '/v1/notes', summary: 'Writes a note.', permission: 'project:write', idempotent: 'begin',
 *     request: { body: NewNote }, responses: { 201: { description: 'Written.', schema: Note } }, errors: ['project_required'],
 *   }, async (ctx, { body }) => reply(201, await writeNote(ctx, body))),
 * ]);
 */
import type { z } from 'zod';
import type { Problem } from '../../schema/api/problem.ts';
import type { ErrorCode, Refusal } from '../../schema/errors.ts';
import type { AgentActor, AnonymousActor, BootstrapActor, Ctx, UserActor } from './context.ts';

/**
 * Who may call a route at all. The service still decides about the object: another tenant's is 404 like a missing one.
 * - `public` nobody needs to be known; `authenticated` any token without scopes
 * - `project:read|write|admin` at least viewer, member, project-admin of some project, or an administrator
 * - `domain:admin` a domain's administrator or a superadmin; `superadmin` that alone
 * - `terminal:view` the link to a terminal: a token with a scope that names it
 * - `metrics` a token with the scope `metrics:read`; `agent` a verified agent; `bootstrap` CAUSEWAY_BOOTSTRAP
 */
export const permissions = [
  'public',
  'authenticated',
  'project:read',
  'project:write',
  'project:admin',
  'domain:admin',
  'superadmin',
  'metrics',
  'terminal:view',
  'agent',
  'bootstrap',
] as const;
export type Permission = (typeof permissions)[number];

/** The actor that a permission lets through. */
export type ActorOf<P extends Permission> = P extends 'public'
  ? AnonymousActor
  : P extends 'agent'
    ? AgentActor
    : P extends 'bootstrap'
      ? BootstrapActor
      : UserActor;

export type Method = 'get' | 'post' | 'put' | 'patch' | 'delete';

/**
 * A standard of others that routes speak instead of ours: how a caller shows its token, which bodies are JSON, what a
 * refusal looks like. Its module is the feature's that brings the routes.
 */
export interface Surface {
  /** What `Authorization` may begin with, in lower case, besides `bearer`. */
  scheme: string;
  /** The parameter of the address that may hold the token where nothing but an address can be given: on upgrades. */
  tokenParameter: string;
  /** Content types of JSON besides application/json; a body that is empty stands for `{}`. */
  bodyTypes: readonly string[];
  /** True for addresses below its routes, also where nothing is. */
  owns(path: string): boolean;
  /** A refusal in its form, from what ours says. */
  refuse(problem: Problem): unknown;
  refusal: z.ZodType;
}

export interface ResponseSpec {
  description: string;
  /** JSON unless `contentType` says otherwise. Without it the answer has no body. */
  schema?: z.ZodType;
  /** Has an `ETag`: the version of the one object that it shows. */
  etag?: true;
  /** Of an answer that is not JSON: bytes, text, events. */
  contentType?: string;
}

export interface RequestSpec {
  params?: z.ZodObject;
  query?: z.ZodObject;
  /** Header names in lower case. */
  headers?: z.ZodObject;
  /** A JSON body; `'stream'`: any bytes, handed to the handler as a stream that is counted against the limit. */
  body?: z.ZodType | 'stream';
}

export interface RouteSpec<P extends Permission = Permission, R extends RequestSpec = RequestSpec> {
  method: Method;
  /** OpenAPI form: `/v1/sessions/{id}`. */
  path: string;
  /** One sentence, for OpenAPI. */
  summary: string;
  permission: P;
  request?: R;
  responses: Record<number, ResponseSpec>;
  /** Refusals of the service that OpenAPI names, beside those of the corridor. */
  errors?: readonly ErrorCode[];
  /** Default 256 KiB. */
  bodyLimitBytes?: number;
  /**
   * What `Idempotency-Key` does on a POST that creates: `admission` = the service hands it to the admission object's own
   * transaction; `begin` = the corridor calls begin and finish around the handler. Default `none`: the verb is idempotent
   * by nature. POSTs must say it.
   */
  idempotent?: 'admission' | 'begin' | 'none';
  /** Asked before anything else is done for a request: a herd is sent away for little, and for no line of the log. */
  early?: (request: Request) => Refusal | undefined;
  /** A POST that only asks: it is logged where it was refused or took long, as a GET is. */
  changesNothing?: true;
  /** The answer holds a secret: it is not kept, and a repeated key is refused with `idempotency_secret_shown`. */
  secret?: boolean;
  /** Takes `If-Match`: the service compares it with the version that it changes. */
  conditional?: true;
  /** Public, and asked by whoever watches this process: not slowed down for what its address asks beside it. */
  isWatched?: true;
  /** A WebSocket: a request without `upgrade` is refused with 426; with `protocol`, so is another subprotocol. */
  upgrade?: { protocol?: string };
  surface?: Surface;
}

type Parsed<S> = S extends z.ZodType ? z.output<S> : undefined;
export interface InputOf<R extends RequestSpec> {
  params: Parsed<R['params']>;
  query: Parsed<R['query']>;
  headers: Parsed<R['headers']>;
  body: R['body'] extends 'stream' ? ReadableStream<Uint8Array> | null : Parsed<R['body']>;
}

/** An answer of a handler. `body` is rendered as JSON; `text` is JSON already. */
export interface Reply {
  status: number;
  body?: unknown;
  text?: string;
  headers?: Record<string, string>;
}

/** A reply with a JSON body, or without one. */
export function reply(status: number, body?: unknown, headers?: Record<string, string>): Reply {
  return { status, ...(body === undefined ? {} : { body }), ...(headers === undefined ? {} : { headers }) };
}

/** A reply whose JSON was made elsewhere. */
export function replyText(status: number, text: string, headers: Record<string, string>): Reply {
  return { status, text, headers };
}

/** A route with its types taken off, as the corridor runs it. */
export interface Route {
  spec: RouteSpec;
  handle: (ctx: Ctx, input: InputOf<RequestSpec>) => Promise<Reply | Response> | Reply | Response;
}

export interface Slice {
  name: string;
  routes: readonly Route[];
}

/** Declares one route. The handler calls one verb of a service and replies; a raw Response passes through as it is. */
export function route<P extends Permission, const R extends RequestSpec>(
  spec: RouteSpec<P, R>,
  handle: (ctx: Ctx<ActorOf<P>>, input: InputOf<R>) => Promise<Reply | Response> | Reply | Response,
): Route {
  if (spec.method === 'post' && spec.idempotent === undefined)
    throw new Error(`${spec.path} must say how it is idempotent`);
  return { spec, handle: handle as (ctx: Ctx, input: InputOf<RequestSpec>) => Promise<Reply | Response> };
}

/** Names a feature's routes. */
export function slice(name: string, routes: readonly Route[]): Slice {
  return { name, routes };
}

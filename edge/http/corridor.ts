/**
 * The one way of a request: id, trace, actor, permission, validated input, handler, answer; refusals as problem+json.
 * It knows routes, never a feature. What a handler throws never reaches a caller as it is.
 */
import { type Context, Hono } from 'hono';
import { type ErrorCode, errors, Refusal } from '../../schema/errors.ts';
import { newId } from '../../schema/ids.ts';
import { systemClock } from '../platform/clock.ts';
import { readConfig } from '../platform/config.ts';
import { equalTexts } from '../platform/keys.ts';
import { consoleLog, describeError } from '../platform/log.ts';
import { systemRandom } from '../platform/random.ts';
import type { Actor, AgentActor, Ctx, UserActor } from './context.ts';
import { checkCondition } from './etag.ts';
import { RequestCtx } from './request-ctx.ts';
import { Stranger } from './strangers.ts';
import { readIdempotency, withIdempotency } from './idempotency.ts';
import { readInput } from './input.ts';
import { checkPermission } from './permission.ts';
import { toProblem, toRefusal } from './problem.ts';
import { dress, render } from './respond.ts';
import { PathRouter } from './router.ts';
import type { Reply, Route, RouteSpec, Slice, Surface } from './slice.ts';

/** How credentials become actors; features bring them, so that the corridor depends on none. */
export interface Authenticators {
  /** The actor of an API token. @throws Refusal `auth_invalid`, `auth_revoked` */
  token(ctx: Ctx, token: string): Promise<UserActor>;
  /** The agent whose socket this upgrade is. @throws Refusal `auth_missing`, `agent_...` */
  agent(ctx: Ctx): Promise<AgentActor>;
}

/** Who is told of each refusal, without being waited for. */
export type Witness = (ctx: Ctx, route: string, code: ErrorCode) => void;

/** The application: every route of every slice, behind the corridor. */
export function createApp(
  slices: readonly Slice[],
  authenticators: Authenticators,
  witness: Witness,
): Hono<{ Bindings: Env }> {
  const app = new Hono<{ Bindings: Env }>({ router: new PathRouter() });
  const routes = slices.flatMap((each) => each.routes);
  for (const route of routes) {
    const name = routeName(route.spec);
    app.on(route.spec.method.toUpperCase(), route.spec.path.replaceAll(/\{(\w+)\}/g, ':$1'), (c) =>
      travel(c, route, name, authenticators, witness),
    );
  }
  const known = routes.map(({ spec }) => ({ method: spec.method.toUpperCase(), pattern: pathPattern(spec.path) }));
  const surfaces = [...new Set(routes.map(({ spec }) => spec.surface))].filter((each) => each !== undefined);
  app.notFound((c) => refuseUnknown(c, known, surfaces));
  app.onError((error) => render(toProblem(toRefusal(error)), freshRequestId()));
  return app;
}

function routeName({ method, path }: RouteSpec): string {
  return `${method.toUpperCase()} ${path}`;
}

function pathPattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(/[.+]/g, String.raw`\$&`).replaceAll(/\{\w+\}/g, '[^/]+')}$`);
}

async function refuseUnknown(
  c: Context<{ Bindings: Env }>,
  known: { method: string; pattern: RegExp }[],
  surfaces: readonly Surface[],
): Promise<Response> {
  await new Stranger(c.req.raw, readConfig(c.env).layout).ask();
  const surface = surfaces.find((each) => each.owns(c.req.path));
  const allowed = known.filter(({ pattern }) => pattern.test(c.req.path)).map(({ method }) => method);
  if (allowed.length === 0) return render(toRefused(new Refusal('route_not_found'), surface), freshRequestId());
  const problem = toRefused(new Refusal('route_method_not_allowed'), surface);
  problem.headers['allow'] = [...new Set(allowed)].join(', ');
  return render(problem, freshRequestId());
}

/** The answer to a refusal, in the form of the surface where it is met. */
function toRefused(refusal: Refusal, surface: Surface | undefined): Reply & { headers: Record<string, string> } {
  const problem = toProblem(refusal);
  if (!surface) return problem;
  const headers = { ...problem.headers, 'content-type': 'application/json' };
  return { status: problem.status, body: surface.refuse(problem.body), headers };
}

function freshRequestId(): string {
  return newId('request', systemClock.nowMs(), systemRandom.bytes(10));
}

/** One request through one route. Always answers. */
async function travel(
  c: Context<{ Bindings: Env }>,
  route: Route,
  name: string,
  authenticators: Authenticators,
  witness: Witness,
): Promise<Response> {
  const away = route.spec.early?.(c.req.raw);
  if (away) return render(toProblem(away), freshRequestId());
  const startedMs = systemClock.nowMs();
  const requestId = freshRequestId();
  let ctx: RequestCtx | undefined;
  let response: Response;
  let cause: unknown;
  try {
    ctx = new RequestCtx({ env: c.env, request: c.req.raw, requestId, route: name, execution: c.executionCtx });
    response = await enter(ctx, route, c.req.param() as Record<string, string>, authenticators);
  } catch (error) {
    cause = ctx ? await settle(ctx, error) : error;
    const refusal = toRefusal(cause);
    if (ctx) witness(ctx, name, refusal.code);
    response = render(toRefused(refusal, route.spec.surface), requestId);
  }
  // Nobody reads it, and who writes it would wait for that.
  if (c.req.raw.method === 'HEAD') await response.body?.cancel().catch(() => undefined);
  logRequest(ctx, route.spec, requestId, response.status, systemClock.nowMs() - startedMs, cause);
  return response;
}

/** What a request is refused with at last: nobody fails to prove who he is as often as he likes. */
async function settle(ctx: RequestCtx, error: unknown): Promise<unknown> {
  const { status } = errors[toRefusal(error).code];
  if (ctx.actor.kind !== 'anonymous' || (status !== 401 && status !== 429)) return error;
  try {
    await ctx.stranger.payFailure();
    return error;
  } catch (refusal) {
    return refusal;
  }
}

async function enter(
  ctx: RequestCtx,
  route: Route,
  params: Record<string, string>,
  authenticators: Authenticators,
): Promise<Response> {
  const { spec } = route;
  const shown = readCredential(ctx.request, spec);
  checkAddress(shown.address);
  if (spec.permission === 'public' && spec.isWatched !== true) await ctx.stranger.ask();
  ctx.actor = await identify(ctx, spec, shown.token, authenticators);
  checkPermission(ctx.actor, spec.permission);
  if (spec.upgrade) checkUpgrade(ctx.request, spec.upgrade.protocol);
  if (spec.method !== 'get') checkCondition(ctx.request, spec);
  const { input, bodyText } = await readInput(ctx.request, shown.address, spec, params);
  ctx.idempotency = readIdempotency(ctx.request, spec, bodyText);
  const answer = await withIdempotency(ctx, route, input);
  return answer instanceof Response ? dress(answer, ctx.requestId) : render(answer, ctx.requestId);
}

/** The shape of a whole token, of ours and for joining: who looks for a part of one in logs names no token. */
const tokenShape = /cwt_[\w-]{51}|cwj_[0-9a-z]{20}/i;

/** Refuses a token in the address, where logs, proxies and histories keep it. */
function checkAddress(url: string): void {
  if (tokenShape.test(url)) throw new Refusal('request_token_in_url');
}

/** What a request says who it is of: `token` is null when it says nothing, undefined when nobody can read it. */
interface Shown {
  token: string | null | undefined;
  /** Without the token, where it may be in there. */
  address: string;
}

function readCredential({ url, headers }: Request, { surface, upgrade }: RouteSpec): Shown {
  const header = headers.get('authorization');
  const [, scheme = '', token] = /^(\w+) ([\x21-\x7e]{1,512})$/.exec(header ?? '') ?? [];
  const isOurs = ['bearer', surface?.scheme].includes(scheme.toLowerCase());
  const said = header === null ? null : isOurs ? token : undefined;
  if (!surface || !upgrade) return { token: said, address: url };
  // A browser can give a WebSocket no header.
  const address = new URL(url);
  const inAddress = address.searchParams.get(surface.tokenParameter);
  address.searchParams.delete(surface.tokenParameter);
  return {
    token: said === null && inAddress !== null && inAddress.length <= 512 ? inAddress : said,
    address: address.href,
  };
}

async function identify(
  ctx: Ctx,
  { permission }: RouteSpec,
  token: Shown['token'],
  authenticators: Authenticators,
): Promise<Actor> {
  if (permission === 'public') return { kind: 'anonymous' };
  if (permission === 'agent') return authenticators.agent(ctx);
  if (token === null) throw new Refusal('auth_missing');
  if (token === undefined) throw new Refusal('auth_invalid');
  if (permission !== 'bootstrap') return authenticators.token(ctx, token);
  if (ctx.config.bootstrap === undefined || !equalTexts(token, ctx.config.bootstrap)) throw new Refusal('auth_invalid');
  return { kind: 'bootstrap' };
}

/** @throws Refusal when the request is no WebSocket upgrade, or for another subprotocol */
export function checkUpgrade(request: Request, protocol: string | undefined): void {
  if (request.headers.get('upgrade')?.toLowerCase() !== 'websocket') throw new Refusal('request_upgrade_required');
  if (protocol === undefined) return;
  const offered = (request.headers.get('sec-websocket-protocol') ?? '').split(',').map((each) => each.trim());
  if (!offered.includes(protocol))
    throw new Refusal('request_protocol_unsupported', `Ask for the subprotocol ${protocol}.`);
}

/** One line for each request that changed something, was refused, or took long. */
function logRequest(
  ctx: Ctx | undefined,
  spec: RouteSpec,
  requestId: string,
  status: number,
  ms: number,
  cause: unknown,
): void {
  const onlyAsks = spec.method === 'get' || spec.changesNothing === true;
  if (status < 400 && onlyAsks && ms < 1000) return;
  const log = ctx?.log ?? consoleLog({ requestId, route: routeName(spec) });
  const actor =
    ctx?.actor.kind === 'user' ? ctx.actor.userId : ctx?.actor.kind === 'agent' ? ctx.actor.agentId : undefined;
  const code: ErrorCode | undefined = cause === undefined ? undefined : toRefusal(cause).code;
  const fields = { status, ms, ...(actor === undefined ? {} : { actor }), ...(code === undefined ? {} : { code }) };
  if (status < 500) log.info('request', fields);
  else if (code !== undefined && errors[code].status === 503)
    log.warn('request', { ...fields, cause: describeError(cause).cause });
  else log.error('request', { ...fields, ...describeError(cause) });
}

/** `Idempotency-Key`: what a repeated creating POST means. The admission object remembers keys for 48 h. */
import { createHash } from 'node:crypto';
import { errors, Refusal } from '../../schema/errors.ts';
import type { AdmissionRpc, IdempotencyKey } from '../manager/admission/rpc.ts';
import { admissionObject } from '../platform/objects.ts';
import type { Ctx } from './context.ts';
import type { RequestCtx } from './request-ctx.ts';
import type { InputOf, Reply, RequestSpec, Route, RouteSpec } from './slice.ts';

/** Reads the key and hashes what it stands for. Routes that create nothing ignore the header. */
export function readIdempotency(request: Request, spec: RouteSpec, bodyText: string): Ctx['idempotency'] {
  if (spec.idempotent === undefined || spec.idempotent === 'none') return undefined;
  const key = request.headers.get('idempotency-key');
  if (key === null) return undefined;
  if (!/^[\x21-\x7e]{1,255}$/.test(key))
    throw new Refusal('idempotency_key_invalid', 'Use 1 to 255 printable ASCII characters without spaces.');
  const { pathname } = new URL(request.url);
  const bodyHash = createHash('sha256').update(`${request.method} ${pathname}\n${bodyText}`).digest('base64url');
  return { key, bodyHash };
}

/** Runs the handler of a route; on routes that say `begin`, with the effect of one run for each key. */
export function withIdempotency(
  ctx: RequestCtx,
  route: Route,
  input: InputOf<RequestSpec>,
): ReturnType<Route['handle']> {
  const { actor, idempotency } = ctx;
  if (route.spec.idempotent !== 'begin' || idempotency === undefined || actor.kind !== 'user')
    return route.handle(ctx, input);
  return begin(ctx, route, input, { actorId: actor.userId, ...idempotency }, String(actor.domainNumber));
}

async function begin(
  ctx: RequestCtx,
  route: Route,
  input: InputOf<RequestSpec>,
  key: IdempotencyKey,
  domain: string,
): Promise<Reply | Response> {
  const object = admissionObject(ctx.env, domain);
  const begun = await object.begin(key);
  switch (begun.kind) {
    case 'begun':
      ctx.idBody = begun.idBody;
      return runOnce(ctx, route, input, object, key);
    case 'replay':
      return begun.answer;
    case 'secretShown':
      throw new Refusal('idempotency_secret_shown', `It made ${begun.id}; make another one if its secret was lost.`);
    case 'conflict':
      throw new Refusal('idempotency_key_reused');
    case 'inProgress':
      throw new Refusal('idempotency_in_progress', undefined, { retryAfterSeconds: 1 });
  }
}

/**
 * A refusal frees the key. Any other failure leaves it begun, with nobody at work: whether the writes were done is unknown,
 * and a repetition makes the same ids.
 */
async function runOnce(
  ctx: RequestCtx,
  { spec, handle }: Route,
  input: InputOf<RequestSpec>,
  object: AdmissionRpc,
  key: IdempotencyKey,
): Promise<Reply> {
  let answer: Reply | Response;
  try {
    answer = await handle(ctx, input);
  } catch (error) {
    if (error instanceof Refusal && errors[error.code].status < 500) await object.abandon(key);
    // Where that is lost, a repetition has to wait for the time of a request that was cut.
    else await object.rest(key).catch(() => undefined);
    throw error;
  }
  if (answer instanceof Response) throw new Error(`${spec.path} begins, so it must reply with JSON`);
  const { id } = (answer.body ?? {}) as { id?: unknown };
  const outcome = spec.secret ? { secret: { id: String(id) } } : { answer };
  // What was made is made: a lost answer of the second step is asked for once more, not shown to the caller.
  await object.finish(key, outcome).catch(() => object.finish(key, outcome));
  return answer;
}

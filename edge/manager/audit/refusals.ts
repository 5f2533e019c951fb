/**
 * Refusals on their way to the audit trail: counted in the isolate while one call is under way or rests, so that a flood
 * costs one call a second, which writes, and never one each. Nothing of it is waited for by the request that was
 * refused.
 */
import type { AuditEntry } from '../../../schema/api/audit.ts';
import { type ErrorCode, errors } from '../../../schema/errors.ts';
import { newId } from '../../../schema/ids.ts';
import type { Ctx } from '../../http/context.ts';
import { systemTimers } from '../../platform/clock.ts';
import { admissionObject } from '../../platform/objects.ts';
import { systemChain, toAuditActor } from './record.ts';
import type { Refusals } from './refusal-windows.ts';

/** A call that takes longer than this died with its request; the next refusal makes another. */
const callMs = 10_000;
/** Between two calls, once more were made than anybody causes by mistake. */
const restMs = 1_000;
const burstCalls = 20;
/** Kinds counted at once in an isolate; more are dropped, the object would count them together anyway. */
const mostKinds = 1_000;

const waiting = new Map<string, Map<string, Refusals>>();
const sendingSinceMs = new Map<string, number>();
/** When the calls of all chains are paid for, a rest each. */
let paidAtMs = 0;

/** Whether a refusal is written down: who is nobody, who may not, who tried too often. */
export function isAudited(code: ErrorCode): boolean {
  const { status } = errors[code];
  return status === 401 || status === 403 || code === 'auth_throttled' || code === 'request_rate_limited';
}

/** Notes a refusal. `route` is its declared name, so that kinds are bounded by routes and callers. */
export function noteRefusal(ctx: Ctx, route: string, code: ErrorCode): void {
  if (!isAudited(code)) return;
  const { actor } = ctx;
  const chain = actor.kind === 'user' ? String(actor.domainNumber) : systemChain;
  const who = toAuditActor(actor).id ?? ctx.clientAddress;
  const kinds = waiting.get(chain) ?? new Map<string, Refusals>();
  waiting.set(chain, kinds);
  const key = `${who} ${route}`;
  const known = kinds.get(key);
  if (known) known.count += 1;
  else if (kinds.size < mostKinds) kinds.set(key, { key, count: 1, entry: toRefused(ctx, route, code) });
  const sinceMs = sendingSinceMs.get(chain);
  if (sinceMs === undefined || ctx.clock.bootMs() - sinceMs > callMs) ctx.waitUntil(send(ctx, chain));
}

function toRefused(ctx: Ctx, route: string, code: ErrorCode): AuditEntry {
  const nowMs = ctx.clock.nowMs();
  return {
    id: newId('audit', nowMs, ctx.random.bytes(10)),
    atMs: nowMs,
    action: route,
    outcome: 'refused',
    actor: toAuditActor(ctx.actor),
    address: ctx.clientAddress,
    requestId: ctx.requestId,
    code,
  };
}

async function send(ctx: Ctx, chain: string): Promise<void> {
  try {
    for (let kinds = waiting.get(chain); kinds && kinds.size > 0; kinds = waiting.get(chain)) {
      waiting.delete(chain);
      sendingSinceMs.set(chain, ctx.clock.bootMs());
      await admissionObject(ctx.env, chain).refused([...kinds.values()]);
      await rest(ctx.clock.bootMs());
    }
  } finally {
    sendingSinceMs.delete(chain);
  }
}

async function rest(nowMs: number): Promise<void> {
  const debtMs = Math.min(Math.max(nowMs, paidAtMs) - nowMs + restMs, (burstCalls + 1) * restMs);
  paidAtMs = nowMs + debtMs;
  if (debtMs > burstCalls * restMs) await new Promise<void>((resolve) => void systemTimers.after(restMs, resolve));
}

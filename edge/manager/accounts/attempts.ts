/**
 * Attempts at a password: two a second for the instance, ten failures in a quarter of an hour for an account from one
 * address (IPv6: /64, of which a client may use any), whether it is tried by signing in or by changing it. Counted in an
 * object, so that a restart forgives nothing.
 */
import { type RateLimit, Refusal } from '../../../schema/errors.ts';
import { clientNetworkOf } from '../../http/client-address.ts';
import type { Ctx } from '../../http/context.ts';
import { shardOf } from '../../http/shards.ts';
import { throttleObject } from '../../platform/objects.ts';
import { enterLogin } from './password.ts';

const policy = { name: 'login', quota: 10, windowSeconds: 900 };

export interface Attempt {
  /** What is left when this attempt fails. */
  limit: RateLimit;
  /** The password was right: forget the failures. Returns what is left now. */
  forgive(): Promise<RateLimit>;
}

/** Lets one attempt at the password of an account pass. @throws Refusal `auth_throttled` */
export async function beginAttempt(ctx: Ctx, email: string): Promise<Attempt> {
  const waitSeconds = enterLogin(ctx.clock);
  if (waitSeconds !== undefined)
    throw new Refusal('auth_throttled', 'Others are signing in; try again in a moment.', {
      retryAfterSeconds: waitSeconds,
      rateLimit: { name: 'instance', quota: 2, windowSeconds: 1, remaining: 0, resetSeconds: waitSeconds },
    });
  const key = `login ${email} ${clientNetworkOf(ctx.clientAddress) ?? 'unknown'}`;
  const guard = throttleObject(ctx.env, shardOf(key));
  const { allowed, remaining, resetSeconds } = await guard.take(key, policy.quota, policy.windowSeconds * 1000);
  const limit = { ...policy, remaining, resetSeconds };
  if (!allowed)
    throw new Refusal('auth_throttled', 'Too many failures for this account from this address.', {
      retryAfterSeconds: resetSeconds,
      rateLimit: limit,
    });
  return {
    limit,
    async forgive() {
      await guard.clear(key);
      return { ...policy, remaining: policy.quota, resetSeconds: policy.windowSeconds };
    },
  };
}

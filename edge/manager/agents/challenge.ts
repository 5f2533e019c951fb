/** Challenges without state: the nonce says when it ends and carries our HMAC over that and the agent. */
import type { Random } from '../../../schema/ports.ts';
import { toBase64Url } from '../../platform/base64.ts';
import type { Keys } from '../../platform/config.ts';
import { isKeyedHash, keyedHash } from '../../platform/keys.ts';

const lifeMs = 30_000;

/** `<expiry ms>.<random>.<key version>.<hmac>` for one agent. */
export function makeChallenge(
  keys: Keys,
  agentId: string,
  nowMs: number,
  random: Random,
): { nonce: string; expiresAtMs: number } {
  const expiresAtMs = nowMs + lifeMs;
  const body = `${expiresAtMs}.${toBase64Url(random.bytes(16))}`;
  return { nonce: `${body}.${keyedHash(keys, 'agent-challenge', `${agentId}\n${body}`)}`, expiresAtMs };
}

/** Whether `nonce` is one of ours for this agent and still good. */
export function judgeChallenge(keys: Keys, agentId: string, nonce: string, nowMs: number): 'ok' | 'expired' | 'forged' {
  const [, body, expiry, hash] =
    /^(([0-9]{1,15})\.[A-Za-z0-9_-]{22})\.([0-9]{1,9}\.[A-Za-z0-9_-]{43})$/.exec(nonce) ?? [];
  if (body === undefined || hash === undefined) return 'forged';
  if (!isKeyedHash(keys, 'agent-challenge', `${agentId}\n${body}`, hash)) return 'forged';
  return Number(expiry) >= nowMs ? 'ok' : 'expired';
}

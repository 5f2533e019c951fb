/**
 * What an agent that has proved itself is given to show at its next dial: its key and its hub, under our HMAC. Neither ever
 * changes, so a herd that returns to an edge that remembers nobody is let in without a read of the catalogue. It proves
 * nothing by itself: the signature does, and the ledger says whether the agent may still come.
 */
import type { Keys } from '../../platform/config.ts';
import { isKeyedHash, keyedHash } from '../../platform/keys.ts';

/** What of an enrolment never changes. */
export interface Enrolment {
  /** Ed25519, base64url. */
  publicKey: string;
  hub: string;
}

/** `<public key>.<hub>.<key version>.<hmac>` for one agent. */
export function makeBadge(keys: Keys, agentId: string, { publicKey, hub }: Enrolment): string {
  const body = `${publicKey}.${hub}`;
  return `${body}.${keyedHash(keys, 'agent-badge', `${agentId}\n${body}`)}`;
}

/** What a badge says, if it is one of ours for this agent; one that is not is as if there were none. */
export function readBadge(keys: Keys, agentId: string, badge: string | null): Enrolment | undefined {
  const [, body, publicKey, hub, hash] =
    /^(([A-Za-z0-9_-]{43})\.([0-9]{1,9}))\.([0-9]{1,9}\.[A-Za-z0-9_-]{43})$/.exec(badge ?? '') ?? [];
  if (body === undefined || publicKey === undefined || hub === undefined || hash === undefined) return undefined;
  return isKeyedHash(keys, 'agent-badge', `${agentId}\n${body}`, hash) ? { publicKey, hub } : undefined;
}

/** Requests that carry this agent's signature: as for a control socket, over plain HTTP. */
import type { Clock } from '../../schema/ports.ts';
import { challenge, type Post, type Put, toEdgeRefusal, type Upload } from './edge-api.ts';
import type { Identity } from './identity.ts';

interface SignPorts {
  post: Post;
  url(): string;
}

/** A nonce is good for 30 s: several requests in a row are signed once. */
const goodMs = 15_000;

/** The header of a request of this agent, good for a moment. */
export async function authorization(ports: SignPorts, identity: Identity, signal: AbortSignal): Promise<string> {
  const { membership } = identity;
  if (membership === undefined) throw new Error('this agent has not joined');
  const { agentId } = membership;
  const url = ports.url();
  const { nonce } = await challenge(ports.post, url, { agentId, badge: identity.badge }, signal);
  const signature = identity.signTunnel(membership, nonce, new URL(url).host);
  return `Causeway-Agent id=${agentId},nonce=${nonce},signature=${signature}`;
}

/** {@link Upload} of this agent. */
export function uploadAs(ports: SignPorts & { put: Put; clock: Clock }, identity: Identity): Upload {
  let held: { text: string; untilMs: number; url: string } | undefined;
  const credential = async (url: string, signal: AbortSignal): Promise<string> => {
    if (held !== undefined && held.url === url && ports.clock.bootMs() < held.untilMs) return held.text;
    const untilMs = ports.clock.bootMs() + goodMs;
    held = { text: await authorization(ports, identity, signal), untilMs, url };
    return held.text;
  };
  return async (path, headers, body, signal) => {
    const url = ports.url();
    const signed = { ...headers, authorization: await credential(url, signal) };
    const { status, retryAfter, text } = await ports.put(new URL(path, url), signed, body, signal);
    if (status >= 200 && status <= 299) return;
    if (status === 401) held = undefined;
    throw toEdgeRefusal(status, text, retryAfter);
  };
}

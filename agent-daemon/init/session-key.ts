/** The key that the agent and one init share, and what each end proves with it (SPEC.md, "Handshake"). */
import { createHmac, timingSafeEqual } from 'node:crypto';

export interface SessionKey {
  /** 32 random bytes. Never logged, never in the container's environment, 0600 on disk. */
  bytes: Uint8Array;
  /**
   * The init has proved that it holds the key. Until then the key may be given to whoever dials first, because nothing
   * of the tenant was started; from then on it is never sent again.
   */
  confirmed: boolean;
}

function prove(key: Uint8Array, label: string, ...nonces: Uint8Array[]): Buffer {
  const hmac = createHmac('sha256', key).update(label);
  for (const nonce of nonces) hmac.update(nonce);
  return hmac.digest();
}

/** What an init with the key puts into its HELLO, so that a flood of strangers is told from it at the first frame. */
export const helloTag = (key: Uint8Array, initNonce: Uint8Array): Buffer =>
  prove(key, 'causeway-init hello', initNonce);

export const agentProof = (key: Uint8Array, initNonce: Uint8Array, agentNonce: Uint8Array): Buffer =>
  prove(key, 'causeway-init agent', initNonce, agentNonce);

export const initProof = (key: Uint8Array, initNonce: Uint8Array, agentNonce: Uint8Array): Buffer =>
  prove(key, 'causeway-init proof', agentNonce, initNonce);

/** The name of the socket for every contact but the first: nobody without the key can find it to flood it. */
export const socketName = (key: Uint8Array): string =>
  `s-${prove(key, 'causeway-init socket').subarray(0, 8).toString('hex')}`;

/** What begins a conversation over stdin and stdout; public before first contact, then as secret as the key. */
export const callSign = (key: Uint8Array = new Uint8Array(32)): Buffer =>
  Buffer.concat([
    Buffer.from([0xff]),
    Buffer.from(prove(key, 'causeway-init call').subarray(0, 16).toString('hex'), 'latin1'),
  ]);

export const sameDigest = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

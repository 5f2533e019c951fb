/**
 * The agent's side of the handshake with one init (SPEC.md, "Handshake"). It decides who is at the other end, and must
 * never give the key away once an init has proved that it holds it.
 */
import type { Random } from '../../schema/ports.ts';
import { encode } from './codec.ts';
import { nonceBytes, protocolVersion, type FromInit } from './messages.ts';
import { agentProof, helloTag, initProof, sameDigest, type SessionKey } from './session-key.ts';

export type Hello = FromInit & { type: 'hello' };

export interface KeyStore {
  /** The key as it is now; absent before first contact. */
  key(): SessionKey | undefined;
  /** Makes the key durable. It is sent, or trusted, only after this is done. */
  saveKey(key: SessionKey): Promise<void>;
}

/** Why `hello` can not come from this session's init, or undefined when it may. */
export function refuseHello(hello: Hello, key: SessionKey | undefined): string | undefined {
  if (hello.version !== protocolVersion) return `protocol version ${hello.version} instead of ${protocolVersion}`;
  if (!hello.hasKey) return key?.confirmed ? 'an init without the key' : undefined;
  return key && sameDigest(helloTag(key.bytes, hello.nonce), hello.tag) ? undefined : 'a forged HELLO';
}

export class Handshake {
  readonly #keys: KeyStore;
  readonly #hello: Hello;
  readonly #nonce: Uint8Array;

  /** `hello` was not refused by `refuseHello`. */
  constructor(keys: KeyStore, random: Random, hello: Hello) {
    this.#keys = keys;
    this.#hello = hello;
    this.#nonce = random.bytes(nonceBytes);
  }

  /** The frame that answers HELLO: the key at first contact, else a challenge with the agent's own proof. */
  async answer(random: Random): Promise<Buffer> {
    if (!this.#keys.key()) await this.#keys.saveKey({ bytes: random.bytes(nonceBytes), confirmed: false });
    const key = this.#keys.key();
    if (!key) throw new Error('the session key was not kept');
    const nonce = this.#nonce;
    return this.#hello.hasKey
      ? encode({ type: 'challenge', nonce, secret: agentProof(key.bytes, this.#hello.nonce, nonce) })
      : encode({ type: 'key', nonce, secret: key.bytes });
  }

  /** Whether `frame` proves that the other end holds the key. From then on the key counts as confirmed. */
  async accept(frame: FromInit): Promise<boolean> {
    const key = this.#keys.key();
    if (!key || frame.type !== 'proof') return false;
    if (!sameDigest(frame.proof, initProof(key.bytes, this.#hello.nonce, this.#nonce))) return false;
    if (!key.confirmed) await this.#keys.saveKey({ ...key, confirmed: true });
    return true;
  }
}

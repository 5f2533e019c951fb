/**
 * Who this agent is: an Ed25519 key that never leaves the host, what enrolment answered, and the join counter by which a
 * copied identity is found out (SPEC rule M2). Files of the state directory, mode 0600, replaced atomically with fsync.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { Enrolled, tunnelSigningText } from '../../schema/api/agent.ts';
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import { idPattern } from '../../schema/ids.ts';
import type { Clock, Failpoints, Random } from '../../schema/ports.ts';
import { type Disk, readIfThere, replaceDurably } from '../disk.ts';
import { freshId } from '../fresh-id.ts';

const Attempt = z.strictObject({ counter: z.int().min(1), attemptId: z.string().regex(idPattern('attempt')) });
export type Attempt = z.infer<typeof Attempt>;
/** Enrolment, and the control plane that it belongs to. */
const Membership = Enrolled.extend({ url: z.string() });
export type Membership = z.infer<typeof Membership>;

interface IdentityPorts {
  clock: Clock;
  random: Random;
  disk: Disk;
  failpoints: Failpoints<AgentFailpoint>;
}

/** What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410). */
const keyPrefix = Buffer.from('302e020100300506032b657004220420', 'hex');

function newKey(random: Random): KeyObject {
  return createPrivateKey({ key: Buffer.concat([keyPrefix, random.bytes(32)]), format: 'der', type: 'pkcs8' });
}

/** Parses a file of ours. @throws Error that names it: a damaged identity needs a person, not a new one by accident. */
function parseFile<Schema extends z.ZodType>(path: string, text: Buffer, schema: Schema): z.output<Schema> {
  try {
    return schema.parse(JSON.parse(text.toString()));
  } catch {
    throw new Error(`${path} is damaged. Move it away and join again with a new token.`);
  }
}

export class Identity {
  /** What the edge gave at the last control dial, to be shown at the next (SPEC rule K1). In memory alone. */
  badge: string | undefined;
  readonly #stateDir: string;
  readonly #ports: IdentityPorts;
  readonly #key: KeyObject;
  #membership: Membership | undefined;
  #attempt: Attempt | undefined;
  #accepted = false;

  private constructor(stateDir: string, ports: IdentityPorts, key: KeyObject) {
    this.#stateDir = stateDir;
    this.#ports = ports;
    this.#key = key;
  }

  /** Reads the identity of `stateDir`; makes the directory and the key when there is none. */
  static async open(stateDir: string, ports: IdentityPorts): Promise<Identity> {
    const { disk } = ports;
    await disk.mkdir(stateDir, { recursive: true, mode: 0o700 });
    const keyPath = join(stateDir, 'key.pem');
    let pem = (await readIfThere(disk, keyPath))?.toString();
    if (pem === undefined) {
      await ports.failpoints.before('identity.key');
      pem = newKey(ports.random).export({ type: 'pkcs8', format: 'pem' }) as string;
      await replaceDurably(disk, keyPath, pem);
      await ports.failpoints.after('identity.key');
      if (ports.failpoints.unknown('identity.key')) throw new Error('the outcome of making the key is unknown');
    }
    const identity = new Identity(stateDir, ports, createPrivateKey(pem));
    const membershipPath = join(stateDir, 'identity.json');
    const membership = await readIfThere(disk, membershipPath);
    if (membership !== undefined) identity.#membership = parseFile(membershipPath, membership, Membership);
    const attemptPath = join(stateDir, 'counter.json');
    const attempt = await readIfThere(disk, attemptPath);
    if (attempt !== undefined) identity.#attempt = parseFile(attemptPath, attempt, Attempt);
    return identity;
  }

  /** Raw public key, base64url. */
  get publicKey(): string {
    return createPublicKey(this.#key).export({ format: 'jwk' }).x ?? '';
  }

  /** Absent before the first enrolment. */
  get membership(): Membership | undefined {
    return this.#membership;
  }

  async recordMembership(membership: Membership): Promise<void> {
    await this.#ports.failpoints.before('identity.enrolled');
    await replaceDurably(this.#ports.disk, join(this.#stateDir, 'identity.json'), JSON.stringify(membership));
    await this.#ports.failpoints.after('identity.enrolled');
    if (this.#ports.failpoints.unknown('identity.enrolled')) throw new Error('the answer was lost');
    this.#membership = membership;
  }

  /**
   * The counter and attempt for the next hello, on the disk before it is sent. The same again until the ledger accepted
   * it; after a restart too, because the ledger takes the pair that it accepted last a second time.
   */
  async nextAttempt(): Promise<Attempt> {
    if (this.#attempt && !this.#accepted) return this.#attempt;
    const attempt = { counter: (this.#attempt?.counter ?? 0) + 1, attemptId: freshId('attempt', this.#ports) };
    await this.#ports.failpoints.before('identity.counter');
    await replaceDurably(this.#ports.disk, join(this.#stateDir, 'counter.json'), JSON.stringify(attempt));
    await this.#ports.failpoints.after('identity.counter');
    this.#attempt = attempt;
    this.#accepted = false;
    if (this.#ports.failpoints.unknown('identity.counter')) throw new Error('the outcome of the dial is unknown');
    return attempt;
  }

  /** The ledger accepted this attempt: the next dial counts on. */
  markAccepted(attempt: Attempt): void {
    if (attempt.attemptId === this.#attempt?.attemptId) this.#accepted = true;
  }

  /** Base64url signature of a challenge for a control socket to `host`. */
  signTunnel(membership: Membership, nonce: string, host: string): string {
    const { instance, agentId } = membership;
    const text = tunnelSigningText({ instance, agentId, nonce, host });
    return sign(null, Buffer.from(text), this.#key).toString('base64url');
  }
}

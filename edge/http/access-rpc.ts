/** What is asked of an `Access` object. Every method may be called twice with the same effect as once. */

/** Whose rights are asked about: a user through a token, as known at `accessVersion`. */
export interface Principal {
  userId: string;
  tokenId: string;
  /** The project that a socket or stream belongs to. */
  projectId?: string;
  /** Version of the object when the rights were read. */
  accessVersion: number;
  /** When the token ends, Unix ms. */
  expiresAtMs?: number;
}

/** Of a socket: it belongs to a project. */
export type SocketPrincipal = Principal & { projectId: string };

/**
 * `ok`: nothing happened since `accessVersion`. `changed`: rights changed, read them again (a hub closes with 4409 and the
 * client dials anew). `revoked`: the user or the token is out, or the token has expired (a hub closes with 4401).
 */
export type Verdict = 'ok' | 'changed' | 'revoked';

export interface AccessRpc {
  /** One verdict for each principal, in order, and the object's version now. At most 10,000 principals of this shard. */
  check(principals: readonly Principal[]): Promise<{ version: number; verdicts: Verdict[] }>;
  /**
   * Before D1 is written: rights of the user or token (`usr_`, `tok_`) are about to change, and are read anew at each check
   * until {@link finish}, or for a minute when whoever announced it died. `restores`: D1 alone decides whether it is in.
   */
  intend(id: string, subject: string, restores: boolean): Promise<void>;
  /** After D1 was written. `revoked`: it is out, and need not be looked up for 24 h. */
  finish(id: string, subject: string, outcome: 'changed' | 'revoked'): Promise<void>;
}

/** Why the edge can not be reached in the way that was asked for, in words, with what to do. Holds no secret of a proxy. */

export type WayCode =
  | 'tls_pin_mismatch'
  | 'tls_untrusted'
  | 'tls_name_mismatch'
  | 'tls_expired'
  | 'tls_absent'
  | 'tls_ca_file_invalid'
  | 'proxy_auth_required'
  | 'proxy_refused'
  | 'proxy_unreachable'
  | 'proxy_invalid';

/** What may go away by itself. After all others the next try ends the same way until a person does something. */
const passing: ReadonlySet<WayCode> = new Set<WayCode>(['proxy_refused', 'proxy_unreachable']);

export class WayError extends Error {
  readonly code: WayCode;
  /** What to type or check. */
  readonly hint: string;

  constructor(code: WayCode, message: string, hint: string) {
    super(message);
    this.name = 'WayError';
    this.code = code;
    this.hint = hint;
  }

  /** True when trying again can not help. */
  get final(): boolean {
    return !passing.has(this.code);
  }

  /** All of it in one line, for a log. */
  override toString(): string {
    return `${this.code}: ${this.message}. ${this.hint}`;
  }
}

/** The WayError that `error` is or was caused by. */
export function findWayError(error: unknown): WayError | undefined {
  if (error instanceof WayError) return error;
  return error instanceof Error ? findWayError(error.cause) : undefined;
}

/** What the network says where nobody listens, or where no way leads: not a byte came to the edge. */
const nobody = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH']);

/** True when nothing was there to be reached. What answers, late or with a refusal, is something. */
export function reachedNobody(error: unknown): boolean {
  return error instanceof Error && 'code' in error && nobody.has(String(error.code));
}

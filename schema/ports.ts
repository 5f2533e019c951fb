/**
 * The doors through which core modules see the world. Core modules (admission, ledger, lifecycle, hub protocol, agent
 * core, spool, resume, reconcile, enrolment, back-off) take these and never a global, so that a simulator can run them.
 */

export interface Clock {
  /** Unix milliseconds; may jump. For records and people, never for leases. */
  nowMs(): number;
  /** Milliseconds on a clock that never goes back and counts suspend (CLOCK_BOOTTIME); origin unspecified. */
  bootMs(): number;
}

export interface Random {
  /** `count` unpredictable bytes. */
  bytes(count: number): Uint8Array;
  /** Uniform in [0, 1). For jitter, never for secrets. */
  fraction(): number;
}

export interface Timers {
  /** Runs `task` once after `delayMs`; the returned function cancels it. A task that throws is reported, never lost. */
  after(delayMs: number, task: () => void): () => void;
}

/** Structured log: one JSON object a line. Never give it a secret. */
export interface Log {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** Kills the process at a named place when a test asks for it; does nothing otherwise. See `schema/failpoints.ts`. */
export interface Failpoints<Name extends string = string> {
  before(name: Name): Promise<void>;
  after(name: Name): Promise<void>;
  /** True when the outcome of the step that was just done must look unknown to its caller (a lost answer). */
  unknown(name: Name): boolean;
}

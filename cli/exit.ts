/** How the CLI ends: a failure carries what happened, why, and what to type; it never shows a stack for what a caller did. */

/** Exit statuses of the CLI itself; a remote command's own status is passed through unchanged. */
export const exitStatus = {
  failed: 1,
  usage: 2,
  /** `run` and `exec`: our own failure, so that it is told from the command's (as other container tools do). */
  notRun: 125,
} as const;

/** A failure that a person can act on. `hint` is the next thing to type or check. */
export class CliFailure extends Error {
  readonly hint: string | undefined;
  readonly status: number;
  /** Stable code of the API's problem, for `--json`. */
  readonly code: string | undefined;

  constructor(message: string, more: { hint?: string | undefined; status?: number; code?: string | undefined } = {}) {
    super(message);
    this.name = 'CliFailure';
    this.hint = more.hint;
    this.status = more.status ?? exitStatus.failed;
    this.code = more.code;
  }
}

/** Prints a failure to stderr (as JSON when asked) and returns the exit status. */
export function reportFailure(error: unknown, json: boolean): number {
  const failure = error instanceof CliFailure ? error : undefined;
  const message = error instanceof Error ? error.message : String(error);
  if (json) process.stderr.write(`${JSON.stringify({ error: message, code: failure?.code, hint: failure?.hint })}\n`);
  else {
    process.stderr.write(`causeway: ${message}\n`);
    if (failure?.hint !== undefined) process.stderr.write(`  try: ${failure.hint}\n`);
    if (failure === undefined && process.env['CAUSEWAY_DEBUG'] && error instanceof Error)
      process.stderr.write(`${error.stack}\n`);
  }
  return failure?.status ?? exitStatus.failed;
}

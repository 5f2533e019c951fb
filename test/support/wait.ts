/**
 * Waiting in tests: for a condition, never for a time. A test that passes only because it slept is a test that fails
 * on a slower machine, so nothing here asserts how long something took.
 */
import { setTimeout as sleep } from 'node:timers/promises';

export interface UntilOptions {
  /** What is waited for, as the end of the sentence "gave up waiting for ...". */
  what: string;
  /** Deadline in ms, default 30,000: generous, because machines that run tests are busy. */
  timeoutMs?: number;
  /** Pause between two looks in ms, default 25. */
  everyMs?: number;
  /** Ends the wait early with this reason when it returns a text, e.g. that the awaited process has died. */
  giveUp?: () => string | undefined;
}

/** Looks until `condition` answers something truthy and returns it; an exception counts as "not yet" and is shown at the end. */
export async function until<T>(
  condition: () => T | Promise<T>,
  { what, timeoutMs = 30_000, everyMs = 25, giveUp }: UntilOptions,
): Promise<NonNullable<T>> {
  const startedMs = performance.now();
  for (let looks = 1; ; looks++) {
    let last: string;
    try {
      const value = await condition();
      if (value) return value;
      last = `last answer: ${show(value)}`;
    } catch (error) {
      last = `last error: ${error instanceof Error ? error.message : show(error)}`;
    }
    const waitedMs = performance.now() - startedMs;
    const reason = giveUp?.();
    if (reason !== undefined || waitedMs > timeoutMs) {
      const why = reason === undefined ? '' : `${reason}; `;
      throw new Error(`gave up waiting for ${what} after ${Math.round(waitedMs)} ms, ${looks} looks: ${why}${last}`);
    }
    await sleep(everyMs);
  }
}

function show(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return text.length > 500 ? `${text.slice(0, 500)}...` : text;
}

/** The real clock, behind the port of `schema/ports.ts`. */
import type { Clock, Timers } from '../../schema/ports.ts';

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  bootMs: () => performance.now(),
};

/** Timers of this isolate. A task that throws is logged by the runtime as an uncaught error, never lost. */
export const systemTimers: Timers = {
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Moves the clock by which the edge measures spans (never the wall clock): waiting without waiting. */
import { vi } from 'vitest';

/** The clock as nobody moved it. */
export const realMs = performance.now.bind(performance);
let aheadMs = 0;

/** From now on the edge's spans are `ms` longer. Undone by `vi.restoreAllMocks()`; keep adding within a file all the same. */
export function passMs(ms: number): void {
  aheadMs += ms;
  vi.spyOn(performance, 'now').mockImplementation(() => realMs() + aheadMs);
}

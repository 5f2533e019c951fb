/** What is asked of a `Throttle` object: a count of attempts in a window, for what must not be guessed. */
export interface Attempts {
  /** False: refused until the window is over. */
  allowed: boolean;
  /** How many more will be let in. */
  remaining: number;
  /** Until the window is over; its whole length before the first attempt. */
  resetSeconds: number;
}

export interface ThrottleRpc {
  /** Counts an attempt at `key`, if it is let in. */
  take(key: string, limit: number, windowMs: number): Promise<Attempts>;
  /** The same without counting: for what counts failures alone. */
  look(key: string, limit: number, windowMs: number): Promise<Attempts>;
  /** The attempt was good: forget the key's failures. */
  clear(key: string): Promise<void>;
}

/** Waiting for whatever comes first of several things that change. */

/** Tells those who listen that it changed. */
export interface Changing {
  /** The returned function ends it. */
  onChange(listener: () => void): () => void;
}

/** Resolves when `isDue`, which is asked now and whenever one of `things` changes, or `signal` aborts. */
export function whenDue(isDue: () => boolean, things: readonly Changing[], signal: AbortSignal): Promise<void> {
  if (signal.aborted || isDue()) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<void>();
  const over = (): void => {
    for (const stop of stops) stop();
    signal.removeEventListener('abort', over);
    resolve();
  };
  const look = (): void => {
    if (isDue()) over();
  };
  const stops = things.map((thing) => thing.onChange(look));
  signal.addEventListener('abort', over);
  return promise;
}

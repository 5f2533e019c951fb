/** The sockets of a simulated host, by directory and name: the agent listens, the inits of containers dial. */
import type { Duplex } from 'node:stream';
import type { InitDoor } from '../../../agent-daemon/init/link-options.ts';
import type { Timers } from '../../../schema/ports.ts';
import { PipeEnd } from './pipe.ts';

const passMs = 0.1;

export class SimDoor implements InitDoor {
  readonly #timers: Timers;
  readonly #listeners = new Map<string, (stream: Duplex) => void>();
  /** The agent's ends, which go with its process. */
  readonly #accepted = new Set<PipeEnd>();

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  listen(dir: string, name: string, onConnection: (stream: Duplex) => void): Promise<() => void> {
    const path = `${dir}/${name}`;
    this.#listeners.set(path, onConnection);
    return Promise.resolve(() => {
      if (this.#listeners.get(path) === onConnection) this.#listeners.delete(path);
    });
  }

  remove(dir: string, name: string): Promise<void> {
    this.#listeners.delete(`${dir}/${name}`);
    return Promise.resolve();
  }

  /** What the init gets that dials; undefined when nobody listens. */
  dial(dir: string, name: string): Duplex | undefined {
    const listener = this.#listeners.get(`${dir}/${name}`);
    if (listener === undefined) return undefined;
    const [theirs, ours] = PipeEnd.pair(this.#timers, passMs);
    this.hold(ours);
    this.#timers.after(passMs, () => {
      // Whoever listened may be gone by now: then nobody ever takes the connection, and it is closed.
      if (this.#listeners.get(`${dir}/${name}`) === listener) listener(ours);
      else ours.destroy();
    });
    return theirs;
  }

  /** Counts an end of a stream as the agent's. */
  hold(end: PipeEnd): void {
    this.#accepted.add(end);
    end.once('close', () => this.#accepted.delete(end));
  }

  /** The agent's process is gone: nobody listens, and what it had open is closed. */
  abandon(): void {
    this.#listeners.clear();
    for (const end of this.#accepted) end.abandon();
    this.#accepted.clear();
  }
}

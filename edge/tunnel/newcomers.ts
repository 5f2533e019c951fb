/**
 * Sockets of agents that the ledger has not welcomed yet, in one isolate, which is one thread: few at a time, so that what
 * people ask while a herd returns is answered in between. Who comes on top looks again and again, since what one object of
 * an isolate waits for another can not end.
 */
import type { Clock, Timers } from '../../schema/ports.ts';

export interface NewcomersLimits {
  /** Of how many agents at once. */
  atOnce: number;
  /** Who says nothing for so long counts no longer. */
  quietMs: number;
  /** Nobody is kept waiting longer. */
  mostWaitMs: number;
}

/** What of a socket counts. */
interface Newcomer {
  readonly agentId: string;
  readonly openedAtMs: number;
  readonly phase: 'greeting' | 'live' | 'closing';
}

const lookMs = 20;

export class Newcomers {
  readonly #limits: NewcomersLimits;
  readonly #ports: { clock: Clock; timers: Timers };
  readonly #sockets = new Set<Newcomer>();

  constructor(limits: NewcomersLimits, ports: { clock: Clock; timers: Timers }) {
    this.#limits = limits;
    this.#ports = ports;
  }

  /** Opens a socket as soon as one more may come; it counts until its phase is another. */
  async open<Socket extends { state: Newcomer }>(open: () => Socket): Promise<Socket> {
    const { clock, timers } = this.#ports;
    const { atOnce, mostWaitMs } = this.#limits;
    const untilMs = clock.bootMs() + mostWaitMs;
    while (this.#count() >= atOnce && clock.bootMs() < untilMs)
      await new Promise<void>((resolve) => void timers.after(lookMs, resolve));
    const socket = open();
    this.#sockets.add(socket.state);
    return socket;
  }

  /** Agents, not sockets: one that dials again and again takes nobody else's place. */
  #count(): number {
    const sinceMs = this.#ports.clock.nowMs() - this.#limits.quietMs;
    for (const socket of this.#sockets)
      if (socket.phase !== 'greeting' || socket.openedAtMs <= sinceMs) this.#sockets.delete(socket);
    return new Set([...this.#sockets].map(({ agentId }) => agentId)).size;
  }
}

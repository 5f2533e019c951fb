/** What somebody who has not proved who he is may do from one network, in the memory of this isolate. */
import { systemClock, systemTimers } from '../platform/clock.ts';
import { systemRandom } from '../platform/random.ts';
import { clientAddressOf, clientNetworkOf } from './client-address.ts';
import { Turns } from './turns.ts';

const ports = { clock: systemClock, timers: systemTimers, random: systemRandom };
const memory = { mostKeys: 10_000, mostWaiting: 1_000 };

/**
 * 300 failures at once, then 5 a second. A wait is shorter than what a stop waits for (edge/serve/drain.ts); what is held
 * longer is refused anyway, but must not outlast the patience of an agent that dials (15 s).
 */
const failures = new Turns(
  {
    ...memory,
    costMs: 200,
    burstMs: 60_000,
    waitMs: 4_000,
    holdMs: 12_000,
    detail: 'Too many failures from this address.',
  },
  ports,
);

/** Public requests, challenges among them, and addresses that do not exist: 5,000 at once, as of a herd, then 250 a second. */
const asks = new Turns(
  {
    ...memory,
    costMs: 4,
    burstMs: 20_000,
    waitMs: 4_000,
    holdMs: 4_000,
    detail: 'Too many requests from this address.',
  },
  ports,
);

/** One stranger's request. */
export class Stranger {
  readonly #network: string | undefined;
  /** Whether it was this request's turn, and whether that was charged. */
  #turn: 'free' | 'charged' | undefined;

  constructor(request: Request, layout: 'production' | 'machine') {
    this.#network = clientNetworkOf(clientAddressOf(request, layout));
  }

  /** Counts a question that nothing is proved for. @throws Refusal `request_rate_limited` */
  async ask(): Promise<void> {
    if (this.#network === undefined) return;
    // Set during the wait: what is refused here pays by it.
    this.#turn = 'charged';
    if (!(await asks.take(this.#network))) asks.charge(this.#network);
    this.#turn = undefined;
  }

  /** See `Ctx.takeTurn`. */
  async takeTurn(): Promise<void> {
    if (this.#turn !== undefined) return;
    // Set before the wait: what is refused there has paid by it.
    this.#turn = 'charged';
    if (this.#network === undefined || !(await failures.take(this.#network))) this.#turn = 'free';
  }

  /** What proves nothing costs its network, and waits for its answer as it would have for its turn. @throws Refusal as `takeTurn` */
  async payFailure(): Promise<void> {
    await this.takeTurn();
    if (this.#turn === 'free' && this.#network !== undefined) failures.charge(this.#network);
  }
}

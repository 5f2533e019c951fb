/** The screens of all terminals of the agent that are drawn now: so many at a time, who was idle longest lets go first. */
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import type { DrawnScreen, Screen, Screens } from './screens.ts';

/** Whose screen it is. */
interface Holder {
  release(): void;
}

/** A screen takes 1 to 15 MB, by its size and the colours on it. */
const maxOpen = 32;

export class ScreenPool {
  readonly #screens: Screens;
  /** Who was idle longest at the begin. */
  readonly #holders = new Set<Holder>();

  constructor(screens: Screens) {
    this.#screens = screens;
  }

  open(holder: Holder, window: TerminalWindow, drawn: DrawnScreen | undefined): Screen {
    this.used(holder);
    let over = this.#holders.size - maxOpen;
    for (const idle of this.#holders) if (over-- > 0 && idle !== holder) idle.release();
    return this.#screens.open(window, drawn);
  }

  used(holder: Holder): void {
    this.#holders.delete(holder);
    this.#holders.add(holder);
  }

  closed(holder: Holder): void {
    this.#holders.delete(holder);
  }
}

/**
 * What draws the screens of terminals: a port, since the real one is a thread of its own (`screen-thread.ts`), in which
 * hostile output can cost neither the agent's memory nor its time.
 */
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';

/** A screen as text that draws it on an empty terminal of its size. */
export interface DrawnScreen {
  window: TerminalWindow;
  text: string;
  /** It stands within a string of a control sequence that this introduced (`schema/terminal/sequences.ts`). */
  within?: number | undefined;
}

/** One screen. What it is asked for is done in order. */
export interface Screen {
  /**
   * Resolves when it was taken, with what a terminal answers to the questions in it: all, or the first few thousand bytes.
   * Nobody else may use the buffer of `bytes` from here on. @throws ScreenLost
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<string>;
  resize(window: TerminalWindow): Promise<void>;
  /** As it stands before the last `held` bytes that were written: these alone do not say yet what they are. */
  draw(): Promise<DrawnScreen & { held: number }>;
  close(): void;
}

export interface Screens {
  /** A screen as `drawn`; undefined: an empty one. */
  open(window: TerminalWindow, drawn: DrawnScreen | undefined): Screen;
}

/** What draws has died. What was drawn is gone, and can be drawn anew. */
export class ScreenLost extends Error {}

/**
 * What a client at a terminal has, over any number of streams: it takes what the agent sends (SPEC rule S18) and says what
 * is to be shown for it, and where the next stream goes on. Pure.
 */
import type { TerminalWindow } from '../api/terminal-parts.ts';
import { channels } from './frame.ts';
import type { StreamItem } from './inbox.ts';
import { parseJson } from './json.ts';
import { StreamOver } from './stream.ts';
import { TerminalEvent } from './terminal.ts';

/** How a terminal ended. */
export interface TerminalEnd {
  exitCode: number | undefined;
  signal: string | undefined;
  reason: string;
}

/** `clear`: a screen comes, for an empty place of that size. `missed`: bytes that went by unseen. `end`: behind all. */
export type Shown =
  | { kind: 'clear'; window: TerminalWindow }
  | { kind: 'bytes'; bytes: Uint8Array }
  | { kind: 'missed'; bytes: number }
  | { kind: 'end'; end: TerminalEnd };

export class TerminalReader {
  /** Undefined: nothing that can be gone on with. */
  #after: number | undefined;
  /** Bytes of the screen that is being drawn, and where the output goes on behind it. */
  #screen: { left: number; at: number } | undefined;

  /** Offset behind what was shown: what the next stream goes on behind; undefined: it begins with the screen. */
  get after(): number | undefined {
    return this.#after;
  }

  /** A stream begins. */
  begin(): void {
    this.#screen = undefined;
  }

  /** What was shown is there no more: the next stream begins with the screen. */
  forget(): void {
    this.#after = undefined;
  }

  /** What to show, if anything. @throws StreamOver `tunnel_frame_invalid` for what does not go on where it should */
  take({ channel, offset, bytes, end }: StreamItem): Shown | undefined {
    if (end) return undefined;
    if (channel === channels.control) return this.#hear(TerminalEvent.parse(parseJson(bytes)));
    if (channel === channels.stderr) return this.#draw(bytes);
    if (offset !== this.#after)
      throw broken(`Byte ${offset} of the output came where ${this.#after ?? 'a screen'} was to come.`);
    this.#after = offset + bytes.byteLength;
    return { kind: 'bytes', bytes };
  }

  #draw(bytes: Uint8Array): Shown {
    if (this.#screen === undefined || bytes.byteLength > this.#screen.left) throw broken('A screen came unannounced.');
    this.#screen.left -= bytes.byteLength;
    if (this.#screen.left === 0) this.#after = this.#screen.at;
    return { kind: 'bytes', bytes };
  }

  #hear(event: TerminalEvent): Shown | undefined {
    switch (event.kind) {
      case 'screen': {
        const { at, bytes, rows, columns } = event;
        this.#screen = { left: bytes, at };
        this.#after = bytes === 0 ? at : undefined;
        return { kind: 'clear', window: { rows, columns } };
      }
      case 'gap':
        return { kind: 'missed', bytes: event.to - event.from };
      case 'exit': {
        if (this.#after !== event.end) throw broken(`The end came at ${this.#after}, and belongs at ${event.end}.`);
        const { exitCode, signal, reason } = event;
        return { kind: 'end', end: { exitCode, signal, reason } };
      }
      case 'window':
      case 'inputEnded':
        return undefined;
    }
  }
}

function broken(detail: string): StreamOver {
  return new StreamOver({ code: 'tunnel_frame_invalid', detail });
}

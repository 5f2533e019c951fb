/**
 * One screen, drawn by xterm in this very thread. What is written is put on it up to the last place where a terminal stands
 * between two things: not within a character, a sequence, or marks that may still join. There the screen says all.
 */
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { endOfString, nextToken } from '../../schema/terminal/sequences.ts';
import { drawScreen } from './draw.ts';
import type { DrawnScreen, Screen } from './screens.ts';
import { type Core, makeTerminal, scrollbackOf, type XtermTerminal } from './xterm.ts';

/** What waits for such a place; when it does not come, any end of a character will do. */
const maxHeldBytes = 16 * 1024;
const osc = 0x5d;
const del = 0x7f;
/** What introduces SOS, PM and APC: like DEL they come between a character and its mark and xterm does not notice. */
const passedOver = new Set([0x58, 0x5e, 0x5f]);
const noBytes = new Uint8Array(0);

export class XtermScreen implements Screen {
  readonly #terminal: XtermTerminal;
  readonly #core: Core;
  #held: Uint8Array = noBytes;
  /** Within a string that this introduced. */
  #within: number | undefined;
  #answers = '';
  #drawn: Promise<void>;

  constructor(window: TerminalWindow, drawn: DrawnScreen | undefined) {
    const { terminal, core } = makeTerminal(window);
    this.#terminal = terminal;
    this.#core = core;
    this.#within = drawn?.within;
    // What it was drawn with asks nothing.
    this.#drawn = this.#put(drawn === undefined ? '' : drawn.text).then(() => {
      terminal.onData((text) => (this.#answers += text));
    });
  }

  async write(bytes: Uint8Array): Promise<string> {
    await this.#drawn;
    const all = this.#held.byteLength === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    const clean = this.#clean(all);
    this.#held = new Uint8Array(all.subarray(clean));
    if (clean > 0) await this.#put(all.subarray(0, clean));
    const answers = this.#answers;
    this.#answers = '';
    return answers;
  }

  async resize(window: TerminalWindow): Promise<void> {
    await this.#drawn;
    await this.#flush();
    this.#terminal.options.scrollback = scrollbackOf(window);
    this.#terminal.resize(window.columns, window.rows);
  }

  async draw(): Promise<DrawnScreen & { held: number }> {
    await this.#drawn;
    const { rows, cols: columns } = this.#core;
    const within = this.#within;
    // Whoever goes on from here is within a string, too; what it says draws nothing.
    const introduced = within === undefined ? '' : `\x1b${String.fromCharCode(within)}${within === osc ? '999;' : ''}`;
    return {
      window: { rows, columns },
      text: drawScreen(this.#core) + introduced,
      ...(within === undefined ? {} : { within }),
      held: this.#held.byteLength,
    };
  }

  close(): void {
    this.#terminal.dispose();
  }

  /** How many of the bytes may be put on the screen. */
  #clean(bytes: Uint8Array): number {
    let at = 0;
    let clean = 0;
    if (this.#within !== undefined) {
      const { end, complete } = endOfString(bytes, 0, this.#within);
      if (!complete) return end;
      this.#within = undefined;
      at = clean = end;
    }
    let text = clean;
    while (at < bytes.byteLength) {
      const { kind, end, complete, body, introducer } = nextToken(bytes, at);
      if (!complete) {
        if (bytes.byteLength - clean <= maxHeldBytes) return clean;
        if (introducer === undefined || body === undefined) return Math.max(clean, text);
        this.#within = introducer;
        return endOfString(bytes, body, introducer).end;
      }
      const isPassedOver = bytes[at] === del || (introducer !== undefined && passedOver.has(introducer));
      at = end;
      text = end;
      if (kind !== 'text' && kind !== 'stray' && kind !== 'aborted' && !isPassedOver) clean = end;
    }
    return bytes.byteLength - clean > maxHeldBytes ? text : clean;
  }

  /** Puts all on the screen that is a whole character. */
  async #flush(): Promise<void> {
    let at = 0;
    while (at < this.#held.byteLength) {
      const { end, complete } = nextToken(this.#held, at);
      if (!complete) break;
      at = end;
    }
    const whole = this.#held.subarray(0, at);
    this.#held = this.#held.subarray(at);
    if (at > 0) await this.#put(whole);
  }

  #put(data: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => this.#terminal.write(data, resolve));
  }
}

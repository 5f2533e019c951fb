/**
 * One screen, drawn by xterm in this very thread. What is written is put on it up to the last place where a terminal stands
 * between two things: not within a character, a sequence, or marks that may still join. There the screen says all.
 */
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { endOfString, nextToken } from '../../schema/terminal/sequences.ts';
import { drawScreen } from './draw.ts';
import type { DrawnScreen, Screen } from './screens.ts';
import { endOfText, WaitingText } from './waiting-text.ts';
import { type Core, makeTerminal, scrollbackOf, type XtermTerminal } from './xterm.ts';

/** What waits for such a place; when it does not come, any end of a character will do. */
const maxHeldBytes = 16 * 1024;
/** Whoever asks so much at once that its answers are longer reads none of them: what comes beyond is not answered. */
const maxAnswers = 4096;
const osc = 0x5d;
const del = 0x7f;
const lineFeed = 0x0a;
/** What introduces SOS, PM and APC: like DEL they come between a character and its mark and xterm does not notice. */
const passedOver = new Set([0x58, 0x5e, 0x5f]);
const noBytes = new Uint8Array(0);

export class XtermScreen implements Screen {
  readonly #terminal: XtermTerminal;
  readonly #core: Core;
  #held: Uint8Array = noBytes;
  /** It comes next on the screen. */
  readonly #waiting: WaitingText;
  /** Within a string that this introduced. */
  #within: number | undefined;
  #answers = '';
  #drawn: Promise<void>;

  /** `waitingBytes`: of text that may wait to be drawn. */
  constructor(window: TerminalWindow, drawn: DrawnScreen | undefined, waitingBytes?: number) {
    this.#waiting = new WaitingText(waitingBytes);
    const { terminal, core } = makeTerminal(window);
    this.#terminal = terminal;
    this.#core = core;
    this.#within = drawn?.within;
    // What it was drawn with asks nothing.
    this.#drawn = this.#put(drawn === undefined ? '' : drawn.text).then(() => {
      terminal.onData((text) => {
        if (this.#answers.length < maxAnswers) this.#answers += text;
      });
    });
  }

  /** What was never drawn: it would have scrolled out of what is kept. */
  get leftOutBytes(): number {
    return this.#waiting.leftOutBytes;
  }

  async write(bytes: Uint8Array): Promise<string> {
    await this.#drawn;
    const all = this.#held.byteLength === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    const text = this.#within === undefined ? endOfText(all) : 0;
    const clean = this.#clean(all, text);
    this.#held = new Uint8Array(all.subarray(clean));
    await this.#draw(all.subarray(0, clean), Math.min(text, clean));
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
    await this.#drawWaiting();
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

  /** How many of the bytes may be put on the screen. They begin with so much text. */
  #clean(bytes: Uint8Array, textBytes: number): number {
    let at = bytes.lastIndexOf(lineFeed, textBytes) + 1;
    let clean = at;
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
    await this.#drawWaiting();
    if (at > 0) await this.#put(whole);
  }

  /** They begin with so much text, which waits until what comes behind it is drawn. */
  async #draw(bytes: Uint8Array, textBytes: number): Promise<void> {
    const lines = textBytes < bytes.byteLength ? bytes.lastIndexOf(lineFeed, textBytes) + 1 : textBytes;
    if (lines > 0) this.#waiting.push(bytes.subarray(0, lines));
    if (this.#waiting.isFull) await this.#scroll();
    if (lines === bytes.byteLength) return;
    await this.#drawWaiting();
    await this.#put(bytes.subarray(lines));
  }

  async #drawWaiting(): Promise<void> {
    if (!this.#waiting.isEmpty) await this.#put(this.#waiting.take());
  }

  /** Leaves out what nobody could see once all is drawn that waits. */
  async #scroll(): Promise<void> {
    const { rows, cols: columns } = this.#core;
    const { normal, active } = this.#core._bufferService.buffers;
    const isWhole = active.scrollTop === 0 && active.scrollBottom === rows - 1;
    const above = active === normal ? scrollbackOf({ rows, columns }) : 0;
    const pen = isWhole ? this.#waiting.scroll(above + rows) : undefined;
    if (pen === undefined) return this.#drawWaiting();
    await this.#put(Buffer.concat([pen, Buffer.from(`\r${'\n'.repeat(rows)}`)]));
  }

  #put(data: Uint8Array | string): Promise<void> {
    // What follows a key press xterm draws at once, and not after a timer.
    this.#terminal.input('', true);
    return new Promise((resolve) => this.#terminal.write(data, resolve));
  }
}

/**
 * The package @xterm/headless, and what of its inside is needed to draw a screen exactly as it is: names that its version
 * pinned in package.json has, and that `test/agent-daemon/terminals` checks by redrawing.
 */
import * as xterm from '@xterm/headless';
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { joinedWidth, widthOf } from './width.ts';

export type XtermTerminal = xterm.Terminal;

/** CommonJS of which Node does not see the names. */
const { Terminal } = (xterm as unknown as { default: typeof xterm }).default;

/** Colours and flags of a cell, or of what is written next. */
export interface Attributes {
  isBold(): number;
  isDim(): number;
  isItalic(): number;
  isBlink(): number;
  isInverse(): number;
  isInvisible(): number;
  isStrikethrough(): number;
  isOverline(): number;
  isProtected(): number;
  getUnderlineStyle(): number;
  isUnderline(): number;
  isUnderlineColorDefault(): boolean;
  isUnderlineColorRGB(): boolean;
  getUnderlineColor(): number;
  isFgRGB(): boolean;
  isFgPalette(): boolean;
  getFgColor(): number;
  isBgRGB(): boolean;
  isBgPalette(): boolean;
  getBgColor(): number;
}

export interface Cell extends Attributes {
  getWidth(): number;
  getChars(): string;
}

type Charset = Readonly<Record<string, string>> | undefined;

interface Line {
  readonly length: number;
  readonly isWrapped: boolean;
  /** Three numbers a cell: its character and width, and what it looks like. */
  readonly _data: Uint32Array;
  loadCell(column: number, into: Cell): Cell;
}

/** Bits of a cell's numbers: its character, that there are several, where its width begins; an underline of its own. */
const character = 0x1f_ffff;
const isCombined = 0x20_0000;
const widthShift = 22;
const hasExtended = 0x1000_0000;

/** The narrow characters behind the one at `column` of `line` that look like it, each of one UTF-16 unit. */
export function likeItBehind(line: Line, column: number, columns: number): string {
  const { _data: data } = line;
  const fg = data[column * 3 + 1]!;
  const bg = data[column * 3 + 2]!;
  const codes: number[] = [];
  if ((bg & hasExtended) !== 0) return '';
  for (let next = column + 1; next < columns; next++) {
    const content = data[next * 3]!;
    const code = content & character;
    if (content >> widthShift !== 1 || (content & isCombined) !== 0 || code === 0 || code > 0xffff) break;
    if (data[next * 3 + 1] !== fg || data[next * 3 + 2] !== bg) break;
    codes.push(code);
  }
  return String.fromCharCode(...codes);
}

/** One of the two screens of a terminal. */
export interface Buffer {
  readonly lines: { readonly length: number; get(index: number): Line | undefined };
  readonly ybase: number;
  readonly x: number;
  readonly y: number;
  readonly scrollTop: number;
  readonly scrollBottom: number;
  readonly savedX: number;
  readonly savedY: number;
  readonly savedCurAttrData: Attributes;
  readonly savedCharset: Charset;
  readonly tabs: Readonly<Record<number, boolean | undefined>>;
  getNullCell(): Cell;
}

/** The inside of a terminal. */
export interface Core {
  readonly rows: number;
  readonly cols: number;
  readonly options: { convertEol: boolean };
  readonly _bufferService: { readonly buffers: { normal: Buffer; alt: Buffer; active: Buffer } };
  readonly _charsetService: {
    readonly glevel: number;
    readonly charset: Charset;
    readonly _charsets: readonly Charset[];
  };
  readonly coreService: {
    readonly isCursorHidden: boolean;
    readonly modes: { readonly insertMode: boolean };
    readonly decPrivateModes: {
      readonly applicationCursorKeys: boolean;
      readonly applicationKeypad: boolean;
      readonly bracketedPasteMode: boolean;
      readonly cursorBlink?: boolean | undefined;
      readonly cursorStyle?: 'block' | 'underline' | 'bar' | undefined;
      readonly origin: boolean;
      readonly reverseWraparound: boolean;
      readonly sendFocus: boolean;
      readonly synchronizedOutput?: boolean;
      readonly wraparound: boolean;
    };
  };
  readonly coreMouseService: { readonly activeProtocol: string; readonly activeEncoding: string };
  readonly _inputHandler: { readonly _curAttrData: Attributes };
}

/** Lines above the screen that are kept of it, for a scroll-back of the client's own; fewer where lines are long. */
const maxScrollback = 1000;
const maxScrollbackCells = 160_000;

export function scrollbackOf({ columns }: TerminalWindow): number {
  return Math.min(maxScrollback, Math.floor(maxScrollbackCells / columns));
}

export function makeTerminal(window: TerminalWindow): { terminal: XtermTerminal; core: Core } {
  const terminal = new Terminal({
    rows: window.rows,
    cols: window.columns,
    scrollback: scrollbackOf(window),
    allowProposedApi: true,
    logLevel: 'off',
    // Operations on the window of which the answer may be of use; a title is not given back.
    windowOptions: { getWinSizeChars: true },
  });
  terminal.unicode.register({ version: 'causeway', wcwidth: widthOf, charProperties: joinedWidth });
  terminal.unicode.activeVersion = 'causeway';
  // Links are the viewer's: here they would be underlines.
  terminal.parser.registerOscHandler(8, () => true);
  return { terminal, core: (terminal as unknown as { _core: Core })._core };
}

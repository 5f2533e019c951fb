/**
 * A screen as text that makes the same screen of an empty terminal of its size: cells with all that they look like, both
 * screens, scroll-back, cursor, margins, tabs, what is saved, charsets and modes. Links and titles are not part of it. Pure.
 */
import { type Attributes, type Buffer, type Cell, type Core, likeItBehind } from './xterm.ts';

/** Of text: without scroll-back where it would be more. */
const maxDrawnCharacters = 1024 * 1024;

/** The whole screen, with as much of the scroll-back as fits. */
export function drawScreen(core: Core): string {
  const { normal } = core._bufferService.buffers;
  for (let above = normal.ybase; above > 0; above = Math.floor(above / 4)) {
    const text = drawWith(core, above);
    if (text.length <= maxDrawnCharacters) return text;
  }
  return drawWith(core, 0);
}

function drawWith(core: Core, above: number): string {
  const { normal, alt, active } = core._bufferService.buffers;
  const parts = [drawLines(core, normal, above), drawBuffer(core, normal)];
  if (active === alt) {
    // The cursor goes along, and what is saved stays.
    parts.push(moveTo(core, normal, 0), '\x1b[m\x1b[?1047h', drawRows(core, alt), drawBuffer(core, alt));
  }
  parts.push(drawEnd(core, active));
  return parts.join('');
}

// ---- cells ----

/** The lines of the screen and `above` it, one after the other: those above scroll away. */
function drawLines(core: Core, buffer: Buffer, above: number): string {
  const from = buffer.ybase - above;
  const to = buffer.ybase + core.rows;
  let text = '';
  let isDirty = false;
  for (let row = from; row < to; row++) {
    const line = drawLine(core, buffer, row, isDirty);
    text += line.text;
    if (row + 1 === to) break;
    // A line that was made by wrapping is wrapped again, if it can be.
    const first = buffer.lines.get(row + 1)?.loadCell(0, buffer.getNullCell());
    const wraps = buffer.lines.get(row + 1)?.isWrapped === true && line.isFull && isNarrow(first);
    isDirty = wraps && first !== undefined && backgroundOf(first) !== '';
    text += wraps ? '' : '\x1b[m\r\n';
  }
  return text;
}

/** The rows of a screen without scroll-back. */
function drawRows(core: Core, buffer: Buffer): string {
  let text = '';
  for (let row = 0; row < core.rows; row++)
    text += `\x1b[${row + 1}H${drawLine(core, buffer, buffer.ybase + row, false).text}`;
  return `${text}\x1b[m`;
}

/** A wide character wraps with a free cell before it, which is not full. */
function isNarrow(cell: Cell | undefined): boolean {
  return cell !== undefined && cell.getChars() !== '' && cell.getWidth() === 1;
}

/**
 * One line from its first cell on. `isDirty`: what is not written has a background. It is full when its last cell is written,
 * so that the next character wraps.
 */
function drawLine(core: Core, buffer: Buffer, row: number, isDirty: boolean): { text: string; isFull: boolean } {
  const line = buffer.lines.get(row);
  let text = '';
  // Whatever stood before, the first cell says what it looks like.
  let style: string | undefined;
  let empty = 0;
  let emptyStyle = '';
  const wear = (next: string) => {
    if (next !== style) text += `\x1b[0${next}m`;
    style = next;
  };
  const skip = (isLast: boolean) => {
    if (empty === 0) return;
    if (emptyStyle !== '' || isDirty) {
      wear(emptyStyle);
      text += isLast ? '\x1b[K' : `\x1b[${empty}X`;
    }
    if (!isLast) text += `\x1b[${empty}C`;
    empty = 0;
  };
  let isFull = false;
  let isWide = false;
  let isProtected = false;
  for (let column = 0; column < core.cols; column++) {
    const cell = line?.loadCell(column, buffer.getNullCell());
    if (cell === undefined) break;
    // A wide character of which a smaller window cut off the half is not there.
    const isCut = cell.getWidth() === 2 && column + 1 === core.cols;
    const chars = isCut ? '' : cell.getChars();
    if (chars === '') {
      // The second half of a wide character comes with it.
      if (cell.getWidth() === 0 && isWide) {
        isWide = false;
        continue;
      }
      const background = backgroundOf(cell);
      if (background !== emptyStyle) skip(false);
      emptyStyle = background;
      empty++;
      isFull = false;
      isWide = false;
      continue;
    }
    skip(false);
    wear(styleOf(cell));
    if ((cell.isProtected() !== 0) !== isProtected) {
      isProtected = !isProtected;
      text += isProtected ? '\x1b[1"q' : '\x1b[0"q';
    } else if (cell.getWidth() === 0) text += `\x1b[0${style ?? ''}m`;
    text += chars;
    isFull = true;
    isWide = cell.getWidth() === 2;
    if (isWide || line === undefined) continue;
    const more = likeItBehind(line, column, core.cols);
    text += more;
    column += more.length;
  }
  skip(true);
  if (isProtected) text += '\x1b[0"q';
  return { text, isFull };
}

/** Parameters of SGR behind the reset, each with its `;`. */
function styleOf(cell: Attributes): string {
  let style = '';
  if (cell.isBold() !== 0) style += ';1';
  if (cell.isDim() !== 0) style += ';2';
  if (cell.isItalic() !== 0) style += ';3';
  if (cell.isUnderline() !== 0) style += underlineOf(cell);
  if (cell.isBlink() !== 0) style += ';5';
  if (cell.isInverse() !== 0) style += ';7';
  if (cell.isInvisible() !== 0) style += ';8';
  if (cell.isStrikethrough() !== 0) style += ';9';
  if (cell.isOverline() !== 0) style += ';53';
  return style + foregroundOf(cell) + backgroundOf(cell);
}

function underlineOf(cell: Attributes): string {
  const style = cell.getUnderlineStyle();
  const shape = style <= 1 ? ';4' : `;4:${style}`;
  if (cell.isUnderlineColorDefault()) return shape;
  const colour = cell.getUnderlineColor();
  return `${shape};58${cell.isUnderlineColorRGB() ? `:2::${rgb(colour, ':')}` : `:5:${colour}`}`;
}

function foregroundOf(cell: Attributes): string {
  const colour = cell.getFgColor();
  if (cell.isFgRGB()) return `;38;2;${rgb(colour, ';')}`;
  if (!cell.isFgPalette()) return '';
  if (colour >= 16) return `;38;5;${colour}`;
  return `;${colour < 8 ? 30 + colour : 82 + colour}`;
}

function backgroundOf(cell: Attributes): string {
  const colour = cell.getBgColor();
  if (cell.isBgRGB()) return `;48;2;${rgb(colour, ';')}`;
  if (!cell.isBgPalette()) return '';
  if (colour >= 16) return `;48;5;${colour}`;
  return `;${colour < 8 ? 40 + colour : 92 + colour}`;
}

function rgb(colour: number, between: string): string {
  return [(colour >> 16) & 255, (colour >> 8) & 255, colour & 255].join(between);
}

// ---- what each screen has for itself ----

/** Tabs, what is saved, and last the margins: they take the cursor home. */
function drawBuffer(core: Core, buffer: Buffer): string {
  return drawTabs(core, buffer) + drawSaved(core, buffer) + drawMargins(core, buffer);
}

function drawTabs(core: Core, { tabs }: Buffer): string {
  const columns = Array.from({ length: core.cols }, (_, column) => column);
  if (columns.every((column) => (tabs[column] === true) === (column % 8 === 0))) return '';
  const set = columns.filter((column) => tabs[column] === true).map((column) => `\x1b[${column + 1}G\x1bH`);
  return `\x1b[3g${set.join('')}`;
}

function drawSaved(core: Core, buffer: Buffer): string {
  const { savedX, savedY, savedCurAttrData, savedCharset, ybase } = buffer;
  const style = styleOf(savedCurAttrData);
  const charset = letterOf(savedCharset);
  if (savedX === 0 && savedY <= ybase && style === '' && charset === 'B') return '';
  // Saved in a window that was larger: where it is brought back to.
  const row = Math.min(Math.max(0, savedY - ybase), core.rows - 1);
  const place = placeAt(core, buffer, savedX, row, 0);
  const designated = charset === 'B' ? ['', ''] : [`\x1b(${charset}`, '\x1b(B'];
  return `${place}\x1b[0${style}m${designated[0]}\x1b7${designated[1]}\x1b[m`;
}

function drawMargins(core: Core, { scrollTop, scrollBottom }: Buffer): string {
  return scrollTop === 0 && scrollBottom === core.rows - 1 ? '' : `\x1b[${scrollTop + 1};${scrollBottom + 1}r`;
}

/** `top`: of the rows that the cursor is counted from. */
function moveTo(core: Core, buffer: Buffer, top: number): string {
  return placeAt(core, buffer, buffer.x, buffer.y, top);
}

/** Behind the last column: only by writing its cell again. */
function placeAt(core: Core, buffer: Buffer, x: number, y: number, top: number): string {
  const to = (column: number) => `\x1b[${y - top + 1};${column + 1}H`;
  if (x < core.cols) return to(x);
  const line = buffer.lines.get(buffer.ybase + y);
  const load = (column: number) => line?.loadCell(column, buffer.getNullCell());
  let column = core.cols - 1;
  if (load(column)?.getWidth() === 0 && load(column)?.getChars() === '' && load(column - 1)?.getWidth() === 2) column--;
  const cell = load(column);
  const chars = cell === undefined || cell.getChars() === '' ? ' ' : cell.getChars();
  return `${to(column)}\x1b[0${cell === undefined ? '' : styleOf(cell)}m${chars}`;
}

// ---- what the terminal has ----

/** The cursor, what is written next looks like, and modes, in an order in which none undoes another. */
function drawEnd(core: Core, active: Buffer): string {
  const { modes, decPrivateModes: decModes, isCursorHidden } = core.coreService;
  const { _curAttrData: pen } = core._inputHandler;
  const parts = [
    decModes.origin ? '\x1b[?6h' : '',
    moveTo(core, active, decModes.origin ? active.scrollTop : 0),
    drawCharsets(core),
    `\x1b[0${styleOf(pen)}m`,
    pen.isProtected() !== 0 ? '\x1b[1"q' : '',
    decModes.applicationCursorKeys ? '\x1b[?1h' : '',
    decModes.applicationKeypad ? '\x1b=' : '',
    decModes.bracketedPasteMode ? '\x1b[?2004h' : '',
    decModes.reverseWraparound ? '\x1b[?45h' : '',
    decModes.sendFocus ? '\x1b[?1004h' : '',
    decModes.wraparound ? '' : '\x1b[?7l',
    modes.insertMode ? '\x1b[4h' : '',
    core.options.convertEol ? '\x1b[20h' : '',
    mouseModes[core.coreMouseService.activeProtocol] ?? '',
    mouseEncodings[core.coreMouseService.activeEncoding] ?? '',
    cursorShape(decModes),
    isCursorHidden ? '\x1b[?25l' : '',
    decModes.synchronizedOutput === true ? '\x1b[?2026h' : '',
  ];
  return parts.join('');
}

const mouseModes: Record<string, string> = {
  X10: '\x1b[?9h',
  VT200: '\x1b[?1000h',
  DRAG: '\x1b[?1002h',
  ANY: '\x1b[?1003h',
};
const mouseEncodings: Record<string, string> = { SGR: '\x1b[?1006h', SGR_PIXELS: '\x1b[?1016h' };

function cursorShape({ cursorStyle, cursorBlink }: Core['coreService']['decPrivateModes']): string {
  if (cursorStyle === undefined) return '';
  const shape = { block: 1, underline: 3, bar: 5 }[cursorStyle];
  return `\x1b[${cursorBlink === false ? shape + 1 : shape} q`;
}

function drawCharsets({ _charsetService: { glevel, _charsets: charsets } }: Core): string {
  const designators = ['(', ')', '*', '+'];
  const shifts = ['', '\x0e', '\x1bn', '\x1bo'];
  const designated = designators.map((designator, level) => {
    const letter = letterOf(charsets[level]);
    return letter === 'B' ? '' : `\x1b${designator}${letter}`;
  });
  return designated.join('') + (shifts[glevel] ?? '');
}

/** The two that anybody uses beside ASCII: lines, and the pound sign of the United Kingdom. */
function letterOf(charset: Readonly<Record<string, string>> | undefined): '0' | 'A' | 'B' {
  if (charset?.['q'] === '─') return '0';
  return charset?.['#'] === '£' && charset['q'] === undefined ? 'A' : 'B';
}

/** Gives this terminal back as it was, whatever a program of a session has set it to. */

/** Attributes, charset, margins, origin, insert, wrapping, keys, cursor, mouse, focus, paste, and what reports by itself. */
const plainModes =
  '\x1b[0m\x1b(B\x0f\x1b[r\x1b[?6l\x1b[?69l\x1b[4l\x1b[20l\x1b[?7h\x1b[?1l\x1b>\x1b[?25h\x1b[0 q\x1b[?5l\x1b[?45l' +
  '\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?1007h' +
  '\x1b[?2004l\x1b[?2026l\x1b[?2027l\x1b[?2031l\x1b[?2048l\x1b[>4m\x1b[<99u\x1b]8;;\x1b\\';
const normalScreen = '\x1b[?1047l';

/** An empty screen with nothing set. `keep`: what stands there moves into the scroll-back first. */
export function emptyScreen(rows: number, { keep }: { keep: boolean }): string {
  return `${normalScreen}${plainModes}${keep ? `\x1b[999;1H${'\n'.repeat(rows)}` : ''}\x1b[H\x1b[2J`;
}

/** Nothing set, below what stands there. */
export const leftScreen = `${normalScreen}${plainModes}\x1b[999;1H\r\n`;

/** One line over the last row. */
export function lastLine(text: string): string {
  return `\x1b[0m\x1b[999;1H\x1b[7m${text}\x1b[0m\x1b[K`;
}

/** Tables, quantities and times for people. Data goes to stdout; talk goes to stderr. */

const between = '   ';
/** A column is not made narrower than this. */
const leastColumns = 6;

/**
 * Writes rows under upper-case headings, columns padded; the last column is not. On a terminal a table is never wider than
 * it: columns named in `spare` are left out, in this order, then the widest are cut. Elsewhere everything is written.
 */
export function printTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  { spare = [] }: { spare?: readonly string[] } = {},
): void {
  const columns = process.stdout.isTTY ? process.stdout.columns || 80 : Number.POSITIVE_INFINITY;
  for (const line of tableLines(headings, rows, spare, columns)) process.stdout.write(`${line}\n`);
}

/** The lines of a table that is at most `columns` wide, if that can be. Pure. */
export function tableLines(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  spare: readonly string[],
  columns: number,
): string[] {
  const all = [headings, ...rows].map((row) => row.map((cell) => cell.replaceAll(/[\n\t]/g, ' ')));
  const natural = headings.map((_, column) => Math.max(...all.map((row) => width(row[column] ?? ''))));
  const kept = headings.map((_, column) => column);
  const total = () => kept.reduce((sum, column) => sum + natural[column]! + between.length, -between.length);
  for (const name of spare) {
    const at = kept.indexOf(headings.indexOf(name));
    if (total() > columns && at >= 0) kept.splice(at, 1);
  }
  const widths = [...natural];
  for (let excess = total() - columns; excess > 0;) {
    const widest = kept.reduce((best, column) => (widths[column]! > widths[best]! ? column : best));
    const next = Math.max(leastColumns, widths[widest]! - excess);
    if (next === widths[widest]) break;
    excess -= widths[widest]! - next;
    widths[widest] = next;
  }
  return all.map((row) =>
    kept
      .map((column) => fitted(row[column] ?? '', widths[column]!))
      .join(between)
      .trimEnd(),
  );
}

/** `text`, cut with an ellipsis or padded, in exactly `columns`. */
function fitted(text: string, columns: number): string {
  if (width(text) <= columns) return text + ' '.repeat(columns - width(text));
  return `${text.replaceAll(colourCodes, '').slice(0, columns - 1)}…`;
}

const colourCodes = /\x1b\[[0-9;]*m/g;
/** Columns that `text` takes, colours not counted. */
function width(text: string): number {
  return text.replace(colourCodes, '').length;
}

const colours = { red: 31, green: 32, yellow: 33, blue: 34, grey: 90, bold: 1 } as const;
/** Colours `text` when stdout is a terminal and NO_COLOR is not set. */
export function paint(colour: keyof typeof colours, text: string): string {
  return process.stdout.isTTY && !process.env['NO_COLOR'] ? `\x1b[${colours[colour]}m${text}\x1b[0m` : text;
}

/** Makes text from others safe for a terminal: control characters are shown, not obeyed. */
export function plain(text: string): string {
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, (each) => {
    return `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** `1536 MiB` style: binary units, three significant digits. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toPrecision(3)} ${units[unit]}`;
}

/** `cpu 2, mem 4 GiB` of integer base units. */
export function slotsText(slots: Record<string, number>): string {
  const parts = Object.entries(slots).map(([name, value]) => {
    if (name === 'cpu') return `cpu ${value / 1000}`;
    if (name === 'mem' || name === 'disk') return `${name} ${bytesText(value)}`;
    return `${name} ${value}`;
  });
  return parts.join(', ') || '-';
}

/** `5s`, `3m`, `2h`, `4d`: how long ago, or how long. */
export function durationText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)}h`;
  return `${Math.round(seconds / 86_400)}d`;
}

/** The table of speeds as text and as a document. */
import type { Machine } from './machine.ts';
import type { Result, Row } from './row.ts';

const columns = ['row', 'subject', 'peer', 'floor', 'ratio', 'goal', 'pass'] as const;

/** The results as aligned columns for a terminal. */
export function toText(results: readonly Result[]): string {
  const rows = [[...columns], ...results.map(cells)];
  const widths = columns.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Ends what is written by machine; people write below. */
const endOfTable = '<!-- written by people from here on -->';

/** `docs/benchmarks.md`: what was measured, on what, with what result; what people wrote below it in `before` stays. */
export function toDocument(
  { rows, results, rounds }: { rows: readonly Row[]; results: readonly Result[]; rounds: number },
  machine: Machine,
  before: string,
): string {
  const byName = new Map(rows.map((row) => [row.name, row]));
  const table = results.map((result) => `| ${[...cells(result), ''].join(' | ')}`.trimEnd());
  const legend = results.map(({ row, error }) => {
    const { title, peer, floor } = byName.get(row)!;
    const beside = floor === undefined ? '' : ` Floor: ${floor}.`;
    return `- **${row}**: ${title}. Peer: ${peer}.${beside}${error === undefined ? '' : ` Trouble: ${error}.`}`;
  });
  return `# Benchmarks

Written by \`npm run bench -- all --write\` as far as the end of the table. Each figure is the median of ${rounds} rounds; subject and
peer take turns in every round on the same machine, and \`ratio\` is the median of the rounds' ratios (a difference where the
goal has a plus, the value itself where it has a unit). Absolute figures are worth little elsewhere, ratios more.

${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB; ${machine.system}, Linux ${machine.kernel}; Node ${machine.node},
workerd ${machine.workerd}, ${machine.engine}. Commit ${machine.commit}, ${machine.date}; load average before the run ${machine.load}.

| ${columns.join(' | ')} |
|${columns.map(() => '---').join('|')}|
${table.join('\n')}

${legend.join('\n')}

${endOfTable}
${before.split(endOfTable)[1]?.trimStart() ?? ''}`;
}

function cells({ row, subject, peer, floor, ratio, goal, pass, unit }: Result): string[] {
  const withUnit = (value: number | null): string => (value === null ? '-' : `${digits(value)} ${unit}`);
  const verdict = pass === null ? 'not run' : pass ? 'yes' : 'NO';
  return [row, withUnit(subject), withUnit(peer), withUnit(floor), ratio === null ? '-' : digits(ratio), goal, verdict];
}

function digits(value: number): string {
  const places = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return value.toFixed(places);
}

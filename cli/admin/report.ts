/** What was put right, in words. */
import type { RebuildReport } from '../../schema/api/recovery.ts';
import { plain } from '../terminal/table.ts';

/** One line for each kind of thing that was, or would be, put right; one line when there is nothing. */
export function mendedLines({ readModel, ledgers, admission }: RebuildReport): string[] {
  const counted: [string, number][] = [
    ['sessions that a ledger had lost, taken from the read model', ledgers.recalled],
    ['sessions listed anew', readModel.written],
    ['listed sessions of which nobody knows, shown as ended', readModel.closed],
    ['live sessions that got their name and quota back', admission.claimed],
    ['names of sessions that are over, given back', admission.released],
  ];
  const lines = ledgers.begun.map((group) => `the ledger of ${plain(group)} had lost everything and began anew`);
  for (const [what, count] of counted) if (count > 0) lines.push(`${what}: ${count}`);
  for (const { projectId, live, waiting } of admission.projects)
    lines.push(
      `${plain(projectId)} holds ${live.after} sessions, not ${live.before}; ${waiting.after} wait for quota, not ${waiting.before}`,
    );
  return lines.length > 0 ? lines : ['ledgers, names, quota and the read model agree'];
}

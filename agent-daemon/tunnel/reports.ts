/** When a report travels (SPEC rule M10): on a change of 5 % or of health, at most one a minute; else every 15 minutes. Pure. */
import type { Report, Slots } from '../../schema/protocol/messages.ts';

const leastMs = 60_000;
const mostMs = 900_000;
const changedShare = 0.05;

/** @param sent the last report sent on this socket and when, if any; times on the boot clock */
export function isReportDue(
  sent: { report: Report; atMs: number } | undefined,
  report: Report,
  capacity: Slots,
  nowMs: number,
): boolean {
  if (!sent) return true;
  const ageMs = nowMs - sent.atMs;
  if (ageMs >= mostMs) return true;
  return ageMs >= leastMs && isChanged(sent.report, report, capacity);
}

function isChanged(before: Report, now: Report, capacity: Slots): boolean {
  if (before.health !== now.health || before.sessions !== now.sessions) return true;
  if (before.problems.map((each) => each.code).join() !== now.problems.map((each) => each.code).join()) return true;
  return Object.keys({ ...before.used, ...now.used }).some((slot) => {
    const change = Math.abs((now.used[slot] ?? 0) - (before.used[slot] ?? 0));
    return change > 0 && change >= (capacity[slot] ?? 0) * changedShare;
  });
}

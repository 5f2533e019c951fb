/** Times as they are typed where lines are chosen by them: so long ago, or a date of RFC 3339. Pure. */
const second = 1000;
const units = { s: second, m: 60 * second, h: 3600 * second, d: 86_400 * second } as const;

const agoPattern = /^([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])$/;
const datePattern =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}(?:\.[0-9]{1,9})?))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))?)?$/;
/** From the first day of the year 1 to that of 1970. */
const daysBeforeUnix = 719_162;

/** True for what counts from now, as `10m` does: it means another time a moment later. */
export function isAgo(text: string): boolean {
  return agoPattern.test(text);
}

/** A time as Unix ms; a date without a zone is UTC. Undefined when it is none. */
export function whenMs(text: string, nowMs: number): number | undefined {
  const [, amount, unit] = agoPattern.exec(text) ?? [];
  if (amount !== undefined && unit !== undefined)
    return Math.max(0, Math.round(nowMs - Number(amount) * units[unit as keyof typeof units]));
  const [, year, month, day, hour = 0, minute = 0, seconds = 0, sign, hoursAhead = 0, minutesAhead = 0] =
    datePattern.exec(text) ?? [];
  const days = daysSinceUnix(Number(year), Number(month), Number(day));
  if (days === undefined || Number(hour) > 23 || Number(minute) > 59 || Number(seconds) >= 60) return undefined;
  const ofDayMs = (Number(hour) * 3600 + Number(minute) * 60 + Number(seconds)) * second;
  const aheadMs = (Number(hoursAhead) * 3600 + Number(minutesAhead) * 60) * second * (sign === '-' ? -1 : 1);
  return Math.max(0, Math.floor(days * units.d + ofDayMs - aheadMs));
}

/** Undefined for a day that no month has. */
function daysSinceUnix(year: number, month: number, day: number): number | undefined {
  const isLeap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
  if (!(day >= 1 && day <= (lengths[month - 1] ?? 0))) return undefined;
  const years = year - 1;
  const leaps = Math.floor(years / 4) - Math.floor(years / 100) + Math.floor(years / 400);
  const inYear = lengths.slice(0, month - 1).reduce((sum, length) => sum + length, 0) + day - 1;
  return years * 365 + leaps + inYear - daysBeforeUnix;
}

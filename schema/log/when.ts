/** Times as they are typed where lines are chosen by them: so long ago, or a date of RFC 3339. Pure. */
const second = 1000;
const units = { s: second, m: 60 * second, h: 3600 * second, d: 86_400 * second } as const;

const agoPattern = /^([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])$/;
const datePattern =
  /^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?)?$/;

/** True for what counts from now, as `10m` does: it means another time a moment later. */
export function isAgo(text: string): boolean {
  return agoPattern.test(text);
}

/** A time as Unix ms; a date without a zone is UTC. Undefined when it is none. */
export function whenMs(text: string, nowMs: number): number | undefined {
  const [, amount, unit] = agoPattern.exec(text) ?? [];
  if (amount !== undefined && unit !== undefined)
    return Math.max(0, Math.round(nowMs - Number(amount) * units[unit as keyof typeof units]));
  if (!datePattern.test(text)) return undefined;
  const iso = text.toUpperCase().replace(' ', 'T');
  const zoned = iso.includes('T') && !/(?:Z|[+-][0-9]{2}:[0-9]{2})$/.test(iso) ? `${iso}Z` : iso;
  const atMs = Date.parse(zoned);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs);
}

/** Options as people type them: each refusal names the option, says what it takes and shows one that works. */
import { CliFailure, exitStatus } from './exit.ts';
import { plain } from './terminal/table.ts';

/** The failure for a value that `option` does not take. */
export function refuseOption(option: string, value: string, takes: string, example: string): CliFailure {
  return new CliFailure(`${option} ${plain(value.slice(0, 100))}: ${takes}`, {
    status: exitStatus.usage,
    hint: `${option} ${example}`,
  });
}

/** A whole number from `least` to `most`. @throws CliFailure */
export function wholeNumber(option: string, text: string, [least, most]: readonly [number, number]): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
  throw refuseOption(option, text, `must be a whole number ${range}`, String(Math.max(least, Math.min(most, 100))));
}

const seconds = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
/** `90`, `90s`, `15m`, `1h`, `2d` in seconds, from `least` to `most` seconds. @throws CliFailure */
export function durationSeconds(option: string, text: string, [least, most]: readonly [number, number]): number {
  const [, digits, unit = 's'] = /^([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])?$/.exec(text) ?? [];
  const value = digits === undefined ? Number.NaN : Number(digits) * seconds[unit as keyof typeof seconds];
  if (value >= least && value <= most) return value;
  const range = Number.isNaN(value) ? '' : ` of ${least} to ${most} seconds`;
  throw refuseOption(option, text, `must be a time${range}: a number of seconds, or 90s, 15m, 1h`, '15m');
}

/** One of `words`. @throws CliFailure */
export function oneOf<Word extends string>(option: string, text: string, words: readonly Word[]): Word {
  const found = words.find((word) => word === text);
  if (found !== undefined) return found;
  throw refuseOption(option, text, `must be ${words.slice(0, -1).join(', ')} or ${words.at(-1)}`, words[0]!);
}

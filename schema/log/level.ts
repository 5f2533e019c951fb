/**
 * How bad is a line of a log? A guess from the forms that are common (JSON and logfmt fields, `[ERROR]`, `WARNING:`, klog,
 * a word in capitals behind a time). Undefined where none fits: most programs print results, not logs. Pure.
 */

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Characters that are looked at. */
const headCharacters = 512;

const words: Readonly<Record<string, LogLevel>> = {
  trace: 'debug',
  verbose: 'debug',
  debug: 'debug',
  info: 'info',
  information: 'info',
  notice: 'info',
  warn: 'warn',
  warning: 'warn',
  err: 'error',
  error: 'error',
  severe: 'error',
  crit: 'error',
  critical: 'error',
  alert: 'error',
  emerg: 'error',
  emergency: 'error',
  fatal: 'error',
  panic: 'error',
};
const klog: Readonly<Record<string, LogLevel>> = { I: 'info', W: 'warn', E: 'error', F: 'error' };

const inJson = /"(?:level|severity|loglevel|levelname|lvl)"\s{0,4}:\s{0,4}(?:"([A-Za-z]{3,11})"|([0-9]{2}))/;
const inLogfmt = /(?:^|\s)(?:level|lvl|severity)=("?)([A-Za-z]{3,11})\1(?:\s|$)/;
const inKlog = /^([IWEF])[0-9]{4} [0-9]{2}:[0-9]{2}:/;
const inBrackets =
  /\[\s{0,4}(trace|verbose|debug|info|notice|warn|warning|err|error|severe|crit|critical|alert|emerg|fatal|panic)\s{0,4}\]/i;
const beforeColon = /^([A-Za-z]{3,11})(?::|\s-\s)/;
const behindTime =
  /^[[(]?[0-9]{2,4}[-/:.][0-9TZ:.,+/-]{1,30}(?: [0-9:.,+-]{1,20})?[\s|\])-]{1,8}([A-Z]{3,11})(?:[^A-Za-z]|$)/;

/** The level that `text` seems to have. */
export function levelOf(text: string): LogLevel | undefined {
  const head = text.slice(0, headCharacters);
  if (head.startsWith('{')) {
    const [, word, number] = inJson.exec(head) ?? [];
    return word === undefined ? ofNumber(number) : ofWord(word);
  }
  const letter = inKlog.exec(head)?.[1];
  if (letter !== undefined) return klog[letter];
  if (head.startsWith('Traceback (most recent call last)')) return 'error';
  return (
    ofWord(inLogfmt.exec(head)?.[2]) ??
    ofWord(inBrackets.exec(head)?.[1]) ??
    ofWord(behindTime.exec(head)?.[1]) ??
    ofWord(beforeColon.exec(head)?.[1])
  );
}

function ofWord(word: string | undefined): LogLevel | undefined {
  const small = word?.toLowerCase();
  return small !== undefined && Object.hasOwn(words, small) ? words[small] : undefined;
}

/** Numbers as bunyan and pino write them. */
function ofNumber(digits: string | undefined): LogLevel | undefined {
  if (digits === undefined) return undefined;
  const number = Number(digits);
  if (number >= 50) return 'error';
  if (number >= 40) return 'warn';
  return number >= 30 ? 'info' : 'debug';
}

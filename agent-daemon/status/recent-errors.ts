/** The last warnings and errors of the log, for whoever asks how the agent is. In memory alone: the log itself is elsewhere. */
import type { Clock, Log } from '../../schema/ports.ts';
import type { RecentError } from '../../schema/protocol/diagnosis.ts';

const mostKept = 20;
const mostCharacters = 400;

export class RecentErrors {
  /** The log that is to be written to from now on. */
  readonly log: Log;
  readonly #kept: RecentError[] = [];

  constructor(log: Log, clock: Pick<Clock, 'nowMs'>) {
    const keep = (level: RecentError['level'], message: string, fields: Record<string, unknown> = {}): void => {
      const rest = Object.entries(fields).map(([name, value]) => `${name}=${textOf(value)}`);
      const text = [message, ...rest].join('  ').slice(0, mostCharacters);
      this.#kept.unshift({ atMs: clock.nowMs(), level, text });
      this.#kept.length = Math.min(this.#kept.length, mostKept);
    };
    this.log = {
      debug: (message, fields) => log.debug(message, fields),
      info: (message, fields) => log.info(message, fields),
      warn: (message, fields) => {
        keep('warn', message, fields);
        log.warn(message, fields);
      },
      error: (message, fields) => {
        keep('error', message, fields);
        log.error(message, fields);
      },
    };
  }

  /** The newest first. */
  list(): RecentError[] {
    return [...this.#kept];
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? 'undefined');
}

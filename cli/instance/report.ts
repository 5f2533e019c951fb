/**
 * What `up` shows: one line per step, with its time when it took over a second. On a terminal the step under way is shown with
 * its running time and replaced by its result; elsewhere long steps say when they begin.
 */
import { paint } from '../terminal/table.ts';

/** What a step does now; `detail` (a percentage) is shown where it can be replaced. */
export type Say = (what: string, detail?: string) => void;

export type Report = {
  /** Runs a step under a name; `say` changes what is shown of it meanwhile. Its text becomes the step's line. */
  step: <T>(name: string, work: (say: Say) => Promise<{ line: string; value: T }>) => Promise<T>;
  /** A remark that must not be missed. */
  warn: (text: string) => void;
  /** A plain line. */
  line: (text: string) => void;
};

/** `  name          text  (1.2 s)` */
export function stepLine(name: string, text: string, ms: number): string {
  const time = ms >= 1_000 ? paint('grey', `  (${(ms / 1_000).toFixed(1)} s)`) : '';
  return `  ${paint('bold', name.padEnd(10))} ${text}${time}`;
}

/** A report on a stream of lines; with a terminal behind it, the step under way is drawn in place. */
export function lineReport(write: (line: string) => void, terminal?: NodeJS.WriteStream): Report {
  const clear = () => {
    if (terminal) terminal.write('\r\x1b[K');
  };
  const line = (text: string) => {
    clear();
    write(text);
  };
  return {
    line,
    warn: (text) => line(`  ${paint('yellow', 'warning')}    ${text}`),
    step: async (name, work) => {
      const started = performance.now();
      let what = '';
      let detail = '';
      let announced = '';
      const draw = () => {
        const seconds = Math.floor((performance.now() - started) / 1_000);
        if (what === '' || seconds < 1) return;
        const begun = `  ${name.padEnd(10)} ${what} ...`;
        if (terminal)
          terminal.write(`\r\x1b[K${`${begun} ${detail} ${seconds} s`.slice(0, (terminal.columns || 80) - 1)}`);
        else if (what !== announced) write(begun);
        announced = what;
      };
      const timer = setInterval(draw, 500);
      try {
        const done = await work((text, more = '') => {
          what = text;
          detail = more;
          draw();
        });
        line(stepLine(name, done.line, performance.now() - started));
        return done.value;
      } finally {
        clearInterval(timer);
        clear();
      }
    },
  };
}

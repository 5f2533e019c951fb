/**
 * The programs that run in simulated containers, each an argv and nothing more, so that whoever looks knows every byte
 * that must come out:
 *
 *   count N EVERY_MS [CODE]   N lines of 8 bytes, one each EVERY_MS, then exit CODE (0)
 *   burst BYTES [CODE]        BYTES at once, as fast as the pipe takes them
 *   sleep MS [CODE]           nothing, for MS
 *   exit CODE                 ends at once
 *   cat                       writes what it reads from stdin, ends at its end
 *   ignore-term               runs for ever and does not hear SIGTERM
 *
 * Any other name is not found, as exec says it.
 */

/** What a program does next. */
export type Step =
  | { kind: 'write'; bytes: number }
  | { kind: 'wait'; ms: number }
  | { kind: 'exit'; code: number }
  | { kind: 'echo' }
  | { kind: 'idle' };

export interface Program {
  ignoresTerm: boolean;
  steps: Iterator<Step>;
}

const lineBytes = 8;
const numberOf = (text: string | undefined, none = 0): number => (text === undefined ? none : Number(text));

function* count(lines: number, everyMs: number, code: number): Generator<Step> {
  for (let line = 0; line < lines; line++) {
    yield { kind: 'write', bytes: lineBytes };
    yield { kind: 'wait', ms: everyMs };
  }
  yield { kind: 'exit', code };
}

function* burst(bytes: number, code: number): Generator<Step> {
  yield { kind: 'write', bytes };
  yield { kind: 'exit', code };
}

function* sleep(ms: number, code: number): Generator<Step> {
  yield { kind: 'wait', ms };
  yield { kind: 'exit', code };
}

function* forEver(step: Step): Generator<Step> {
  yield step;
}

/** The program of an argv; undefined when there is none of that name. */
export function programOf(argv: readonly string[]): Program | undefined {
  const [name, first, second, third] = argv;
  switch (name) {
    case 'count':
      return { ignoresTerm: false, steps: count(numberOf(first), numberOf(second), numberOf(third)) };
    case 'burst':
      return { ignoresTerm: false, steps: burst(numberOf(first), numberOf(second)) };
    case 'sleep':
      return { ignoresTerm: false, steps: sleep(numberOf(first), numberOf(second)) };
    case 'exit':
      return { ignoresTerm: false, steps: forEver({ kind: 'exit', code: numberOf(first) }) };
    case 'cat':
      return { ignoresTerm: false, steps: forEver({ kind: 'echo' }) };
    case 'ignore-term':
      return { ignoresTerm: true, steps: forEver({ kind: 'idle' }) };
    default:
      return undefined;
  }
}

/** Bytes of a whole run on stdout; undefined for a program whose output depends on its input or its end. */
export function outputBytesOf(argv: readonly string[]): number | undefined {
  const [name, first] = argv;
  if (name === 'count') return lineBytes * numberOf(first);
  if (name === 'burst') return numberOf(first);
  return name === 'sleep' || name === 'exit' ? 0 : undefined;
}

/** The exit code of a whole run; undefined for a program that never ends by itself. */
export function exitCodeOf(argv: readonly string[]): number | undefined {
  const [name, first, second, third] = argv;
  if (name === 'exit') return numberOf(first);
  if (name === 'count') return numberOf(third);
  return name === 'burst' || name === 'sleep' ? numberOf(second) : undefined;
}

/** Whole lines, made once: texts are slow to make for every look. */
let pattern = Buffer.alloc(0);

/** Bytes [from, to) of what every program that writes by itself writes: lines that tell their own number. */
export function patternBytes(from: number, to: number): Buffer {
  if (to > pattern.byteLength) {
    const lines = Math.ceil((to * 2) / lineBytes);
    let text = '';
    for (let line = 0; line < lines; line++) text += `${String(line % 10_000_000).padStart(lineBytes - 1, '0')}\n`;
    pattern = Buffer.from(text, 'latin1');
  }
  return pattern.subarray(from, to);
}

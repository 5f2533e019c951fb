/**
 * A model of a kernel: an interpreter with our runner in it (agent-daemon/kernels/SPEC.md), which understands a few words
 * instead of a language, so that whoever looks knows every byte that a run must bring:
 *
 *   print N EVERY_MS   N lines, one each EVERY_MS
 *   ask                asks for two lines, and prints each when it comes
 *   die CODE           the interpreter ends
 *
 * A step of a batch is `build` or `exec` and such a word.
 */
import type { Interpreter, InterpreterPorts } from './interpreters.ts';

type KernelPorts = Pick<InterpreterPorts, 'timers' | 'write' | 'isFull' | 'exit' | 'reads' | 'ran'>;

interface Frame {
  verb: string;
  id: string;
  payload: string;
}

const fullMs = 10;
/** Of those that come without a pause. */
const linesAtOnce = 1_000;
/** Between a line and the question for the next. */
const thinkMs = 1_000;
/** Lines that `ask` asks for. */
export const askedLines = 2;
/** As `kernelArgv` makes them. */
const boot = /read -r -N (\d+) REPLY/;

/** What a run prints, whole. */
export function textOfRun(runId: string, code: string, answers: readonly string[]): string {
  const [word, first] = code.split(' ');
  if (word === 'ask') return answers.map((line) => `${line}\n`).join('');
  if (word !== 'print') return '';
  return linesOf(runId, 0, Number(first));
}

/** Lines [from, to) of a run. */
export function linesOf(runId: string, from: number, to: number): string {
  return Array.from({ length: to - from }, (_, at) => `${runId} ${from + at}\n`).join('');
}

/** The kernel of an argv; undefined when it is none. */
export function kernelOf(argv: readonly string[], ports: KernelPorts): ModelKernel | undefined {
  const [, , code = '', , kernelId] = argv;
  const bytes = boot.exec(code)?.[1];
  if (argv[0] !== 'bash' || bytes === undefined || kernelId === undefined) return undefined;
  return new ModelKernel(kernelId, Number(bytes), ports);
}

class ModelKernel implements Interpreter {
  readonly #ports: KernelPorts;
  readonly #kernelId: string;
  #runnerLeft: number;
  #held = Buffer.alloc(0);
  /** While a run is under way, questions alone. */
  readonly #queue: Frame[] = [];
  #current: Frame | undefined;
  #linesLeft = 0;
  #isAsking = false;
  #cancel: () => void = () => undefined;

  constructor(kernelId: string, runnerBytes: number, ports: KernelPorts) {
    this.#kernelId = kernelId;
    this.#runnerLeft = runnerBytes;
    this.#ports = ports;
  }

  start(): void {
    this.#ports.reads();
  }

  read(bytes: Buffer): void {
    const runner = bytes.subarray(0, this.#runnerLeft);
    this.#runnerLeft -= runner.byteLength;
    if (runner.byteLength > 0 && this.#runnerLeft === 0)
      this.#say('stdout', { kind: 'ready', id: null, language: 'bash', version: '5.2' });
    this.#held = Buffer.concat([this.#held, bytes.subarray(runner.byteLength)]);
    for (let frame = this.#take(); frame !== undefined; frame = this.#take()) this.#hear(frame);
  }

  interrupt(): void {
    if (this.#current === undefined) return;
    this.#cancel();
    this.#finish(this.#current, 130);
  }

  terminate(): boolean {
    return false;
  }

  end(): void {
    this.#cancel();
    this.#current = undefined;
    this.#queue.length = 0;
  }

  #take(): Frame | undefined {
    const line = this.#held.indexOf('\n');
    if (line < 0) return undefined;
    const [verb = '', id = '', length] = this.#held.toString('latin1', 0, line).split(' ');
    const end = line + 1 + Number(length);
    if (this.#held.byteLength < end) return undefined;
    const payload = this.#held.toString('utf8', line + 1, end);
    this.#held = this.#held.subarray(end);
    return { verb, id, payload };
  }

  #hear(frame: Frame): void {
    const asks = this.#current?.payload === 'ask' && this.#current.id === frame.id;
    if (frame.verb === 'mark' && this.#isAsking) this.#asks(frame.id);
    else if (frame.verb !== 'input') this.#queue.push(frame);
    else if (asks) {
      this.#isAsking = false;
      this.#ports.write('stdout', Buffer.from(`${frame.payload}\n`));
      const asking = this.#current!;
      this.#later(thinkMs, () => this.#ask(asking));
    }
    this.#next();
  }

  #next(): void {
    while (this.#current === undefined) {
      const frame = this.#queue.shift();
      if (frame === undefined) return;
      if (frame.verb === 'mark') this.#say('stdout', { kind: 'mark', id: frame.id });
      else this.#run(frame);
    }
  }

  #run(frame: Frame): void {
    this.#current = frame;
    const words = frame.payload.split(' ');
    this.#ports.ran(frame.verb === 'shell' ? `${frame.id}.${words.shift()}` : frame.id);
    const [word, first, second] = words;
    if (word === 'print') this.#print(frame, Number(first), Number(second), 0);
    else if (word === 'ask') {
      this.#linesLeft = askedLines;
      this.#ask(frame);
    } else if (word === 'die') this.#ports.exit(Number(first));
    else this.#finish(frame, 1);
  }

  /** For the next line, if one is wanted. */
  #ask(frame: Frame): void {
    if (this.#linesLeft === 0) return this.#finish(frame, 0);
    this.#linesLeft -= 1;
    this.#isAsking = true;
    this.#asks(frame.id);
    for (const { id } of this.#queue.splice(0)) this.#asks(id);
  }

  /** `id`: of its run, or of a question what it does. */
  #asks(id: string): void {
    this.#say('stdout', { kind: 'input', id, prompt: '? ', password: false });
  }

  #print(frame: Frame, lines: number, everyMs: number, from: number): void {
    if (from >= lines) return this.#finish(frame, 0);
    if (this.#ports.isFull()) return this.#later(fullMs, () => this.#print(frame, lines, everyMs, from));
    const to = everyMs > 0 ? from + 1 : Math.min(lines, from + linesAtOnce);
    this.#ports.write('stdout', Buffer.from(linesOf(frame.id, from, to)));
    this.#later(everyMs, () => this.#print(frame, lines, everyMs, to));
  }

  #later(ms: number, task: () => void): void {
    this.#cancel = this.#ports.timers.after(ms, task);
  }

  #finish({ id }: Frame, exitCode: number): void {
    this.#current = undefined;
    this.#isAsking = false;
    this.#say('stderr', { kind: 'mark', id });
    this.#say('stdout', { kind: 'finished', id, exitCode });
    this.#next();
  }

  #say(stream: 'stdout' | 'stderr', record: object): void {
    const json = JSON.stringify(record);
    this.#ports.write(stream, Buffer.from(`\x1e${this.#kernelId} .${json.length}:${json}`));
  }
}

/**
 * Somebody who runs code in a session, as the CLI does: each run under an id that makes asking again harmless, read over
 * every cut, with lines for those that ask. What comes must be what the run prints, each byte once ([K1]), and no run is
 * carried out twice ([K2], which the hosts tell). On a kernel of Jupyter it ends with the status that the kernel gave it
 * ([K4]), unless something is missing that says so.
 */
import { ExecuteEvent, type ExecuteOutcome, type ExecuteRequest } from '../../schema/protocol/execute.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { parseJson } from '../../schema/protocol/json.ts';
import { openRunLog, type RunItem, type RunLog } from '../../schema/protocol/run-log.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import type { Chance } from './chance.ts';
import { connect } from './client.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import type { Way } from './edge/links.ts';
import type { Placement } from './host/agent.ts';
import { bigText } from './host/jupyter-kernel.ts';
import { askedLines, textOfRun } from './host/kernel-program.ts';
import { specName } from './host/specs-tool.ts';
import type { Sometimes } from './sometimes.ts';

export interface CoderPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  way: Way;
  token: string;
  /** How often a run was carried out in a placement. */
  times: (placement: Placement, runId: string) => number;
  /** With which status a kernel of Jupyter has done it. Absent: the code is for a kernel with our runner. */
  statusOf?: (placement: Placement, runId: string) => number | undefined;
  violated: (what: string) => void;
}

type StreamName = 'stdout' | 'stderr';

/** What is known of a run while it is followed. */
interface Run {
  id: string;
  request: ExecuteRequest;
  code: string;
  /** What it is given for each line that it asks for, and where it asked. */
  answers: readonly string[];
  askedAt: number[];
  /** Where its reader goes on; absent before it has begun. */
  after: Record<StreamName, number> | undefined;
  text: string;
  /** What it is told to complete its code to. */
  matches: readonly string[];
  hasGap: boolean;
  isInterrupted: boolean;
  doubts: number;
  generation: number;
}

/** What is read of it on one connection. */
interface Reading {
  log: RunLog;
  /** The offset that comes next. */
  next: Record<StreamName, number>;
}

const againMs = 1_000;
const mostTries = 80;
/** As often in a row the end may overtake output that came in another order. */
const mostDoubts = 8;
/** Between the steps of a batch. */
const andThen = ' && ';
/** Lines of a run that is to fill more than a spool. */
const floodLines = 6_000;

export class Coder {
  readonly sessionId: string;
  readonly #ports: CoderPorts;
  readonly name: string;
  #runs = 0;

  constructor(sessionId: string, name: string, ports: CoderPorts) {
    this.sessionId = sessionId;
    this.name = name;
    this.#ports = ports;
  }

  /** Some runs, one after the other; never rejects. */
  async run(): Promise<void> {
    const { chance } = this.#ports;
    for (let left = chance.integer(1, 6); left > 0 && !this.#isTired; left -= 1)
      if (!(await this.execute(this.#ports.statusOf ? this.#drawJupyter() : this.#drawCode()))) break;
    this.#isOver = true;
  }
  #isOver = false;
  #isTired = false;

  get isOver(): boolean {
    return this.#isOver;
  }

  /** The run under way is the last. */
  tire(): void {
    this.#isTired = true;
  }

  /** One run to its end. False when nobody will ever say how it ended. */
  async execute(code: string): Promise<boolean> {
    const { time, chance, sometimes } = this.#ports;
    this.#runs += 1;
    const id = `${this.name}-${this.#runs}`;
    const run: Run = {
      id,
      request: requestOf(code),
      code,
      answers: Array.from({ length: askedLines }, (_, line) => `line ${line} of ${id}`),
      askedAt: [],
      after: undefined,
      text: '',
      matches: [],
      hasGap: false,
      isInterrupted: false,
      doubts: 0,
      generation: 0,
    };
    for (let tries = 0; tries < mostTries; tries += 1) {
      try {
        const before = run.after;
        this.#judge(run, await this.#follow(run, before !== undefined));
        return true;
      } catch (error) {
        if (!(error instanceof StreamOver)) throw error;
        if (error.code === 'session_ended' || error.code === 'session_not_found') return false;
        if (error.code === 'kernel_run_conflict' || error.code === 'kernel_run_not_found')
          this.#ports.violated(`[K2] ${id} in ${this.sessionId}: ${error.code}`);
        if (run.after === undefined && tries > 0) sometimes.reached('a run was asked for again before it was answered');
      }
      await time.sleep(chance.delayMs(againMs));
    }
    return false;
  }

  #drawCode(): string {
    const { chance } = this.#ports;
    const u = chance.next();
    const print = () => `print ${chance.integer(0, 20)} ${chance.integer(50, 3_000)}`;
    if (u < 0.45) return print();
    // A batch of two steps.
    if (u < 0.6) return [chance.isTrue(0.2) ? 'nonsense' : print(), print()].join(andThen);
    if (u < 0.7) return `print ${floodLines} 0`;
    if (u < 0.9) return 'ask';
    return u < 0.95 ? 'nonsense' : `die ${chance.integer(0, 3)}`;
  }

  /** With the words of `jupyter-kernel.ts`. */
  #drawJupyter(): string {
    const { chance } = this.#ports;
    const u = chance.next();
    if (u < 0.4) return `print ${chance.integer(0, 12)} ${chance.integer(50, 3_000)}`;
    if (u < 0.5) return `print ${floodLines} 0`;
    if (u < 0.7) return 'ask';
    const [few] = chance.pick([['big'], ['lose'], ['too-large'], ['fail'], ['stay'], ['die 3'], ['crash'], ['pri']])!;
    return few!;
  }

  async #follow(run: Run, isAgain: boolean): Promise<ExecuteOutcome> {
    const { sometimes } = this.#ports;
    const { endpoint, generation, close } = await connect(this.sessionId, 'execute', {
      ...this.#ports,
      toldOut: () => undefined,
    });
    try {
      if (generation !== run.generation)
        Object.assign(run, { generation, after: undefined, text: '', matches: [], hasGap: false, askedAt: [] });
      const stream = endpoint.open({
        op: 'execute',
        runId: run.id,
        ...(this.#ports.statusOf ? { spec: specName } : { language: 'bash' as const }),
        request: run.request,
        ...(run.after === undefined ? {} : { after: { ...run.after } }),
      });
      await stream.whenOpened;
      if (isAgain && run.after !== undefined) sometimes.reached('a run was read over a cut');
      return await this.#read(run, stream);
    } finally {
      close();
    }
  }

  async #read(run: Run, stream: Stream): Promise<ExecuteOutcome> {
    const { chance } = this.#ports;
    let reading: Reading | undefined;
    for await (const { channel, offset, bytes, end } of stream.read()) {
      if (end) continue;
      if (channel !== channels.control) {
        this.#take(run, reading, channel === channels.stdout ? 'stdout' : 'stderr', offset, bytes);
        if (chance.isTrue(0.01)) throw new StreamOver({ code: 'tunnel_closed' });
        if (!run.isInterrupted && chance.isTrue(0.02)) {
          run.isInterrupted = true;
          await stream.writeControl({ kind: 'interrupt' });
        }
        continue;
      }
      const event = ExecuteEvent.parse(parseJson(bytes));
      if (event.kind === 'begun') reading = this.#begin(run, event);
      else if (event.kind === 'gap') this.#miss(run, reading, event);
      else if (event.kind === 'waiting') await this.#answer(run, stream, event.at);
      else if (event.kind === 'finished') {
        this.#mustHaveAll(run, event.ends);
        return event.outcome;
      }
    }
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  #begin(run: Run, begun: Extract<ExecuteEvent, { kind: 'begun' }>): Reading {
    const { from } = begun;
    if (run.after !== undefined && (from.stdout !== run.after.stdout || from.stderr !== run.after.stderr))
      this.#ports.violated(`[K1] ${run.id} goes on at ${from.stdout} and was asked for from ${run.after.stdout}`);
    run.after = { ...from };
    return { log: openRunLog(begun, run.id), next: { ...from } };
  }

  #take(run: Run, reading: Reading | undefined, name: StreamName, offset: number, bytes: Uint8Array): void {
    // Frames that came in another order: a client asks again from where it stands.
    if (reading?.next[name] !== offset || run.after === undefined) throw new StreamOver({ code: 'tunnel_closed' });
    reading.next[name] = offset + bytes.byteLength;
    run.doubts = 0;
    for (const item of reading.log.push(name, offset, bytes)) this.#keep(run, item);
    run.after = { ...reading.log.position };
  }

  #keep(run: Run, item: RunItem): void {
    if (item.kind === 'lost') run.hasGap = true;
    else if (item.kind === 'bytes') {
      if (item.stream === 'stdout') run.text += Buffer.from(item.bytes).toString('latin1');
    } else {
      const { record } = item;
      if (record.kind !== 'ready' && record.id !== run.id && record.id?.startsWith('-') !== true)
        this.#ports.violated(`[K1] ${run.id} is given a record of ${record.id}`);
      if (record.kind === 'completion') run.matches = [...run.matches, ...(record.matches as string[])];
    }
  }

  #miss(run: Run, reading: Reading | undefined, { stream, to }: { stream: StreamName; to: number }): void {
    if (reading === undefined || run.after === undefined) throw new StreamOver({ code: 'tunnel_closed' });
    this.#ports.sometimes.reached('the output of a run had a gap');
    run.hasGap = true;
    for (const item of reading.log.skip(stream, to)) this.#keep(run, item);
    reading.next[stream] = to;
    run.after[stream] = to;
  }

  /** Asked anew behind a cut, the same line is given: the first answer may not have come. */
  async #answer(run: Run, stream: Stream, at: number): Promise<void> {
    if (!run.askedAt.includes(at)) run.askedAt.push(at);
    const text = run.answers[run.askedAt.indexOf(at)];
    if (text === undefined) this.#ports.violated(`[K1] ${run.id} asks for more lines than it wants`);
    else await stream.writeControl({ kind: 'input', at, text });
  }

  /** [S10]: behind the end nothing comes any more, so a reader that has less goes on from what it has. */
  #mustHaveAll(run: Run, ends: Record<StreamName, number> | undefined): void {
    if (run.after === undefined || ends === undefined) return;
    if (run.after.stdout >= ends.stdout) return;
    run.doubts += 1;
    if (run.doubts > mostDoubts) this.#ports.violated(`[K1] ${run.id} ends at ${run.after.stdout} of ${ends.stdout}`);
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  #judge(run: Run, { reason, exitCode }: ExecuteOutcome): void {
    const { sometimes, violated, times, statusOf } = this.#ports;
    const placement = { sessionId: this.sessionId, generation: run.generation };
    const isWhole = reason === 'finished' && exitCode === 0;
    const what = `${run.id} (${run.code}) in ${placement.sessionId} g${placement.generation}`;
    const wanted = textOf(run);
    if (!run.hasGap && (isWhole ? run.text !== wanted : !wanted.startsWith(run.text)))
      violated(`[K1] ${what} shows ${run.text.length} bytes of ${wanted.length}, or others`);
    const parts = run.request.mode === 'batch' ? [`${run.id}.build`, `${run.id}.exec`] : [run.id];
    const wasRun = parts.reduce((sum, part) => sum + times(placement, part), 0);
    // Where its answer is missing it may have been a refusal.
    const isUnknown = statusOf !== undefined && run.hasGap && exitCode !== 0;
    const steps = stepsDone(run.code).length;
    const mayBe = isWhole ? wasRun === steps : wasRun >= 1 && wasRun <= steps;
    if (reason === 'finished' && !mayBe && !(isUnknown && wasRun === 0))
      violated(`[K2] ${what} was carried out ${wasRun} times`);
    if (statusOf !== undefined && reason === 'finished' && !run.hasGap) {
      if (statusOf(placement, run.id) !== exitCode)
        violated(`[K4] ${what} ended with ${exitCode}, and was done with ${statusOf(placement, run.id)}`);
      if (run.request.mode === 'complete' && run.matches.join() !== `${run.code}1`)
        violated(`[K1] ${what} is completed to ${run.matches.join() || 'nothing'}`);
    }
    if (reason !== 'finished') sometimes.reached('a run ended with its kernel');
    if (exitCode === 130) sometimes.reached('a run was interrupted');
    if (isWhole && steps > 1) sometimes.reached('a run of several steps did them all');
    if (isWhole && run.code === 'ask') sometimes.reached('a run was given the line that it asked for');
    if (statusOf !== undefined && run.hasGap && reason === 'finished')
      sometimes.reached('a run of a kernel of Jupyter ended though messages were missing');
  }
}

/** The steps of a run, one after the other. */
function stepsOf(code: string): string[] {
  return code.split(andThen);
}

/** Those that are done when nothing comes between: none behind one that fails. */
function stepsDone(code: string): string[] {
  const steps = stepsOf(code);
  return steps.slice(0, 1 + steps.findIndex((step, at) => step === 'nonsense' || at + 1 === steps.length));
}

function requestOf(code: string): ExecuteRequest {
  const [build = '', exec] = stepsOf(code);
  if (exec !== undefined) return { mode: 'batch', clean: '', build: `build ${build}`, exec: `exec ${exec}` };
  return { mode: code === 'pri' ? 'complete' : 'query', code };
}

/** What a run prints, whole. */
function textOf({ id, code, answers }: Run): string {
  if (code === 'big') return bigText(id);
  if (code === 'stay' || code === 'too-large') return textOfRun(id, 'print 1 0', answers);
  return stepsDone(code)
    .map((step) => textOfRun(id, step, answers))
    .join('');
}

/**
 * Runs on one Jupyter kernel. A run is a request of which the msg_id is made of the run's id; what the kernel's log says in
 * answer to that id is the run's, whoever else speaks to the kernel. Since the request is kept before it is said, and said
 * once, a repeated one, or another agent, finds there what became of it.
 */
import { Refusal } from '../../schema/errors.ts';
import { bridgeChannel, BridgeNote } from '../../schema/protocol/channels.ts';
import type { ExecuteOutcome } from '../../schema/protocol/execute.ts';
import { idleQuestion, inputReply, requestsOf, runRequest } from './jupyter-requests.ts';
import { type LogRecord, parseObject, typeOf } from './records.ts';
import { type Ask, Runs, type RunsOwner } from './runs.ts';
import type { Offsets, SavedRun } from './saved.ts';
import { nextStep } from './steps.ts';

/** A kernel that refuses what waits behind somebody's error is asked again, so often in all. */
const maxAttempts = 16;
const interrupted = 130;

/** The kernel. */
export interface JupyterRunsOwner extends Omit<RunsOwner, 'give'> {
  starts(): number;
  /** All records before this were heard. */
  seen(): number;
  /** Where the log was read to: perhaps within a record. */
  readTo(): number;
  /** Keeps what is to be said with what that changes of a run, and says it once. Resolves when it is kept. */
  say(text: string, changes: Partial<SavedRun> & { runId: string }): Promise<void>;
  /** A run is under way. */
  asked(): void;
}

/** What was heard of the run under way. */
interface Heard {
  /** Where its answer and its last output end. */
  replyEnd: number | undefined;
  idleEnd: number | undefined;
  exitCode: number | undefined;
  /** It published an error. */
  isError: boolean;
  /** msg_id of the question whether the kernel is idle, if that was asked. */
  question: string | undefined;
  /** From where on what was missed may be its own, so that it is told. */
  missedFrom: number | undefined;
}

const nothing = (): Heard => ({
  replyEnd: undefined,
  idleEnd: undefined,
  exitCode: undefined,
  isError: false,
  question: undefined,
  missedFrom: undefined,
});

export class JupyterRuns {
  readonly #owner: JupyterRunsOwner;
  readonly #runs: Runs;
  #heard = nothing();

  constructor(owner: JupyterRunsOwner) {
    this.#owner = owner;
    this.#runs = new Runs({ ...owner, give: (run) => this.#give(run) });
  }

  get queued(): number {
    return this.#runs.queued;
  }

  /** A run was asked for and has not ended. */
  get isBusy(): boolean {
    return this.#runs.current !== undefined;
  }

  /** Goes on with those of an earlier agent. `keptFrom`: from where on the log is read again. */
  adopt(runs: readonly SavedRun[], keptFrom: number): void {
    const starts = this.#owner.starts();
    const open = runs.filter(({ ended }) => ended === undefined);
    const current = open.find((run) => run.given === starts);
    this.#runs.adopt(
      current,
      open.filter(({ given }) => given === undefined),
    );
    for (const run of open) if (run.given !== undefined && run !== current) this.#runs.end(run, { reason: 'exited' });
    if (current !== undefined && (current.begun?.from.stdout ?? 0) < keptFrom) this.missed(keptFrom, 0);
  }

  /** As {@link Runs.take}. @throws Refusal at once: `kernel_kind_wrong` too */
  take(run: SavedRun): Promise<void> {
    if (run.request.mode === 'batch')
      throw new Refusal(
        'kernel_kind_wrong',
        'It is a kernel of Jupyter: for a batch, name a language (bash, python ...).',
      );
    return this.#runs.take(run);
  }

  /** It is ready. */
  next(): void {
    this.#runs.next();
  }

  /** A record that is larger than the log is sent while it is written: it would never be whole. */
  reach(run: SavedRun): Offsets {
    return run.ended?.ends ?? { stdout: this.#owner.readTo(), stderr: 0 };
  }

  asks(run: SavedRun): Ask | undefined {
    return this.#runs.asks(run);
  }

  /** `at`: anywhere behind the question, where the client was when it read that. @throws Refusal `kernel_input_unasked` */
  async answer(run: SavedRun, at: number, text: string): Promise<void> {
    if (at <= run.inputAt) return;
    const ask = this.#runs.asks(run);
    const seen = this.#owner.seen();
    if (ask === undefined || at < ask.at || at > seen)
      throw new Refusal('kernel_input_unasked', 'The run does not ask for a line at this place of its output.');
    // Others may have read on before they answer the same question; the next one comes behind all that.
    run.inputAt = seen;
    const { runId, inputAt } = run;
    await this.#owner.say(inputReply(runId, text, this.#owner.clock.nowMs()), { runId, inputAt });
    this.#owner.bell.ring();
  }

  interrupt(run: SavedRun): Promise<void> {
    return this.#runs.interrupt(run);
  }

  died(how: ExecuteOutcome): void {
    this.#runs.died(how, { stdout: this.#owner.seen(), stderr: 0 });
  }

  close(): void {
    this.#runs.close();
  }

  /** Messages are missing before `at`, and with them perhaps the end of the run: the kernel is asked to say when it is idle. */
  missed(at: number, from = this.#owner.seen()): void {
    const run = this.#runs.current;
    if (run === undefined) return;
    this.#heard.missedFrom ??= from;
    const question = `${requestsOf(run.runId)}idle-${at}`;
    this.#heard.question = question;
    const { runId, asked } = run;
    this.#say(idleQuestion(question, this.#owner.clock.nowMs()), { runId, asked });
  }

  /** The next record of the log. */
  hear(record: LogRecord): void {
    const run = this.#runs.current;
    if (run === undefined) return;
    if (record.channel === bridgeChannel) {
      const kind = BridgeNote.safeParse(parseObject(record.content)).data?.kind;
      if (kind === 'lost' || kind === 'too-large') this.missed(record.offset);
      return;
    }
    const requests = requestsOf(run.runId);
    if (!record.parent.includes(requests)) return;
    const id = parseObject(record.parent)?.['msg_id'];
    const isAnswer = id === this.#heard.question && record.channel === 'iopub';
    if (!isAnswer && id !== `${requests}${run.asked}`) return;
    if (run.begun === undefined) this.#begin(run, record.offset);
    if (isAnswer) this.#isIdle(run, record.offset);
    else this.#hearOf(run, record);
  }

  #give(run: SavedRun): void {
    run.asked = 0;
    run.given = this.#owner.starts();
    this.#ask(run);
    this.#owner.asked();
  }

  /** Asks for it, under an id that was not used before. */
  #ask(run: SavedRun): void {
    this.#heard = nothing();
    run.asked++;
    const { runId, asked, given } = run;
    const changes = { runId, asked, ...(given === undefined ? {} : { given }) };
    this.#say(runRequest(run, this.#owner.clock.nowMs()), changes);
  }

  #say(text: string, changes: Partial<SavedRun> & { runId: string }): void {
    this.#owner.say(text, changes).catch((error: unknown) => this.#owner.failed(error));
  }

  #begin(run: SavedRun, offset: number): void {
    const begun = {
      starts: this.#owner.starts(),
      from: { stdout: Math.min(offset, this.#heard.missedFrom ?? offset), stderr: 0 },
      atMs: this.#owner.clock.nowMs(),
    };
    this.#runs.began(run, begun);
    const { runId } = run;
    this.#owner.save({ run: { runId, begun } }).catch((error: unknown) => this.#owner.failed(error));
  }

  #hearOf(run: SavedRun, { channel, header, content, end }: LogRecord): void {
    const type = typeOf(header);
    const said = parseObject(content);
    if (channel === 'stdin' && type === 'input_request')
      this.#runs.asked({ at: end, prompt: textIn(said?.['prompt']), password: said?.['password'] === true });
    else if (channel === 'iopub' && type === 'error') this.#heard.isError = true;
    else if (channel === 'iopub' && type === 'status' && said?.['execution_state'] === 'idle') {
      this.#heard.idleEnd = end;
      this.#endIfDone(run);
    } else if (channel === 'shell' && type.endsWith('_reply')) this.#replied(run, said, end);
  }

  /** `said` is absent where the answer is large. */
  #replied(run: SavedRun, said: Readonly<Record<string, unknown>> | undefined, end: number): void {
    const status = said?.['status'] ?? (this.#heard.isError ? 'error' : 'ok');
    if (status === 'aborted' && run.asked < maxAttempts) return this.#ask(run);
    this.#heard.replyEnd = end;
    this.#heard.exitCode = status === 'ok' ? 0 : exitCodeOf(textIn(said?.['ename']), textIn(said?.['evalue']));
    this.#endIfDone(run);
  }

  /** What it did before is done, and what said how the run ended may be missing. */
  #isIdle(run: SavedRun, offset: number): void {
    this.#heard.idleEnd ??= offset;
    this.#heard.replyEnd ??= offset;
    this.#endIfDone(run);
  }

  /** The answer and the end of the output come by ways of their own, in either order. */
  #endIfDone(run: SavedRun): void {
    const { replyEnd, idleEnd, exitCode = 1 } = this.#heard;
    if (replyEnd === undefined || idleEnd === undefined) return;
    const at = Math.max(replyEnd, idleEnd);
    const step = nextStep(run);
    if (step !== undefined) run.answered = [{ step, exitCode, at }];
    const reason = this.#runs.isLate ? 'timeout' : 'finished';
    this.#runs.end(run, { reason, exitCode }, { stdout: at, stderr: 0 });
  }
}

/** As a runner's (SPEC.md rule R8), by the names that kernels of Python have for it. */
function exitCodeOf(name: string, value: string): number {
  if (name === 'KeyboardInterrupt' || /interrupt/i.test(name)) return interrupted;
  if (name !== 'SystemExit') return 1;
  return /^(?:|None|\d{1,9})$/.test(value) ? Number(value === 'None' ? 0 : value) & 255 : 1;
}

function textIn(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

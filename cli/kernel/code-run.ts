/**
 * Follows one run of a kernel to its end over any number of cuts: its log continues where this client is, and the run id
 * makes a repeated request harmless.
 */
import { continuous } from '../../schema/protocol/continuity.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { ExecuteEvent, type ExecuteOutcome } from '../../schema/protocol/execute.ts';
import type { KernelRecord } from '../../schema/protocol/kernel-log.ts';
import { openRunLog, type RunItem, type RunLog, type StreamName } from '../../schema/protocol/run-log.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import type { StreamOpen } from '../../schema/protocol/streams.ts';
import { statusOfSignal } from '../process/follow.ts';
import { Placement, placeLost } from '../process/placement.ts';
import type { ClientSocket, Dialler } from '../tunnel/dial.ts';
import { Patience } from '../tunnel/patience.ts';

export type RunRequest = Omit<Extract<StreamOpen, { op: 'execute' }>, 'op' | 'after' | 'input'>;

/** A dead way is noticed within half a minute: what was said on a stream that lived on for so long was heard. */
const heardMs = 60_000;

export interface RunIo {
  /** Resolves when the bytes were taken, so that a slow reader slows the far end. */
  write(stream: StreamName, bytes: Uint8Array): Promise<void>;
  /** What the kernel says beside what the program wrote. */
  record(record: KernelRecord): Promise<void>;
  /** A line for the program; undefined: there is none, so the run is interrupted. */
  ask(prompt: string, password: boolean): Promise<string | undefined>;
  /** A line for the person: cuts, gaps. */
  say(line: string): void;
}

/** One socket for run after run, dialled anew when it was lost. */
export class KernelSocket {
  readonly #dial: Dialler;
  #socket: ClientSocket | undefined;

  constructor(dial: Dialler) {
    this.#dial = dial;
  }

  /** `generation`: the placement that a run has begun in. */
  async get(signal: AbortSignal, generation?: number): Promise<ClientSocket> {
    this.#socket ??= await this.#dial(signal, generation);
    return this.#socket;
  }

  /** It is lost, or not needed any more. */
  drop(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }
}

export class CodeRun {
  readonly #socket: KernelSocket;
  readonly #request: RunRequest;
  readonly #io: RunIo;
  readonly #left = new AbortController();
  #after: Record<StreamName, number> | undefined;
  #kernelId: string | undefined;
  /** The placement of the session in which it may have begun. */
  readonly #placement = new Placement();
  #stream: Stream | undefined;
  /** An interrupt that may not have been heard yet, and when it was said on the stream that there is. */
  #interrupt: { saidAtMs: number | undefined } | undefined;
  /** Where the last request for a line ends that the person was asked. */
  #askedAt = 0;
  /** The last line of the person, where it was asked for, and the stream that it was given to. */
  #line: { at: number; text: string; given: Stream | undefined } | undefined;

  constructor(socket: KernelSocket, request: RunRequest, io: RunIo) {
    this.#socket = socket;
    this.#request = request;
    this.#io = io;
  }

  /** The kernel that runs it, once it has begun. */
  get kernelId(): string | undefined {
    return this.#kernelId;
  }

  /** Follows to the end; undefined when `leave` was called. @throws CliFailure on a refusal that waiting can not cure */
  async run(): Promise<ExecuteOutcome | undefined> {
    const patience = new Patience();
    while (!this.#left.signal.aborted) {
      const before = JSON.stringify(this.#after);
      try {
        return await this.#once();
      } catch (error) {
        this.#socket.drop();
        if (this.#left.signal.aborted) break;
        if (this.#placement.isOver(error)) throw placeLost('run');
        patience.judge(error);
      }
      if (JSON.stringify(this.#after) !== before) patience.renew();
      else if (patience.pauses === 1) this.#io.say('the connection was lost; the run goes on, resuming ...');
      await patience.pause();
    }
    return undefined;
  }

  /** Interrupts the run, now or as soon as there is a way. */
  interrupt(): void {
    this.#interrupt = { saidAtMs: undefined };
    this.#sayInterrupt();
  }

  /** Leaves the run alone. */
  leave(): void {
    this.#left.abort();
    this.#stream?.reset('tunnel_closed');
  }

  async #once(): Promise<ExecuteOutcome> {
    const socket = await this.#socket.get(this.#left.signal, this.#placement.generation);
    const after = this.#after === undefined ? {} : { after: { ...this.#after } };
    const stream = socket.open({ op: 'execute', ...this.#request, ...after });
    this.#stream = stream;
    try {
      await this.#placement.opened(stream, socket.generation, { starts: true });
      if (this.#interrupt?.saidAtMs === undefined) this.#sayInterrupt();
      return await this.#receive(stream);
    } finally {
      this.#stream = undefined;
      this.#keepInterrupt();
    }
  }

  #sayInterrupt(): void {
    if (this.#interrupt === undefined || this.#stream === undefined) return;
    this.#interrupt.saidAtMs = performance.now();
    this.#stream.writeControl({ kind: 'interrupt' }).catch(() => undefined);
  }

  /** For the next stream, where this one may not have carried it: a program that heeded it and went on is not to hear it again. */
  #keepInterrupt(): void {
    const saidAtMs = this.#interrupt?.saidAtMs;
    if (saidAtMs === undefined) return;
    const wasHeard = performance.now() - saidAtMs > heardMs;
    this.#interrupt = wasHeard ? undefined : { saidAtMs: undefined };
  }

  async #receive(stream: Stream): Promise<ExecuteOutcome> {
    let log: RunLog | undefined;
    const take = async (read: (log: RunLog) => RunItem[]) => {
      if (log === undefined || this.#after === undefined) throw new StreamOver({ code: 'tunnel_frame_invalid' });
      for (const item of read(log)) {
        if (item.kind === 'bytes') await this.#io.write(item.stream, item.bytes);
        else if (item.kind === 'record') await this.#io.record(item.record);
        else this.#io.say(item.words);
        this.#after[item.log] = item.end;
      }
      this.#after = { ...log.position };
    };
    for await (const { channel, offset, bytes, end } of continuous(stream.read())) {
      if (end) continue;
      if (channel !== channels.control) {
        await take((each) => each.push(channel === channels.stdout ? 'stdout' : 'stderr', offset, bytes));
        continue;
      }
      const event = ExecuteEvent.parse(JSON.parse(new TextDecoder().decode(bytes)));
      if (event.kind === 'begun') {
        this.#kernelId = event.kernelId;
        this.#after = { ...event.from };
        log = openRunLog(event, this.#request.runId);
      } else if (event.kind === 'gap') {
        await take((each) => each.skip(event.stream, event.to));
        this.#io.say(`${event.to - event.from} bytes of ${event.stream} are missing (${event.reason})`);
      } else if (event.kind === 'waiting') this.#ask(event);
      else if (event.kind === 'finished') {
        if (log !== undefined) await take((each) => each.flush());
        return event.outcome;
      }
    }
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  /** Asks the person once for each request; who asks for it again on another stream did not get the line. */
  #ask({ at, prompt, password }: { at: number; prompt: string; password: boolean }): void {
    if (this.#line?.at === at && this.#line.given !== this.#stream) return this.#give();
    if (at <= this.#askedAt) return;
    this.#askedAt = at;
    this.#io
      .ask(prompt, password)
      .then((text) => {
        if (text === undefined) return this.interrupt();
        this.#line = { at, text, given: undefined };
        this.#give();
      })
      .catch(() => this.interrupt());
  }

  /** Gives the line to the stream that there is, if there is one. Whether it arrives shows on the next. */
  #give(): void {
    const stream = this.#stream;
    if (this.#line === undefined || stream === undefined) return;
    this.#line.given = stream;
    const { at, text } = this.#line;
    stream.writeControl({ kind: 'input', at, text }).catch(() => undefined);
  }
}

/** What the shell would see: the status of the run, or 128 + the signal's number; 124 when its time was over. */
export function statusOfRun({ reason, exitCode, signal }: ExecuteOutcome): number {
  if (reason === 'timeout') return 124;
  if (exitCode !== undefined) return exitCode;
  return statusOfSignal(signal);
}

/**
 * Follows one remote process to its end over any number of cuts: output continues after the last byte that was written
 * here, input continues from the byte that the agent has, and the process id makes a repeated spawn harmless.
 */
import {
  ProcessEvent,
  type ProcessControl,
  type ProcessSpawn,
  type StreamOpen,
} from '../../schema/protocol/streams.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { continuous, type OutputOffsets } from '../../schema/protocol/continuity.ts';
import { streamNames } from '../../schema/log/tail.ts';
import { parseJson } from '../../schema/protocol/json.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import type { Dialler } from '../tunnel/dial.ts';
import { asFailure, Patience } from '../tunnel/patience.ts';
import { hasMoved, Placement, placeLost, placeWords } from './placement.ts';
import type { InputLog } from '../../schema/protocol/input-log.ts';

export interface ProcessEnd {
  exitCode: number | undefined;
  signal: string | undefined;
  reason: string;
  /** Bytes of its output that its machine failed to keep. What a policy let go is not among them. */
  lostBytes?: number;
}

export interface ProcessIo {
  /** Resolves when the bytes were taken, so that a slow reader slows the far end. */
  writeStdout(bytes: Uint8Array): Promise<void>;
  writeStderr(bytes: Uint8Array): Promise<void>;
  /** A line for the person: cuts, gaps. */
  say(line: string): void;
  /** One that has to be said, also where only the program is to speak. */
  warn(line: string): void;
}

/** Offsets in output, and the placement of the session that they are of, once it is known. */
export interface Position {
  stdout: number;
  stderr: number;
  generation?: number | undefined;
}

export interface Target {
  /** The request that continues after these offsets; `isKnown`: one was answered before, so it is there or over. */
  open(after: { stdout: number; stderr: number }, isKnown: boolean): StreamOpen;
  /** Where output starts; default 0. */
  from?: Position;
  /** The first bytes of a stream may be any (the last lines were asked for, or an offset that is not there yet). */
  startsAnywhere?: boolean;
  input?: InputLog;
  /** The process has all input and its end. */
  onInputEnded?: () => void;
  /** Refusals that are waited out elsewhere: not here. */
  givesUpOn?: ReadonlySet<string>;
  /** The far end may finish without an exit (a log that is not followed); else that is a cut. */
  endsWithoutExit?: boolean;
  /** It is started by this client, once, and ends with the placement that it runs in; else it begins again in the next. */
  isOnce?: boolean;
}

/** Spawns or attaches to a process. */
export function processTarget(processId: string, spawn?: ProcessSpawn, input?: InputLog): Target {
  return {
    open: (after, isKnown) => ({
      op: 'process',
      processId,
      // Whose end was forgotten meanwhile is not started a second time.
      ...(spawn === undefined || isKnown ? {} : { spawn }),
      after,
      input: input !== undefined,
    }),
    ...(input === undefined ? {} : { input }),
    ...(spawn === undefined ? {} : { isOnce: true }),
  };
}

/** Why bytes are missing that nobody agreed to lose. */
const failures: ReadonlySet<string> = new Set(['disk-full', 'damaged']);
const sayAfterMs = 1000;

/** One process, from wherever this client is, to its end. */
export class ProcessFollower {
  readonly #dial: Dialler;
  readonly #target: Target;
  readonly #io: ProcessIo;
  readonly #after: { stdout: number; stderr: number };
  readonly #stopped = new AbortController();
  readonly #begun = new Set<'stdout' | 'stderr'>();
  #stream: Stream | undefined;
  #end: ProcessEnd | undefined;
  #cutAtMs: number | undefined;
  #lostBytes = 0;
  #isKnown = false;
  /** The placement that offsets, and the process, are of. */
  readonly #placement: Placement;

  constructor(dial: Dialler, target: Target, io: ProcessIo) {
    this.#dial = dial;
    this.#target = target;
    this.#after = { stdout: target.from?.stdout ?? 0, stderr: target.from?.stderr ?? 0 };
    this.#placement = new Placement(target.from?.generation);
    this.#io = io;
  }

  /** Follows to the end; undefined when `detach` was called. @throws CliFailure on a refusal that waiting can not cure. */
  async run(): Promise<ProcessEnd | undefined> {
    const patience = new Patience();
    while (!this.#stopped.signal.aborted) {
      const before = this.#after.stdout + this.#after.stderr;
      try {
        await this.#once();
        if (this.#end !== undefined) return this.#end;
      } catch (error) {
        if (this.#placement.isOver(error)) this.#placeLost(error);
        else if (error instanceof StreamOver && this.#target.givesUpOn?.has(error.code)) throw asFailure(error);
        else patience.judge(error);
      }
      if (this.#stopped.signal.aborted) break;
      if (this.#after.stdout + this.#after.stderr > before) patience.renew();
      this.#noteCut();
      await patience.pause();
    }
    return undefined;
  }

  /** It is known where the output begins. */
  get hasBegun(): boolean {
    return this.#begun.size > 0;
  }

  /** Behind what was written here. */
  get position(): Position {
    return { ...this.#after, generation: this.#placement.generation };
  }

  /** Leaves the process alone and makes `run` return undefined. */
  detach(): void {
    this.#stopped.abort();
    this.#stream?.reset('tunnel_closed');
  }

  /** Sends a resize or a signal on the open stream; lost when there is none (the caller may repeat it). */
  async control(message: ProcessControl): Promise<void> {
    await this.#stream?.writeControl(message).catch(() => undefined);
  }

  /** Called after each (re)connection, with the stream's control channel ready: send the window size again. */
  onAttached: () => void = () => undefined;

  /** The session is on its next machine, or waits for one. @throws CliFailure when what is followed is not started there */
  #placeLost(error: CliFailure): void {
    if (this.#target.isOnce === true) throw placeLost('command');
    if (hasMoved(error)) {
      this.#io.say(placeWords.anew);
      this.#placement.generation = undefined;
      this.#begun.clear();
      this.#after.stdout = 0;
      this.#after.stderr = 0;
      this.#lostBytes = 0;
    } else if (this.#cutAtMs !== -1) {
      this.#io.say(placeWords.lost);
      this.#cutAtMs = -1; // said
    }
  }

  #noteCut(): void {
    const now = performance.now();
    if (this.#cutAtMs === undefined) this.#cutAtMs = now;
    else if (this.#cutAtMs > 0 && now - this.#cutAtMs > sayAfterMs) {
      this.#io.say(placeWords.cut);
      this.#cutAtMs = -1; // said
    }
  }

  async #once(): Promise<void> {
    const socket = await this.#dial(this.#stopped.signal, this.#placement.generation);
    const over = new AbortController();
    try {
      const stream = socket.open(this.#target.open({ ...this.#after }, this.#isKnown));
      this.#stream = stream;
      const starts = this.#target.isOnce === true;
      const opened = await this.#placement.opened(stream, socket.generation, { starts });
      this.#beginAt(opened.keptFrom);
      this.#isKnown = true;
      if (this.#cutAtMs === -1) this.#io.say('resumed');
      this.#cutAtMs = undefined;
      this.onAttached();
      const input = this.#target.input;
      if (input !== undefined && !input.rewind(opened.inputOffset ?? 0))
        throw new CliFailure('standard input can not be resumed: the far end asks for what is no longer kept here');
      const sending = input?.feed(stream, opened.inputOffset ?? 0, over.signal).then((isAll) => {
        if (isAll) stream.end(channels.input);
      });
      sending?.catch(() => undefined); // who comes to wait for it sees it
      await this.#receive(stream);
      over.abort();
      await sending;
    } finally {
      over.abort();
      this.#stream = undefined;
      socket.close();
    }
  }

  /** What does not continue what was written is not written: what is missing comes with the next try (SPEC rules S2, S10). */
  async #receive(stream: Stream): Promise<void> {
    const { startsAnywhere: beginsAnywhere = false, endsWithoutExit } = this.#target;
    for await (const item of continuous(stream.read(), this.#from, { beginsAnywhere })) {
      if (item.end) continue;
      if (item.channel === channels.stdout) {
        await this.#io.writeStdout(item.bytes);
        this.#at('stdout', item.offset + item.bytes.byteLength);
      } else if (item.channel === channels.stderr) {
        await this.#io.writeStderr(item.bytes);
        this.#at('stderr', item.offset + item.bytes.byteLength);
      } else this.#event(ProcessEvent.parse(parseJson(item.bytes)));
      if (this.#end !== undefined) return;
    }
    if (endsWithoutExit) this.#end = { exitCode: 0, signal: undefined, reason: 'end' };
  }

  /** Where each output goes on; of one that may begin anywhere only where it has begun. */
  get #from(): OutputOffsets {
    const { stdout, stderr } = this.#after;
    const isKnown = (stream: 'stdout' | 'stderr') => this.#target.startsAnywhere !== true || this.#begun.has(stream);
    return { ...(isKnown('stdout') ? { stdout } : {}), ...(isKnown('stderr') ? { stderr } : {}) };
  }

  /** Of an output that may begin anywhere, where it does, is told before anything comes of it: it may be cut before that. */
  #beginAt(kept: { stdout: number; stderr: number } | undefined): void {
    if (this.#target.startsAnywhere !== true || kept === undefined) return;
    for (const stream of streamNames) if (!this.#begun.has(stream)) this.#at(stream, kept[stream]);
  }

  #at(stream: 'stdout' | 'stderr', offset: number): void {
    this.#begun.add(stream);
    this.#after[stream] = offset;
  }

  #event(event: ProcessEvent): void {
    if (event.kind === 'exit') {
      const lost = this.#lostBytes > 0 ? { lostBytes: this.#lostBytes } : {};
      this.#end = { exitCode: event.exitCode, signal: event.signal, reason: event.reason, ...lost };
    } else if (event.kind === 'inputEnded') this.#target.onInputEnded?.();
    else if (event.kind === 'gap') {
      this.#at(event.stream, event.to);
      const words = `${event.to - event.from} bytes of ${event.stream} are missing (${event.reason}): ${event.from} to ${event.to}`;
      if (!failures.has(event.reason)) return this.#io.say(words);
      this.#lostBytes += event.to - event.from;
      this.#io.warn(words);
    }
  }
}

/** What the shell would see: the exit code, or 128 + the signal's number; 125 when all is well but its output is not whole. */
export function statusOf(end: ProcessEnd): number {
  if (end.exitCode === 0 && end.lostBytes !== undefined) return exitStatus.notRun;
  if (end.exitCode !== undefined) return end.exitCode;
  return statusOfSignal(end.signal);
}

/** 128 + the number of a signal, as shells have it; where it is not known, that of SIGKILL. */
export function statusOfSignal(signal = 'KILL'): number {
  const numbers: Record<string, number> = { HUP: 1, INT: 2, QUIT: 3, ABRT: 6, KILL: 9, SEGV: 11, PIPE: 13, TERM: 15 };
  return 128 + (numbers[signal.replace(/^SIG/, '')] ?? 9);
}

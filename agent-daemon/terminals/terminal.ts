/**
 * One terminal of a session: a process with a pseudo-terminal that the init holds, and the clients that look at it and type.
 * It goes on without them, without the agent and without the engine. It holds no output: that is the log of its process.
 */
import { constants } from 'node:os';
import { type Terminal as TerminalView, terminalBounds, type TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Clock } from '../../schema/ports.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { AgentStream } from '../dispatch.ts';
import { InitRefusal } from '../init/refusal.ts';
import { Bell } from '../bell.ts';
import { Deadline, insist } from '../deadline.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamLog } from '../output/stream-log.ts';
import type { SpoolRef, Spools } from '../output/spools.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import { agentEnding, TerminalInput } from './input.ts';
import { Keeper, type KeeperPorts, type ScreenAt } from './keeper.ts';
import type { KeptTerminal, SavedRecord, SavedTerminal, Size } from './saved.ts';
import { notTakenOver } from '../sessions/not-taken-over.ts';

export interface TerminalPorts extends KeeperPorts {
  clock: Clock;
  spools: Spools;
}

/** The session. */
export interface TerminalOwner {
  ref: SpoolRef;
  /** It is that of the session's main process. */
  isMain: boolean;
  /** While the session runs. */
  supervisor(): Supervisor | undefined;
  /** Starts the process of this one, unless it is there or has ended. @throws Refusal */
  startAgain(terminal: Terminal): Promise<void>;
  save(record: SavedRecord): Promise<void>;
}

export interface Viewer {
  stream: AgentStream;
  /** Absent: it only looks. */
  writer: string | undefined;
  window: TerminalWindow | undefined;
}

/** The agent itself types: answers to what programs ask a terminal. */
const answerer = 'terminal';
/** Whoever types by the operation `process`, which knows of no writers: together they are one, and answer what is asked. */
const processWriter = 'process';
/** What hears of a hang-up and stays is killed after so long. */
const hangUpMs = 2_000;
/** Answers that the program has not read are kept up to so much; then what is asked is answered no more, as by a terminal. */
const maxUnreadAnswers = 4096;
/** Sizes since the kept screen that are remembered. */
const maxSizes = 512;

/** A size as far as a terminal can have it. */
export function boundedWindow(rows: number, columns: number): TerminalWindow {
  const between = (least: number, size: number, most: number) => Math.min(most, Math.max(least, size));
  return { rows: between(1, rows, terminalBounds.rows), columns: between(2, columns, terminalBounds.columns) };
}

export class Terminal {
  readonly saved: SavedTerminal;
  /** A client's view of it changed: size, end. */
  readonly bell = new Bell();
  readonly sizes: Size[];
  readonly #owner: TerminalOwner;
  readonly #ports: TerminalPorts;
  readonly #viewers = new Set<Viewer>();
  readonly #stopping = new AbortController();
  readonly #turns: KeptTerminal['turns'];
  readonly #closing: Deadline;
  #input: TerminalInput | undefined;
  #opened: Promise<{ spool: ProcessSpool; done(): Promise<void> }> | undefined;
  #keeper: Promise<Keeper> | undefined;
  #activeAtMs: number | undefined;
  #unreadAnswers = 0;

  constructor(owner: TerminalOwner, ports: TerminalPorts, { saved, sizes, turns }: KeptTerminal) {
    this.#owner = owner;
    this.#ports = ports;
    this.#closing = new Deadline(ports);
    this.saved = saved;
    this.sizes = [{ ...saved.request.window, at: 0 }, ...sizes];
    this.#turns = turns;
  }

  get processId(): string {
    return this.#owner.ref.processId;
  }

  get window(): TerminalWindow {
    const { rows, columns } = this.sizes.at(-1)!;
    return { rows, columns };
  }

  /** Begins to draw it, once. Its process was started by now, or by an earlier agent process. */
  async start({ isNew }: { isNew: boolean }): Promise<void> {
    const { spool } = await this.#open();
    if (this.#keeper !== undefined) return;
    // Who kept its size may have died before it had it.
    const { rows, columns } = this.window;
    if (!isNew && this.sizes.length > 1 && spool.record.exit === undefined)
      this.#owner
        .supervisor()
        ?.link.resize(this.processId, rows, columns)
        .catch(() => undefined);
    // What an earlier agent process was asked, it answered.
    const keeper = new Keeper(this.#keeperOwner(), this.#ports, spool, isNew ? 0 : spool.log('stdout').end);
    this.#keeper = Promise.resolve(keeper);
    void keeper.run(this.#stopping.signal);
    this.#viewersChanged();
  }

  /**
   * Begins to draw what an earlier agent process left, and starts what that one had kept and not started, in the end; `failed`
   * is told of each time in vain.
   */
  takeUp(failed: (error: unknown) => void): void {
    const { timers } = this.#ports;
    insist({ timers, signal: this.#stopping.signal, failed }, async () => {
      await this.start({ isNew: false });
      if (!(await this.isRunning())) return;
      const supervisor = this.#owner.supervisor();
      if (supervisor !== undefined) await this.#whenBegun(supervisor, this.#stopping.signal);
    }).catch(failed);
  }

  async view(): Promise<TerminalView> {
    const { terminalId: id, request, startedAtMs } = this.saved;
    const { name, exclusive, closeAfterMs } = request;
    const { record, totals } = (await this.#open()).spool;
    const { exitCode, signal, reason = '' } = record.exit ?? {};
    const exit = {
      ...(exitCode === undefined ? {} : { exitCode }),
      ...(signal === undefined ? {} : { signal }),
      reason,
    };
    return {
      id,
      ...(name === undefined ? {} : { name }),
      argv: record.argv,
      state: record.exit === undefined ? 'running' : 'ended',
      window: this.window,
      viewers: this.#viewers.size,
      writers: this.#writers.length,
      exclusive,
      ...(closeAfterMs === undefined ? {} : { closeAfterMs }),
      startedAtMs,
      ...(this.#activeAtMs === undefined ? {} : { activeAtMs: this.#activeAtMs }),
      outputBytes: totals.stdout,
      ...(record.exit === undefined ? {} : { exit }),
    };
  }

  async isRunning(): Promise<boolean> {
    return (await this.#open()).spool.record.exit === undefined;
  }

  /** Its output, and how it ended. @throws Refusal `session_output_gone` */
  async spool(): Promise<ProcessSpool> {
    return (await this.#open()).spool;
  }

  /** Draws it as it is now. @throws Refusal */
  async screen(): Promise<ScreenAt> {
    return (await this.#keeper)?.screen() ?? Promise.reject(new Refusal('terminal_screen_lost'));
  }

  // ---- those who look and type ----

  /** @throws Refusal `terminal_busy`, `tunnel_stream_limit` */
  enter(viewer: Viewer): void {
    const { writer } = viewer;
    // The same client again: its former stream is half open at most.
    for (const former of this.#writers) {
      if (former.writer !== writer || writer === processWriter) continue;
      former.stream.reset('terminal_busy', 'The same writer came by another stream.');
      this.#viewers.delete(former);
    }
    if (writer !== undefined && this.saved.request.exclusive && this.#writers.length > 0)
      throw new Refusal('terminal_busy', 'It was made for one writer at a time.');
    if (this.#viewers.size >= limits.terminalViewers)
      throw new Refusal('tunnel_stream_limit', `A terminal has at most ${limits.terminalViewers} viewers.`);
    // Whoever has a link to it must not keep those out who may type.
    if (writer === undefined && this.#viewers.size - this.#writers.length >= limits.terminalLookers)
      throw new Refusal('tunnel_stream_limit', `At most ${limits.terminalLookers} may only look at a terminal.`);
    this.#viewers.add(viewer);
    this.#viewersChanged();
  }

  leave(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    this.#viewersChanged();
  }

  /** A client of the operation `process` comes to type; `inputOffset`: where it goes on. It `leave`s. @throws Refusal */
  async enterAsProcess(stream: AgentStream): Promise<{ viewer: Viewer; inputOffset: number }> {
    const viewer = { stream, writer: processWriter, window: undefined };
    this.enter(viewer);
    try {
      const input = await this.#known(stream.closed);
      // What was typed before there were writers was typed by it.
      return { viewer, inputOffset: await input.begin(processWriter, input.turns.length === 0 ? input.at : 0) };
    } catch (error) {
      this.leave(viewer);
      throw error;
    }
  }

  /** Where this writer goes on; `from`: if it is not known. Waits until it is known how the process stands. @throws Refusal */
  async begin(writer: string, from: number, signal: AbortSignal): Promise<number> {
    if (!(await this.isRunning())) return from;
    return (await this.#known(signal)).begin(writer, from);
  }

  /** Resolves when the terminal has taken the bytes. @throws Refusal, InitRefusal */
  async type({ writer }: Viewer, offset: number, bytes: Uint8Array): Promise<void> {
    if (writer === undefined) return;
    this.#activeAtMs = this.#ports.clock.nowMs();
    // What came before its client left was typed all the same.
    await (await this.#known(this.#stopping.signal)).write(writer, offset, bytes);
  }

  /** The terminal gets the size of the window of who typed last. */
  async resize(viewer: Viewer, window: TerminalWindow): Promise<void> {
    viewer.window = window;
    const { rows, columns } = this.window;
    if (rows === window.rows && columns === window.columns) return;
    const at = (await this.#log()).end;
    const size = { ...window, at };
    if (this.sizes.at(-1)!.at === at && this.sizes.length > 1) this.sizes.pop();
    this.sizes.push(size);
    if (this.sizes.length > maxSizes) this.sizes.splice(0, 1);
    await this.#owner.save({ terminalId: this.saved.terminalId, size });
    await this.#owner.supervisor()?.link.resize(this.processId, window.rows, window.columns);
    (await this.#keeper)?.notice();
    this.bell.ring();
  }

  async signal(name: 'INT' | 'TERM' | 'HUP' | 'QUIT' | 'KILL'): Promise<void> {
    await this.#owner.supervisor()?.link.signal(this.processId, constants.signals[`SIG${name}`]);
  }

  /** Hangs up, and resolves when it has ended, or `signal` aborts. */
  async close(signal: AbortSignal): Promise<void> {
    const send = (number: number) =>
      this.#owner
        .supervisor()
        ?.link.signal(this.processId, number, 'session')
        .catch(() => undefined);
    if (!(await this.isRunning())) return;
    await send(constants.signals.SIGHUP);
    await send(constants.signals.SIGCONT);
    const cancel = this.#ports.timers.after(hangUpMs, () => void send(constants.signals.SIGKILL));
    const either = AbortSignal.any([signal, this.#stopping.signal]);
    for (let turn = this.bell.turn; (await this.isRunning()) && !either.aborted; turn = this.bell.turn)
      await this.bell.past(turn, either);
    cancel();
  }

  /** Lets go, for the end of the agent, or since nobody can ask for it any more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#input?.stop();
    this.#closing.cancel();
    await (await this.#opened?.catch(() => undefined))?.done();
  }

  get #writers(): Viewer[] {
    return [...this.#viewers].filter(({ writer }) => writer !== undefined);
  }

  #open(): Promise<{ spool: ProcessSpool; done(): Promise<void> }> {
    this.#opened ??= this.#read().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #read(): Promise<{ spool: ProcessSpool; done(): Promise<void> }> {
    const read = await this.#ports.spools.read(this.#owner.ref);
    if (read === undefined) throw new Refusal('session_output_gone', 'Nothing of this terminal is kept any more.');
    return read;
  }

  async #log(): Promise<StreamLog> {
    return (await this.#open()).spool.log('stdout');
  }

  #keeperOwner() {
    return {
      sizes: this.sizes,
      isMain: this.#owner.isMain,
      isWatched: () => this.#viewers.size > 0,
      wrote: () => (this.#activeAtMs = this.#ports.clock.nowMs()),
      answer: (text: string) => void this.#answer(text).catch(() => undefined),
      ended: () => this.bell.ring(),
    };
  }

  async #answer(text: string): Promise<void> {
    if (this.#unreadAnswers >= maxUnreadAnswers) return;
    if (this.#writers.some(({ writer }) => writer === processWriter)) return;
    this.#unreadAnswers += text.length;
    try {
      await (await this.#known(this.#stopping.signal)).append(answerer, Buffer.from(text, 'latin1'));
    } finally {
      this.#unreadAnswers -= text.length;
    }
  }

  /** Its input, once the init has said how much of it there is. @throws Refusal */
  async #known(signal: AbortSignal): Promise<TerminalInput> {
    const supervisor = this.#owner.supervisor();
    if (supervisor === undefined) throw notTakenOver();
    await this.#whenBegun(supervisor, signal);
    if (supervisor.givenUp.aborted) throw new Refusal('session_not_running', 'The session does not run (any more).');
    // Who types could not be kept any more.
    if (this.#stopping.signal.aborted) throw agentEnding();
    this.#input ??= this.#makeInput(supervisor);
    return this.#input;
  }

  /** Resolves when the init has its process: the agent that kept the terminal may have died before it started that. @throws Refusal */
  async #whenBegun(supervisor: Supervisor, signal: AbortSignal): Promise<void> {
    await supervisor.whenKnown(this.processId, signal);
    if (this.#owner.isMain || supervisor.givenUp.aborted || supervisor.isLive(this.processId)) return;
    await this.#owner.startAgain(this);
  }

  #makeInput(supervisor: Supervisor): TerminalInput {
    const { processId } = this;
    const { terminalId } = this.saved;
    return new TerminalInput(
      {
        write: (offset, bytes) => supervisor.writeInput(processId, offset, bytes),
        save: (turns) => this.#owner.save({ terminalId, turns }),
        turned: (writer) => this.#turned(writer),
      },
      { turns: this.#turns, at: supervisor.inputOffset(processId) },
    );
  }

  /** Turns to be kept when the file is written anew. */
  get turns(): KeptTerminal['turns'] {
    return this.#input?.turns ?? this.#turns;
  }

  async #turned(writer: string): Promise<void> {
    const viewer = this.#writers.find((each) => each.writer === writer);
    if (viewer?.window === undefined) return;
    try {
      await this.resize(viewer, viewer.window);
    } catch (error) {
      // One that has ended has no size.
      if (!(error instanceof InitRefusal)) throw error;
    }
  }

  /** Nobody looks at it: it is hung up after a while, if that was asked for. */
  #viewersChanged(): void {
    this.#closing.cancel();
    const { closeAfterMs } = this.saved.request;
    if (closeAfterMs === undefined || this.#viewers.size > 0 || this.#stopping.signal.aborted) return;
    this.#closing.at(this.#ports.clock.bootMs() + closeAfterMs, () => {
      this.close(this.#stopping.signal).catch((error: unknown) => {
        this.#ports.log.warn('a terminal that nobody looks at could not be closed', { error: String(error) });
      });
    });
  }
}

/**
 * The terminals of one session at one generation: which there are, and what is kept of them so that the next agent process
 * goes on. It knows nothing of clients.
 */
import { createHash } from 'node:crypto';
import {
  mainTerminalName,
  shellOf,
  type Terminal as TerminalView,
  TerminalRequest,
} from '../../schema/api/terminal-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import type { SpawnSpec } from '../init/messages.ts';
import type { ProcessRecord } from '../output/process-record.ts';
import { derivedProcessId } from '../processes/derived-id.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import { RecordFile } from '../tunnel/record-file.ts';
import { type KeptTerminal, restore, type SavedRecord } from './saved.ts';
import { Terminal, type TerminalPorts } from './terminal.ts';

/** The session. */
export interface TerminalsOwner {
  sessionId: string;
  generation: number;
  /** File of its terminals, and whether an earlier agent process left one. */
  path: string;
  wereLeft: boolean;
  /** The session's main process, where that has a terminal: it is one of these. */
  mainProcessId: string | undefined;
  /** While the session runs. */
  supervisor(): Supervisor | undefined;
  /** What to start, and what is kept of it. */
  spawnOf(
    processId: string,
    spawn: ProcessSpawn,
    output: Pick<ProcessRecord['output'], 'spoolBytes'>,
  ): Promise<{ spec: SpawnSpec; record: ProcessRecord }>;
}

/** Of output that is kept of a terminal. */
const spoolBytes = 8 * 1024 * 1024;
/** Ended ones that are listed still; the oldest go first. */
const maxEnded = 16;
const compactBytes = 1024 * 1024;

export class SessionTerminals {
  readonly #ports: TerminalPorts;
  readonly #owner: TerminalsOwner;
  readonly #terminals = new Map<string, Terminal>();
  #file: Promise<RecordFile> | undefined;
  #mainOpened: Promise<void> | undefined;
  /** Two are not made at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(owner: TerminalsOwner, ports: TerminalPorts) {
    this.#owner = owner;
    this.#ports = ports;
  }

  /** Takes up what an earlier agent process left. */
  async adopt(): Promise<void> {
    if (this.#owner.wereLeft) await this.#open();
    await this.openMain({ isNew: false });
  }

  /** The main process was started, by now or by an earlier agent process: its terminal is shown. Never rejects. */
  async openMain({ isNew }: { isNew: boolean }): Promise<void> {
    const terminalId = this.#mainId;
    if (terminalId === undefined) return;
    this.#mainOpened ??= this.#openMain(terminalId, isNew);
    await this.#mainOpened;
  }

  /** The terminal of a process, if that is the session's main one with a terminal; while the session runs. */
  async mainOf(processId: string): Promise<Terminal | undefined> {
    const terminalId = this.#mainId;
    if (terminalId === undefined || processId !== this.#owner.mainProcessId) return undefined;
    await this.openMain({ isNew: false });
    return this.#terminals.get(terminalId);
  }

  async #openMain(terminalId: string, isNew: boolean): Promise<void> {
    try {
      await this.#open();
      if (this.#terminals.has(terminalId)) return;
      const request = { ...TerminalRequest.parse({ name: mainTerminalName }), argv: [mainTerminalName] };
      const saved = { terminalId, request, digest: '', startedAtMs: this.#ports.clock.nowMs(), closed: false };
      const terminal = this.#make({ saved, sizes: [], turns: [] });
      await terminal.start({ isNew });
      this.#terminals.set(terminalId, terminal);
      await this.#save({ terminal: saved });
    } catch (error) {
      // The process goes on, and its output is kept. Whoever asks for it next has it opened again.
      this.#mainOpened = undefined;
      this.#ports.log.warn('the terminal of a main process can not be shown', { error: String(error) });
    }
  }

  async list(): Promise<TerminalView[]> {
    await this.#open();
    const views = await Promise.all(this.#listed.map((terminal) => terminal.view().catch(() => undefined)));
    return views.filter((view) => view !== undefined);
  }

  /** Makes a terminal under an id of the caller's, or finds it. @throws Refusal */
  async start(terminalId: string, request: TerminalRequest): Promise<TerminalView> {
    await this.#open();
    const whole = { ...request, argv: request.argv ?? shellOf() };
    const digest = digestOf(whole);
    const terminal = await this.#inTurn(async () => {
      const known = this.#terminals.get(terminalId);
      if (known !== undefined && known.saved.digest !== digest)
        throw new Refusal('terminal_conflict', 'The id was used with another request. Choose a new one.');
      if (known === undefined) return this.#start(terminalId, whole, digest);
      await this.#startAgain(known);
      return known;
    });
    return terminal.view();
  }

  /** @throws Refusal `terminal_not_found` */
  async get(terminalId: string): Promise<Terminal> {
    await this.#open();
    const terminal = this.#terminals.get(terminalId);
    if (terminal === undefined || terminal.saved.closed) throw new Refusal('terminal_not_found');
    return terminal;
  }

  /** Hangs it up; it is not listed any more. */
  async close(terminalId: string, signal: AbortSignal): Promise<TerminalView> {
    const terminal = await this.get(terminalId);
    if (terminalId === this.#mainId && (await terminal.isRunning()))
      throw new Refusal('terminal_conflict', 'It is that of the main process: end the session instead.');
    await terminal.close(signal);
    await this.#forget(terminal);
    return terminal.view();
  }

  /** True for a process that is a terminal beside the main one: it is typed into by its own streams alone. */
  owns(processId: string): boolean {
    if (processId === this.#owner.mainProcessId) return false;
    return [...this.#terminals.values()].some((terminal) => terminal.processId === processId);
  }

  /** Lets go, for the end of the agent. */
  async stop(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#terminals.values()].map((terminal) => terminal.stop()));
    await (await this.#file)?.close();
  }

  /** Nothing is kept any more. */
  async remove(): Promise<void> {
    await this.stop();
    if (this.#file === undefined && !this.#owner.wereLeft) return;
    await this.#ports.disk.rm(this.#owner.path, { force: true });
  }

  /** The id of the main process's terminal: always the same for a placement. */
  get #mainId(): string | undefined {
    const { mainProcessId } = this.#owner;
    if (mainProcessId === undefined) return undefined;
    return `trm_${derivedProcessId(`terminal of ${mainProcessId}`).slice('prc_'.length)}`;
  }

  /** That were not closed. */
  get #listed(): Terminal[] {
    return [...this.#terminals.values()].filter(({ saved }) => !saved.closed);
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #start(terminalId: string, request: KeptTerminal['saved']['request'], digest: string): Promise<Terminal> {
    const supervisor = this.#owner.supervisor();
    if (supervisor === undefined) throw new Refusal('session_not_running', 'The session does not run (any more).');
    const listed = this.#listed.filter(({ saved }) => saved.terminalId !== this.#mainId);
    const running = await Promise.all(listed.map((each) => each.isRunning().catch(() => false)));
    if (running.filter(Boolean).length >= limits.terminalsPerSession)
      throw new Refusal('terminal_limit', `A session has at most ${limits.terminalsPerSession}.`);
    const { name } = request;
    if (name === mainTerminalName) throw new Refusal('terminal_conflict', 'The name is kept for the main process.');
    if (name !== undefined && listed.some(({ saved }, at) => running[at] === true && saved.request.name === name))
      throw new Refusal('terminal_conflict', 'A terminal of the session that runs has this name.');
    const ended = listed.filter((_, index) => running[index] === false);
    for (const old of ended.slice(0, Math.max(0, ended.length - maxEnded + 1))) await this.#forget(old);
    const { spec, record } = await this.#spawnOf(terminalId, request);
    const saved = { terminalId, request, digest, startedAtMs: this.#ports.clock.nowMs(), closed: false };
    const terminal = this.#make({ saved, sizes: [], turns: [] });
    this.#terminals.set(terminalId, terminal);
    try {
      await this.#save({ terminal: saved });
      await supervisor.spawn(spec, record);
      await terminal.start({ isNew: true });
    } catch (error) {
      // Under the same id it may be asked for again.
      this.#terminals.delete(terminalId);
      await this.#forget(terminal);
      throw error;
    }
    return terminal;
  }

  /** The same was asked for before: an agent that died just then may have kept the terminal, and not started its process. */
  async #startAgain(terminal: Terminal): Promise<void> {
    const { terminalId, request, closed } = terminal.saved;
    const supervisor = this.#owner.supervisor();
    if (closed || supervisor === undefined || supervisor.isLive(terminal.processId)) return;
    const spool = await terminal.spool().catch((error: unknown) => {
      if (error instanceof Refusal) return undefined;
      throw error;
    });
    if (spool?.record.exit !== undefined) return;
    const { spec, record } = await this.#spawnOf(terminalId, request);
    await supervisor.spawnOnce(spec, record);
    await terminal.start({ isNew: spool === undefined });
  }

  #spawnOf(terminalId: string, { argv, env, cwd, window }: KeptTerminal['saved']['request']) {
    const spawn: ProcessSpawn = {
      argv,
      ...(env === undefined ? {} : { env }),
      ...(cwd === undefined ? {} : { cwd }),
      tty: window,
      stdin: true,
    };
    return this.#owner.spawnOf(processIdOf(terminalId), spawn, { spoolBytes });
  }

  #make(kept: KeptTerminal): Terminal {
    const { sessionId, generation } = this.#owner;
    const { terminalId } = kept.saved;
    const isMain = terminalId === this.#mainId;
    const processId = (isMain ? this.#owner.mainProcessId : undefined) ?? processIdOf(terminalId);
    const owner = {
      ref: { sessionId, generation, processId },
      isMain,
      supervisor: () => this.#owner.supervisor(),
      startAgain: (terminal: Terminal) => this.#inTurn(() => this.#startAgain(terminal)),
      save: (record: SavedRecord) => this.#save(record),
    };
    return new Terminal(owner, this.#ports, kept);
  }

  async #forget(terminal: Terminal): Promise<void> {
    const { terminalId } = terminal.saved;
    terminal.saved.closed = true;
    await terminal.stop();
    await this.#save({ terminalId, closed: true });
    if (this.#terminals.size > 4 * maxEnded)
      for (const [id, { saved }] of this.#terminals) if (saved.closed) this.#terminals.delete(id);
  }

  // ---- what is kept ----

  #open(): Promise<RecordFile> {
    // A disk that was full is asked again.
    this.#file ??= this.#load().catch((error: unknown) => {
      this.#file = undefined;
      throw error;
    });
    return this.#file;
  }

  async #load(): Promise<RecordFile> {
    const { disk, timers, log } = this.#ports;
    const { path } = this.#owner;
    const { file, records } = await RecordFile.open(
      path,
      disk,
      {
        live: () => this.#live(),
        failing: (error) => log.warn('terminals can not be kept yet', { path, error: String(error) }),
        pause: (delayMs) => new Promise((resolve) => void timers.after(delayMs, resolve)),
      },
      { sync: false },
    );
    for (const kept of restore(records)) this.#adopt(kept);
    return file;
  }

  #adopt(kept: KeptTerminal): void {
    const { terminalId, closed } = kept.saved;
    const terminal = this.#make(kept);
    this.#terminals.set(terminalId, terminal);
    if (closed) return;
    terminal.takeUp((error) => {
      this.#ports.log.warn('a terminal could not be taken up', { terminalId, error: String(error) });
    });
  }

  async #save(record: SavedRecord): Promise<void> {
    if (this.#isClosed) return;
    const file = await this.#open();
    if (file.sizeBytes > compactBytes) await file.compact();
    await file.append(record);
  }

  #live(): SavedRecord[] {
    return [...this.#terminals.values()].flatMap((terminal): SavedRecord[] => {
      const { saved, sizes, turns } = terminal;
      const { terminalId } = saved;
      return [
        { terminal: saved },
        ...sizes.map((size) => ({ terminalId, size })),
        ...(turns.length === 0 ? [] : [{ terminalId, turns }]),
      ];
    });
  }
}

function processIdOf(terminalId: string): string {
  return derivedProcessId(`terminal ${terminalId}`);
}

/** What makes two requests the same one: not the window, which a client may have changed meanwhile. */
function digestOf({ name, argv, env, cwd, exclusive, closeAfterMs }: TerminalRequest): string {
  return createHash('sha256')
    .update(JSON.stringify([argv, env, cwd, exclusive, closeAfterMs, ...(name === undefined ? [] : [name])]))
    .digest('hex');
}

/**
 * The processes of one session at one generation: starts them through causeway-init, brings their output into the spool
 * and acknowledges it only then, and records their ends after all their output. It survives the init's reconnects and,
 * with the spool on disk, the death of the agent. It decides nothing about the session: it tells the owner.
 */
import { constants } from 'node:os';
import { Refusal } from '../../schema/errors.ts';
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Clock, Failpoints, Log, Random, Timers } from '../../schema/ports.ts';
import type { ProcessExit as InitExit, ProcessState, SpawnSpec, StreamNumber } from '../init/messages.ts';
import { insist } from '../deadline.ts';
import { InitLink } from '../init/link.ts';
import type { InitDoor, InitTransport, Soon } from '../init/link-options.ts';
import { InitRefusal } from '../init/refusal.ts';
import type { SessionKey } from '../init/session-key.ts';
import type { ProcessExit, ProcessRecord } from '../output/process-record.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamName } from '../output/segment.ts';
import type { SpoolRef, Spools } from '../output/spools.ts';
import { toProcessExit } from './exit.ts';

export interface SupervisorPorts {
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  door: InitDoor;
  soon: Soon;
  failpoints: Failpoints<AgentFailpoint>;
  spools: Spools;
}

/** The session that owns the processes. */
export interface SupervisorOwner {
  sessionId: string;
  generation: number;
  /** The init is there (again). */
  connected(init: { leaseExpired: boolean; terminating: boolean }): void;
  leaseExpired(): void;
  /** Why this process ended, in a word: `exited`, or what the session did to it. */
  reasonOf(processId: string, exit: InitExit): Promise<string>;
  /** Everything of this process is recorded. */
  ended(processId: string, exit: ProcessExit): void;
}

/** How the init is reached. */
export interface InitPlace {
  /** Directory with the init's socket, and the key that opens it. */
  runDir: string;
  sessionKey: SessionKey | undefined;
  transport: InitTransport;
  saveSessionKey(key: SessionKey): Promise<void>;
}

interface Live {
  spool: ProcessSpool;
  finishing: boolean;
  /** Bytes of stdin that the process's pipe is known to have taken. */
  inputOffset: number;
  /** Nobody asks for it any more: nothing of it is kept behind its end. */
  abandoned: boolean;
}

const streamNumbers = { stdout: 1, stderr: 2 } as const satisfies Record<StreamName, StreamNumber>;
const streamName = (stream: StreamNumber): StreamName => (stream === 1 ? 'stdout' : 'stderr');
/** Ended processes of a live session of which the output is kept: the oldest go first. */
const maxEnded = 1000;
/** Stands in the record of a process of one connection, which no client can ask for again: it ends with its connection. */
export const attendedSpawn = 'ssh';
/** How long a client that has input waits for a session that is out of contact. */
const contactMs = 5_000;
const retryMs = 1_000;

export class Supervisor {
  readonly link: InitLink;
  #owner: SupervisorOwner;
  readonly #ports: SupervisorPorts;
  readonly #live = new Map<string, Live>();
  readonly #loading = new Map<string, Promise<Live>>();
  readonly #givenUp = new AbortController();
  readonly #takingOver = new Set<string>();
  #endedIds: string[] = [];

  constructor(owner: SupervisorOwner, place: InitPlace, ports: SupervisorPorts) {
    this.#owner = owner;
    this.#ports = ports;
    this.link = new InitLink({
      ...ports,
      dir: place.runDir,
      transport: place.transport,
      sessionKey: place.sessionKey,
      saveSessionKey: (key) => place.saveSessionKey(key),
      onConnected: (init) => this.#owner.connected(init),
      onLeaseExpired: () => this.#owner.leaseExpired(),
      onProcesses: (states) => states.forEach((state) => this.#takeOver(state)),
      onOutput: (processId, stream, offset, timeMs, bytes) =>
        this.#live.get(processId)?.spool.log(streamName(stream)).append(offset, timeMs, bytes),
      onGap: (processId, stream, _from, to) =>
        this.#live.get(processId)?.spool.log(streamName(stream)).appendGap(to, 'ring-full'),
      onExit: (processId, exit) => {
        if (exit.final) this.#watch('the end of a process', this.#finish(processId, exit));
      },
    });
  }

  /** A container in which there was no process yet is another's from now on. */
  giveTo(owner: SupervisorOwner): void {
    this.#owner = owner;
  }

  /**
   * Starts a process, or finds the one with this id and the same request. Its spool tells whether it has ended.
   * @throws Refusal `process_conflict` when the id was used for another request, `process_limit`, `session_not_running`,
   *   `request_body_invalid` when the request is more than an init takes
   */
  async spawn(spec: SpawnSpec, record: ProcessRecord): Promise<ProcessSpool> {
    const ref = this.#ref(spec.processId);
    const known = this.#live.get(spec.processId)?.spool ?? (await this.#ports.spools.openLive(ref));
    if (known !== undefined && known.record.spawn !== record.spawn) {
      throw new Refusal('process_conflict', 'The process id was used with another command. Choose a new id.');
    }
    if (known?.record.exit !== undefined) return known;
    const open = () => (known === undefined ? this.#ports.spools.make(ref, record) : Promise.resolve(known));
    const live = await this.#hold(spec.processId, open);
    try {
      await this.link.spawn(spec);
    } catch (error) {
      throw await this.#notSpawned(ref, error);
    }
    return live.spool;
  }

  /**
   * As {@link spawn}, of a process that its id names whole: one that was started under it is found in whatever words. What a
   * kernelspec says, or an agent of another release, may differ from what an agent that died just then had asked for.
   */
  async spawnOnce(spec: SpawnSpec, record: ProcessRecord): Promise<ProcessSpool> {
    try {
      return await this.spawn(spec, record);
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'process_conflict') throw error;
    }
    const { processId } = spec;
    const ref = this.#ref(processId);
    await this.link.ready().catch(async (error: unknown) => Promise.reject(await this.#notSpawned(ref, error)));
    await this.#loading.get(processId);
    const known = this.#live.get(processId)?.spool ?? (await this.#ports.spools.openLive(ref));
    if (known !== undefined && (this.#live.has(processId) || known.record.exit !== undefined)) return known;
    // The init has never heard of it.
    await this.#ports.spools.forget(ref);
    return this.spawn(spec, record);
  }

  /**
   * Resolves when it is known how this process stands: the init is there and was heard, or will never be ({@link givenUp}).
   * @throws Refusal `session_not_running` after 5 s, or when `signal` aborts
   */
  async whenKnown(processId: string, signal: AbortSignal): Promise<void> {
    const isLate = await this.#whenHeard([signal, this.#givenUp.signal]);
    await this.#loading.get(processId);
    if (isLate || signal.aborted) {
      throw new Refusal('session_not_running', 'The session can not be reached now. Try again in a moment.');
    }
  }

  /**
   * Resolves when the init is there, or one of `signals` aborts; true: after 5 s of neither. It is asked for each key that is
   * typed, so it leaves nothing behind: a signal that is made of several is kept as long as they are.
   */
  async #whenHeard(signals: readonly AbortSignal[]): Promise<boolean> {
    if (signals.some(({ aborted }) => aborted)) return false;
    const { promise: over, resolve } = Promise.withResolvers<boolean>();
    const stop = () => resolve(false);
    const cancel = this.#ports.timers.after(contactMs, () => resolve(true));
    for (const each of signals) each.addEventListener('abort', stop);
    try {
      return await Promise.race([this.link.ready().then(() => false), over]);
    } finally {
      cancel();
      for (const each of signals) each.removeEventListener('abort', stop);
    }
  }

  /** From where a client continues with stdin; 0 for a process that is not alive. */
  inputOffset(processId: string): number {
    return this.#live.get(processId)?.inputOffset ?? 0;
  }

  /** Writes to stdin; what lies before the offset that the process has is skipped. @throws InitRefusal */
  async writeInput(processId: string, offset: number, bytes: Uint8Array): Promise<void> {
    const written = await this.link.writeStdin(processId, offset, bytes);
    const live = this.#live.get(processId);
    if (live !== undefined) live.inputOffset = Math.max(live.inputOffset, written);
  }

  /** Aborts when there are no processes any more: the container is gone, or the agent ends. */
  get givenUp(): AbortSignal {
    return this.#givenUp.signal;
  }

  /** Nobody is there for this process any more: it hears of it as from a terminal that hangs up, and its output is let go of. */
  abandon(processId: string): void {
    const live = this.#live.get(processId);
    if (live === undefined) return;
    const { spool } = live;
    live.abandoned = true;
    for (const name of ['stdout', 'stderr'] as const) {
      spool.log(name).follow({ position: Number.POSITIVE_INFINITY });
      spool.log(name).followerMoved();
    }
    for (const signal of [constants.signals.SIGHUP, constants.signals.SIGCONT])
      this.link.signal(processId, signal, 'session').catch(() => undefined);
    this.link.closeStdin(processId).catch(() => undefined);
  }

  /** True while the process is alive or its end is not recorded yet. */
  isLive(processId: string): boolean {
    return this.#live.has(processId) || this.#loading.has(processId);
  }

  /** Resolves when no process is left whose end is not recorded, or `signal` aborts. */
  async whenAllEnded(signal: AbortSignal): Promise<void> {
    while (this.#live.size + this.#loading.size > 0 && !signal.aborted) {
      await new Promise<void>((resolve) => void this.#ports.timers.after(20, resolve));
    }
  }

  /** The container is gone: whatever had not ended has ended now, with this reason. */
  async giveUp(reason: string): Promise<void> {
    this.#givenUp.abort();
    await this.link.close();
    await Promise.allSettled(this.#loading.values());
    for (const [processId, { spool }] of this.#live) {
      await spool.settled();
      await this.#record(processId, spool, { reason, atMs: this.#ports.clock.nowMs() });
    }
  }

  /** Lets go of the init, which goes on; for the end of the agent. */
  async close(): Promise<void> {
    this.#givenUp.abort();
    await this.link.close();
  }

  #ref(processId: string): SpoolRef {
    return { sessionId: this.#owner.sessionId, generation: this.#owner.generation, processId };
  }

  /** Makes a spool the live one of its process: from now on output flows into it and is acknowledged. */
  #hold(processId: string, open: () => Promise<ProcessSpool>): Promise<Live> {
    const held = this.#live.get(processId);
    if (held !== undefined) return Promise.resolve(held);
    const loading = this.#loading.get(processId) ?? this.#load(processId, open);
    this.#loading.set(processId, loading);
    return loading;
  }

  async #load(processId: string, open: () => Promise<ProcessSpool>): Promise<Live> {
    try {
      const spool = await open();
      spool.feedFrom({
        stored: (stream, offset) => this.link.ack(processId, streamNumbers[stream], offset),
        continueAt: (stream, offset) => this.link.resume(processId, streamNumbers[stream], offset),
      });
      const live = { spool, finishing: false, inputOffset: 0, abandoned: false };
      this.#live.set(processId, live);
      return live;
    } finally {
      this.#loading.delete(processId);
    }
  }

  /** A process that the init knows and perhaps this agent does not: its output goes on where the spool ends. */
  #takeOver(state: ProcessState): void {
    const live = this.#live.get(state.processId);
    if (live !== undefined) live.inputOffset = Math.max(live.inputOffset, state.stdinOffset);
    // Somebody may be about to ask for it again, and hold its spool already: it is taken over all the same.
    if (live !== undefined || this.#takingOver.has(state.processId)) return;
    this.#takingOver.add(state.processId);
    const taken = this.#takeOverNow(state).finally(() => this.#takingOver.delete(state.processId));
    this.#watch('taking over a process', taken);
  }

  async #takeOverNow(state: ProcessState): Promise<void> {
    const { processId } = state;
    const ref = this.#ref(processId);
    const live = await this.#hold(processId, () =>
      this.#insist(() => this.#ports.spools.create(ref, unknownRecord(state))),
    );
    const { spool } = live;
    if (spool.record.exit !== undefined) {
      // Its end was recorded, and only the init has not heard of it.
      this.#live.delete(processId);
      await this.#ports.spools.close(ref);
      return this.link.release(processId);
    }
    live.inputOffset = Math.max(live.inputOffset, state.stdinOffset);
    for (const name of ['stdout', 'stderr'] as const) {
      const stream = streamNumbers[name];
      // What the agent itself added behind the end is not the init's.
      const end = Math.min(spool.log(name).end, state.ends[stream]);
      // The one that stored it may have died before it could say so: a ring that is full of it would send nothing more.
      this.link.ack(processId, stream, end);
      this.link.resume(processId, stream, end);
    }
    // Its connection ended with the agent that carried it.
    if (spool.record.spawn === attendedSpawn) this.abandon(processId);
    // Its EXIT came before the list, when nobody knew it yet.
    if (state.exit?.final === true) await this.#finish(processId, state.exit);
  }

  /** The init lists it only when it connects again. */
  async #insist<T>(open: () => Promise<T>): Promise<T> {
    const { timers, log } = this.#ports;
    const { sessionId } = this.#owner;
    const failed = (error: unknown) =>
      log.warn('a process can not be taken over yet', { sessionId, error: String(error) });
    const opened = await insist({ timers, signal: this.#givenUp.signal, failed }, open);
    if (opened === undefined) throw new Refusal('session_not_running', 'The session does not run (any more).');
    return opened;
  }

  async #finish(processId: string, exit: InitExit): Promise<void> {
    const live = this.#live.get(processId) ?? (await this.#loading.get(processId));
    if (live === undefined || live.finishing) return;
    live.finishing = true;
    try {
      await this.#finishNow(processId, live.spool, exit);
    } catch (error) {
      // The init tells the exit again only when it connects again: this is tried until it is recorded.
      live.finishing = false;
      if (!this.#givenUp.signal.aborted) this.#ports.timers.after(retryMs, () => this.#finishAgain(processId, exit));
      throw error;
    }
  }

  #finishAgain(processId: string, exit: InitExit): void {
    this.#watch('the end of a process', this.#finish(processId, exit));
  }

  async #finishNow(processId: string, spool: ProcessSpool, exit: InitExit): Promise<void> {
    await this.#whenStored(spool, 'stdout', exit.ends[1]);
    await this.#whenStored(spool, 'stderr', exit.ends[2]);
    if (this.#givenUp.signal.aborted) return;
    if (exit.kind === 'failed') await this.#sayWhy(spool, exit);
    await this.#record(processId, spool, toProcessExit(exit, await this.#owner.reasonOf(processId, exit)));
    await this.link.release(processId);
  }

  async #whenStored(spool: ProcessSpool, stream: StreamName, end: number): Promise<void> {
    const log = spool.log(stream);
    if (end > 0) await log.whenBeyond(end - 1, this.#givenUp.signal);
  }

  /** A program that never started has said nothing itself. What is added here is not the init's to be acknowledged. */
  async #sayWhy(spool: ProcessSpool, exit: InitExit): Promise<void> {
    spool.feedFrom(undefined);
    const log = spool.log(spool.record.tty ? 'stdout' : 'stderr');
    const why = `causeway: ${spool.record.argv[0] ?? ''}: ${exit.message.replace(/^exec: /, '')}\n`;
    await log.append(log.end, exit.timeMs, Buffer.from(why));
  }

  async #record(processId: string, spool: ProcessSpool, exit: ProcessExit): Promise<void> {
    await spool.exited(exit);
    const abandoned = this.#live.get(processId)?.abandoned === true;
    this.#live.delete(processId);
    this.#owner.ended(processId, exit);
    if (abandoned) return this.#ports.spools.forget(this.#ref(processId));
    await this.#ports.spools.close(this.#ref(processId));
    // Whoever follows it lets go of it then. Among those that are kept, a thousand connections would drive out all others.
    if (spool.record.spawn === attendedSpawn) return;
    this.#endedIds.push(processId);
    if (this.#endedIds.length <= maxEnded) return;
    const [oldest = ''] = this.#endedIds.splice(0, 1);
    await this.#ports.spools.forget(this.#ref(oldest));
  }

  /** The init said no, so nothing of the process is kept; a lost answer means that the same spawn must be asked again. */
  async #notSpawned(ref: SpoolRef, error: unknown): Promise<unknown> {
    if (error instanceof RangeError) {
      // It was never sent.
      await this.#forget(ref);
      return new Refusal('request_body_invalid', `The process can not be started: ${error.message}.`);
    }
    if (!(error instanceof InitRefusal)) return error;
    if (error.refusal === 'contact_lost' || error.refusal === 'closed') {
      return new Refusal('session_not_running', 'The session can not be reached now. Try again with the same id.');
    }
    await this.#forget(ref);
    return error.refusal === 'limit' || error.refusal === 'resources'
      ? new Refusal('process_limit', error.message)
      : new Refusal('session_not_running', error.message);
  }

  async #forget(ref: SpoolRef): Promise<void> {
    this.#live.delete(ref.processId);
    await this.#ports.spools.forget(ref);
  }

  #watch(what: string, work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (this.#givenUp.signal.aborted) return;
      const { sessionId } = this.#owner;
      this.#ports.log.error(`${what} failed`, { sessionId, error: String(error) });
    });
  }
}

/** Stands in for a record that was lost with the host's power: the output is kept, the request is not known. */
function unknownRecord(state: ProcessState): ProcessRecord {
  return {
    spawn: 'unknown',
    argv: [],
    tty: state.tty,
    stdin: state.stdinOpen,
    startedAtMs: state.startedMs,
    output: { onFull: 'drop', blockMs: 0, spoolBytes: 64 * 1024 * 1024 },
    holes: {},
  };
}

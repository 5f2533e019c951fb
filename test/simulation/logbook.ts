/**
 * What the kernels of Jupyter and the terminals of a world have really written and done, whoever heard of it: against this is
 * held what those see who follow them.
 */
import { processIdOf } from '../../agent-daemon/kernels/spawner.ts';
import { derivedProcessId } from '../../agent-daemon/processes/derived-id.ts';
import type { Placement } from './host/agent.ts';
import type { BridgeWatch } from './host/interpreters.ts';
import { speakerOf } from './host/jupyter-kernel.ts';
import type { Sometimes } from './sometimes.ts';

export interface LogbookPorts {
  sometimes: Sometimes;
  /** A kernel begins to do what was asked for under this id: of a run its id, else its msg_id. */
  ran(placement: Placement, id: string): void;
  violated(what: string): void;
}

/** The log of one start of a kernel, or of a terminal. */
export class StartLog {
  #bytes = Buffer.alloc(4096);
  #size = 0;
  readonly #begins = new Set<number>();
  /** Its bridge said all before it ended; the terminal has ended. */
  isWhole = false;

  get size(): number {
    return this.#size;
  }

  /** A record begins here, or the log ends. */
  isBegin(offset: number): boolean {
    return offset === this.#size || this.#begins.has(offset);
  }

  /** These bytes are what was written at `offset`. */
  has(offset: number, bytes: Uint8Array): boolean {
    const end = offset + bytes.byteLength;
    return end <= this.#size && this.#bytes.subarray(offset, end).equals(bytes);
  }

  /** Those of its bytes that are within [from, to). */
  bytesWithin(from: number, to: number): Buffer {
    return this.#bytes.subarray(0, this.#size).filter((byte) => byte >= from && byte < to) as Buffer;
  }

  add(record: Uint8Array): void {
    this.#begins.add(this.#size);
    const end = this.#size + record.byteLength;
    if (end > this.#bytes.byteLength) this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(2 * end)]);
    this.#bytes.set(record, this.#size);
    this.#size = end;
  }
}

/** Of a process that was to be started in a container that has ended. */
const neverStarted = new StartLog();
neverStarted.isWhole = true;

/** Bytes that nobody may have typed: those of links that only look. */
export const forbidden = { from: 0x60, to: 0x70 } as const;

const ofWriter = /^(.+)\.(\d+)$/;

export class Logbook {
  readonly #ports: LogbookPorts;
  readonly #starts = new Map<string, StartLog>();
  readonly #statuses = new Map<string, number>();
  /** The last request of each writer that was carried out. */
  readonly #last = new Map<string, number>();
  readonly #dark = new Set<string>();
  readonly #died = new Set<string>();

  constructor(ports: LogbookPorts) {
    this.#ports = ports;
  }

  /** Of the start of a kernel; undefined before it has begun. */
  start(placement: Placement, kernelId: string, starts: number): StartLog | undefined {
    return this.#starts.get(keyOf(placement, processIdOf(kernelId, starts)));
  }

  /** Its host loses its power: what it kept may have lost its end, and its container is no more. */
  lostPower(placement: Placement): void {
    this.#dark.add(keyOf(placement, ''));
  }

  hasLostPower(placement: Placement): boolean {
    return this.#dark.has(keyOf(placement, ''));
  }

  /** With which status it was done; undefined when it was not. */
  statusOf(placement: Placement, id: string): number | undefined {
    return this.#statuses.get(keyOf(placement, id));
  }

  /** A process with a terminal took what was typed. */
  typed(placement: Placement, processId: string, bytes: Uint8Array): void {
    this.#ofTerminal(placement, processId).add(bytes);
    if (bytes.some((byte) => byte >= forbidden.from && byte < forbidden.to))
      this.#ports.violated(`[S19] a link that only looks typed into ${processId}`);
  }

  /** Such a process has ended. */
  hungUp(placement: Placement, processId: string): void {
    this.#ofTerminal(placement, processId).isWhole = true;
  }

  /** Its container has ended: so has what was never started there. */
  died(placement: Placement): void {
    this.#died.add(keyOf(placement, ''));
  }

  #ofTerminal(placement: Placement, processId: string): StartLog {
    const key = keyOf(placement, processId);
    const log = this.#starts.get(key) ?? new StartLog();
    this.#starts.set(key, log);
    return log;
  }

  /** All that was typed into a terminal; its program says the same again. Undefined: nothing. */
  terminal(placement: Placement, terminalId: string): StartLog | undefined {
    const log = this.#starts.get(keyOf(placement, derivedProcessId(`terminal ${terminalId}`)));
    return log ?? (this.#died.has(keyOf(placement, '')) ? neverStarted : undefined);
  }

  watch(placement: Placement, processId: string): BridgeWatch {
    const log = new StartLog();
    this.#starts.set(keyOf(placement, processId), log);
    return {
      wrote: (record) => log.add(record),
      ran: (id) => this.#ran(placement, id),
      did: (id, exitCode) => void this.#statuses.set(keyOf(placement, speakerOf(id)), exitCode),
      ended: () => (log.isWhole = true),
    };
  }

  #ran(placement: Placement, id: string): void {
    const { sometimes } = this.#ports;
    const speaker = speakerOf(id);
    this.#ports.ran(placement, speaker);
    if (speaker !== id) {
      if (!id.endsWith('.1')) sometimes.reached('a run was refused behind an error and asked for again');
      return;
    }
    const [, writer = id, number] = ofWriter.exec(id) ?? [];
    const key = keyOf(placement, writer);
    const last = this.#last.get(key) ?? 0;
    if (Number(number) <= last) this.#ports.violated(`[J11] ${id} is carried out behind ${writer}.${last}`);
    this.#last.set(key, Number(number));
  }
}

function keyOf({ sessionId, generation }: Placement, what: string): string {
  return `${sessionId} ${generation} ${what}`;
}

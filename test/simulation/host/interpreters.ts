/** Programs of simulated containers that hear what they are told: kernels with our runner, and the tools of causeway-init. */
import type { Timers } from '../../../schema/ports.ts';

export interface Interpreter {
  /** It was executed. */
  start(): void;
  /** Bytes of its standard input. */
  read(bytes: Buffer): void;
  /** SIGINT. */
  interrupt(): void;
  /** SIGTERM. False when it does not catch it. */
  terminate(): boolean;
  /** It ended, or is killed: nothing of it runs on. */
  end(): void;
}

/** What a checker is told of one bridge and the kernel behind it, as it is, whoever hears of it. */
export interface BridgeWatch {
  /** The next record of the log. */
  wrote(record: Uint8Array): void;
  /** The kernel begins to do what was asked for under this msg_id. */
  ran(id: string): void;
  /** It has done so, with this status (SPEC.md rule J16), and has said it. */
  did(id: string, exitCode: number): void;
  /** The kernel ended, and its bridge said all before it ended. */
  ended(): void;
}

export interface InterpreterPorts {
  timers: Timers;
  write(stream: 'stdout' | 'stderr', bytes: Buffer): void;
  /** What was written waits for its reader. */
  isFull(): boolean;
  exit(code: number): void;
  /** It kills itself by this signal. */
  dies(signal: number): void;
  /** From now on it reads its standard input. */
  reads(): void;
  /** It begins to run what was asked for under this id. */
  ran(runId: string): void;
  /** Who watches it as a bridge. */
  watch(): BridgeWatch;
  /** Names under which kernels wait in the container that were started in advance. */
  waiting: Set<string>;
  /** One of them was taken. */
  took(): void;
}

/** How the kernel behind a bridge ended. */
export type KernelEnd = { exitCode: number } | { signal: number };

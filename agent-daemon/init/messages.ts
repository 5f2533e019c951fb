/** What the agent and causeway-init say to each other (SPEC.md). Pure data; `codec.ts` has its bytes. */

export const protocolVersion = 1;
/** Bytes of one STDIN or OUTPUT frame. */
export const maxDataBytes = 64 * 1024;
export const nonceBytes = 32;

/** 1 is stdout (and everything of a terminal), 2 is stderr. */
export type StreamNumber = 1 | 2;

export interface SpawnSpec {
  /** `prc_...`; the same id never starts twice until it was released. */
  processId: string;
  /** At least one. A name without a slash is searched in the PATH of `env`. */
  argv: readonly string[];
  /** The whole environment: nothing is inherited. */
  env: Readonly<Record<string, string>>;
  /** Default `/`. */
  cwd?: string;
  /** Default: the user of the init. */
  user?: { uid: number; gid: number; groups?: readonly number[] };
  /** A terminal instead of pipes; all output is then stream 1. */
  tty?: { rows: number; cols: number };
  /** `open`: fed by `writeStdin` until `closeStdin`. Default `null`: /dev/null. */
  stdin?: 'open' | 'null';
  /** By number (RLIMIT_*); `unlimited` is `null`. */
  rlimits?: readonly { resource: number; soft: number | null; hard: number | null }[];
  /** What happens when output is not acknowledged and the ring is full. Default: block for 10 minutes without contact. */
  output?: { onFull: 'block' | 'drop'; blockMs?: number };
  /** How long descendants may hold the output open after the process ended. Default 2,000. */
  drainMs?: number;
}

export type SignalScope = 'process' | 'group' | 'session';

export type ToInit =
  | { type: 'key' | 'challenge'; nonce: Uint8Array; secret: Uint8Array }
  | { type: 'welcome' | 'ping' }
  | { type: 'spawn'; spec: SpawnSpec }
  | { type: 'stdin'; processId: string; offset: number; bytes: Uint8Array }
  | { type: 'stdinClose'; processId: string; offset: number }
  | { type: 'resize'; processId: string; rows: number; cols: number }
  | { type: 'signal'; processId: string; signal: number; scope: SignalScope }
  | { type: 'ack' | 'resume'; processId: string; stream: StreamNumber; offset: number }
  | { type: 'release'; processId: string }
  | { type: 'lease'; deadlineBootMs: number }
  | { type: 'terminate'; graceMs: number }
  | { type: 'shutdown'; now: boolean };

/** How a process ended. `failed`: it never became its program; `code` is 127 (not found) or 126, `message` says why. */
export interface ProcessExit {
  kind: 'code' | 'signal' | 'failed';
  /** Exit code, or the number of the signal. */
  value: number;
  errno: number;
  timeMs: number;
  /** Where the streams end: for good once `final`, so far before. */
  ends: Record<StreamNumber, number>;
  final: boolean;
  message: string;
}

export interface ProcessState {
  processId: string;
  /** In the container's namespace. */
  pid: number;
  tty: boolean;
  stdinOpen: boolean;
  started: boolean;
  startedMs: number;
  /** Bytes of stdin that the process's pipe has taken. */
  stdinOffset: number;
  /** Everything before is acknowledged and gone from the init. */
  acked: Record<StreamNumber, number>;
  /** Absent while the process lives. */
  exit?: ProcessExit;
  /** Bytes read from the process so far. */
  ends: Record<StreamNumber, number>;
}

export type FromInit =
  | { type: 'hello'; version: number; hasKey: boolean; nonce: Uint8Array; tag: Uint8Array }
  | { type: 'proof'; proof: Uint8Array }
  | { type: 'state'; state: ProcessState }
  | { type: 'ready'; leaseExpired: boolean; terminating: boolean; ringBytes: number; bootMs: number }
  | { type: 'spawned'; processId: string; pid: number }
  | { type: 'stdinAck'; processId: string; offset: number; room: boolean; closed: boolean }
  | { type: 'output'; processId: string; stream: StreamNumber; offset: number; timeMs: number; bytes: Uint8Array }
  | { type: 'gap'; processId: string; stream: StreamNumber; from: number; to: number }
  | { type: 'exit'; processId: string; exit: ProcessExit }
  | { type: 'leaseExpired' }
  | { type: 'pong'; seq: number }
  | { type: 'done'; seq: number }
  | { type: 'refused'; seq: number; refusal: Refusal; message: string };

/** In the order of their numbers, from 1. */
export const refusals = [
  'limit',
  'resources',
  'lease_expired',
  'terminating',
  'unknown_process',
  'wrong_state',
] as const;
export type Refusal = (typeof refusals)[number];

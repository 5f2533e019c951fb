/** What a link to an init is made of and what it tells: the types around `link.ts`. */
import type { Clock, Log, Random, Timers } from '../../schema/ports.ts';
import type { Duplex } from 'node:stream';
import type { ProcessExit, ProcessState, StreamNumber } from './messages.ts';
import type { SessionKey } from './session-key.ts';

/** How an init is reached: it dials a socket in a directory that it sees, or talks over its stdin and stdout. */
export type InitTransport = 'socket' | 'stdio';

/** Where inits dial in: sockets in the directory of one session, which is mounted into its container. */
export interface InitDoor {
  /**
   * Listens as `name` in `dir`, in place of whatever has that name; from then on nobody may list the directory (mode
   * 0311). Resolves with what ends it when somebody can dial.
   */
  listen(dir: string, name: string, onConnection: (stream: Duplex) => void): Promise<() => void>;
  /** Nothing has the name any more. */
  remove(dir: string, name: string): Promise<void>;
}

/** Runs a task after the I/O of this turn. */
export type Soon = (task: () => void) => void;

export type LinkState = 'idle' | 'waiting' | 'connected' | 'closed';

export interface InitStatus {
  /** The lease ran out: everything was killed, and nothing can be spawned. */
  leaseExpired: boolean;
  /** `terminate` was asked for: nothing can be spawned. */
  terminating: boolean;
  /** What the init keeps at most of output that is not acknowledged. */
  ringBytes: number;
}

export interface ListedProcess extends ProcessState {
  /** This link knows the process and goes on with its output by itself; otherwise output waits for `resume`. */
  resumed: boolean;
}

/** Called in the order of what happened; none of them may throw. */
export interface InitLinkCallbacks {
  onState?(state: LinkState): void;
  onConnected?(status: InitStatus): void;
  onDisconnected?(): void;
  /** At each connect, before any output and any end: every process that was spawned and not released. */
  onProcesses?(processes: ListedProcess[]): void;
  /**
   * The next bytes of a stream, at most 64 KiB; the view stays valid. While the promises of more than 1 MiB are open the
   * connection is not read. A rejection breaks the connection, and the bytes come again.
   */
  onOutput?(
    processId: string,
    stream: StreamNumber,
    offset: number,
    timeMs: number,
    bytes: Uint8Array,
  ): void | Promise<void>;
  /** Bytes that the init had to give up; output goes on at `to`. Recorded, it is acknowledged like output, and so rejected. */
  onGap?(processId: string, stream: StreamNumber, from: number, to: number): void | Promise<void>;
  /** When a process ended, again (`final`) when the ends of its streams are known, and at each reconnect until `release`. */
  onExit?(processId: string, exit: ProcessExit): void;
  onLeaseExpired?(): void;
}

export interface InitLinkOptions extends InitLinkCallbacks {
  /** `socket` (default): the init dials in, in `dir`. `stdio`: whoever holds its stdin and stdout calls `attach`. */
  transport?: InitTransport;
  /**
   * Directory of this session alone, mounted read-only into the container. It exists, and its mode becomes 0311: nobody
   * in the container can list it. Change the mode back to remove it without privileges.
   */
  dir: string;
  sessionKey: SessionKey | undefined;
  /** Makes the key durable, 0600: unconfirmed before it is sent, confirmed before anything can be spawned. */
  saveSessionKey(key: SessionKey): Promise<void>;
  door: InitDoor;
  soon: Soon;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
}

/** What the SSH server needs of the agent. */
import type { Timers } from '../../schema/ports.ts';
import type { AttendedOf } from '../processes/attended.ts';
import type { StreamsOf } from '../processes/streams.ts';

export interface SshOf extends StreamsOf, AttendedOf {
  timers: Timers;
  /** Directory of rsync in the tools of containers, as of now; undefined when this machine has none. */
  gatherRsync(): Promise<string | undefined>;
  /** Whether clients may bring their own agent along (`ssh -A`). */
  forwardsAgents: boolean;
}

/** A channel of a connection, whatever it is for. */
export interface OpenChannel {
  /** Resolves when it is over, and what it was for. */
  readonly done: Promise<void>;
  /** Bytes that came and that nobody has taken. */
  readonly unreadBytes: number;
  /** The client is gone. */
  abandon(): void;
}

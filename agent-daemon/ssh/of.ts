/** What the SSH server needs of the agent. */
import type { Log, Timers } from '../../schema/ports.ts';
import type { StreamsOf } from '../processes/streams.ts';

export interface SshOf extends StreamsOf {
  timers: Timers;
  log: Log;
  freshProcessId(): string;
}

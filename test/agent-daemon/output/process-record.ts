/** What is kept of a process that reads nothing and drops the oldest of its output. */
import type { ProcessRecord } from '../../../agent-daemon/output/process-record.ts';

export function processRecord(spoolBytes: number): ProcessRecord {
  return {
    spawn: 'digest',
    argv: ['cat'],
    tty: false,
    stdin: false,
    startedAtMs: 1,
    output: { onFull: 'drop', blockMs: 0, spoolBytes },
    holes: {},
  };
}

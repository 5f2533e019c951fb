/** Every target by its name, made when it is wanted: some build a program or own a folder. */
import type { Target } from '../fuzzer.ts';
import { endpoint } from './endpoint.ts';
import { frames } from './frames.ts';
import { initCommands } from './init-commands.ts';
import { initFrames } from './init-frames.ts';
import { journal } from './journal.ts';
import { json } from './json.ts';
import { kernelRecords } from './kernel-records.ts';
import { spoolRecord, spoolRecovery } from './spool.ts';
import { terminalFilter } from './terminal-filter.ts';

export const targets: Record<string, () => Target> = {
  frames: () => frames,
  json: () => json,
  endpoint: () => endpoint,
  'init-frames': () => initFrames,
  'init-commands': initCommands,
  journal: () => journal,
  'kernel-records': () => kernelRecords,
  'spool-record': () => spoolRecord,
  spool: spoolRecovery,
  'terminal-filter': () => terminalFilter,
};

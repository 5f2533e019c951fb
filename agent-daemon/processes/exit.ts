/** How a process ended, in the words of records and events. Pure. */
import { constants } from 'node:os';
import type { ProcessExit as InitExit } from '../init/messages.ts';
import type { ProcessExit } from '../output/process-record.ts';

const names = new Map(Object.entries(constants.signals).map(([name, number]) => [number as number, name]));
// Three numbers have two names each; these are the ones that people know.
for (const name of ['SIGABRT', 'SIGIO', 'SIGSYS'] as const) names.set(constants.signals[name], name);

/** Such as `SIGTERM`; `SIG34` for a number without a name. */
export function signalName(number: number): string {
  return names.get(number) ?? `SIG${number}`;
}

/** The number of a signal named without its `SIG`. */
export function signalNumber(name: string): number {
  return constants.signals[`SIG${name}` as NodeJS.Signals];
}

/** What the init says of an end, with its `reason` in our words. A program that could not be started has code 126 or 127. */
export function toProcessExit(exit: InitExit, reason: string): ProcessExit {
  const how = exit.kind === 'signal' ? { signal: signalName(exit.value) } : { exitCode: exit.value };
  return { ...how, reason, atMs: exit.timeMs };
}

/** What stands in the way to the control plane, as a failure of the CLI. */
import { findWayError } from '../../wire/way-error.ts';
import { CliFailure, exitStatus } from '../exit.ts';

/** The failure that ends a command, when `error` says that trying again can not help; else undefined. */
export function wayFailure(error: unknown, status: number = exitStatus.failed): CliFailure | undefined {
  const found = findWayError(error);
  if (found === undefined || !found.final) return undefined;
  return new CliFailure(found.message, { code: found.code, hint: found.hint, status });
}

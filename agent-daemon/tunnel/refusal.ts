/** What a handler's failure is told as, to whoever opened the stream or made the call. */
import { Refusal } from '../../schema/errors.ts';
import { isDiskFull } from '../disk.ts';
import { RuntimeError } from '../runtime/runtime.ts';

/** Undefined for a fault of the agent, whose cause is for its log alone. */
export function asRefusal(error: unknown): Refusal | undefined {
  if (error instanceof Refusal) return error;
  if (isDiskFull(error)) return new Refusal('agent_disk_full', 'It could not be written to the disk of the agent.');
  if (error instanceof RuntimeError && (error.kind === 'unavailable' || error.kind === 'timeout'))
    return new Refusal('agent_engine_unavailable', 'The container engine of its machine does not answer.');
  return undefined;
}

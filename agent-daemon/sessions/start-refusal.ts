/** Why a session can not be started, for people: from what the engine said. */
import { Refusal } from '../../schema/errors.ts';
import { RuntimeError } from '../runtime/runtime.ts';

/** What the engine refuses for good is a failed start; what it did not answer is thrown on, to be asked again. */
export function toStartRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (!(error instanceof RuntimeError) || error.kind === 'unavailable' || error.kind === 'timeout') throw error;
  const remedy = error.kind === 'disk-full' ? ' Free space on the disk of the container engine.' : '';
  return new Refusal('session_start_failed', `The container engine refused: ${error.message}.${remedy}`);
}

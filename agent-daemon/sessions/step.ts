/** One durable step with its failpoint around it: a test dies before it, after it, or loses its answer. */
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Failpoints } from '../../schema/ports.ts';
import { RuntimeError } from '../runtime/runtime.ts';

/** @throws RuntimeError `timeout` when the answer of a step that was done is lost: look again, then go on */
export async function step<T>(
  failpoints: Failpoints<AgentFailpoint>,
  name: AgentFailpoint,
  work: () => Promise<T>,
): Promise<T> {
  await failpoints.before(name);
  const result = await work();
  await failpoints.after(name);
  if (failpoints.unknown(name)) throw new RuntimeError('timeout', `${name}: the answer was lost`);
  return result;
}

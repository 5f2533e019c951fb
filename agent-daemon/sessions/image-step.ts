/** The first step of a start: the image, found here or fetched, with what the edge is told of it. */
import type { AgentEvent } from '../../schema/protocol/events.ts';
import type { FoundImage, WantedImage } from '../images/images.ts';
import { RuntimeError } from '../runtime/runtime.ts';
import type { SessionHost } from './host.ts';
import type { PlacementFile } from './placement.ts';
import { step } from './step.ts';

/**
 * `known`: it was found just now.
 * @throws Refusal when there is no such image, or not under this name
 * @throws RuntimeError when the engine or the registry can not be asked now
 */
export async function findOrPull(
  host: SessionHost,
  { sessionId, generation, spec }: PlacementFile,
  record: (body: AgentEvent['body']) => Promise<void>,
  superseded: AbortSignal,
  known?: FoundImage,
): Promise<FoundImage> {
  const wanted: WantedImage = { image: spec.image, digest: spec.imageDigest };
  const here = known ?? (await host.images.find(wanted));
  if (here !== undefined) {
    // The first generation pins the content for those that come after it. Behind it comes what is waited for.
    if (spec.imageDigest === undefined) record({ kind: 'pulled', imageDigest: here.digest }).catch(() => undefined);
    return here;
  }
  await record({ kind: 'pulling' });
  const tell = (progress: { detail: string; doneBytes: number; totalBytes: number }): void =>
    host.services.progress({ sessionId, generation, phase: 'pulling', ...progress });
  await step(host.failpoints, 'runtime.pull', () => host.images.pull(wanted, tell, superseded));
  const pulled = await host.images.find(wanted);
  if (pulled === undefined) throw new RuntimeError('failed', 'pull: the image is not there after it was pulled');
  await record({ kind: 'pulled', imageDigest: pulled.digest });
  return pulled;
}

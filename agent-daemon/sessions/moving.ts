/** How a session takes a container that was started in advance, and leaves one that can not be used (`pool/`). */
import { removeContainer } from './container.ts';
import type { SessionHost } from './host.ts';
import type { PlacementRecord } from './placement-record.ts';
import type { Running } from './running.ts';
import { step } from './step.ts';

interface Moving {
  host: SessionHost;
  record: PlacementRecord;
  running: Running;
}

/** Takes one, if one fits: from then on it is the session's, whatever dies. Its home is the session's; again after a crash. */
export async function moveIn({ host, record, running }: Moving): Promise<void> {
  const { warm, homes, images, failpoints } = host;
  const { sessionId, spec, network, containerId, transport } = record.now;
  const isUntouched = network === undefined && containerId === undefined && transport === undefined;
  // What an earlier generation left in its home has to be seen.
  if (isUntouched && warm.mayFit(spec) && (await homes.owner(sessionId)) === undefined) {
    const found = await images.find({ image: spec.image, digest: spec.imageDigest });
    const taken = found && warm.take(spec, found.facts);
    if (found && taken) {
      const { warmId, supervisor } = taken;
      running.moveIn(supervisor);
      const claim = { warmId, containerId: taken.containerId, network: taken.network, imageId: found.facts.id };
      await step(failpoints, 'warm.claim', () => record.save(claim));
    }
  }
  const { warmId } = record.now;
  if (warmId !== undefined) await step(failpoints, 'warm.home', () => homes.become(warmId, sessionId));
}

/** Its name is taken, or it is gone: the session is as one that never had it, but for its home. */
export async function moveOut({ host, record, running }: Moving): Promise<void> {
  await running.moveOut();
  await removeContainer(host, record.now);
  await record.save({ warmId: undefined, containerId: undefined, network: undefined });
}

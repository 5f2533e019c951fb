/** How a session takes a container that was started in advance, and leaves one that can not be used (`pool/`). */
import type { Start } from '../../schema/api/session-parts.ts';
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

/**
 * Takes one, if one fits: from then on it is the session's, whatever dies. Its home is the session's; again after a crash.
 * Says whether it did, or why not; undefined where containers are not started in advance.
 */
export async function moveIn(moving: Moving): Promise<Start | undefined> {
  const { host, record } = moving;
  if (!host.warm.isOn && record.now.warmId === undefined) return undefined;
  const start = await take(moving);
  const { sessionId, warmId } = record.now;
  if (warmId !== undefined) await step(host.failpoints, 'warm.home', () => host.homes.become(warmId, sessionId));
  return start;
}

async function take({ host, record, running }: Moving): Promise<Start> {
  const { warm, homes, images, failpoints } = host;
  const { sessionId, spec, network, containerId, transport, warmId } = record.now;
  if (warmId !== undefined) return 'started-warm';
  if (network !== undefined || containerId !== undefined || transport !== undefined) return 'tried-before';
  if (!warm.mayFit(spec)) return 'none-ready';
  // What an earlier generation left in its home has to be seen.
  if ((await homes.owner(sessionId)) !== undefined) return 'home-kept';
  const found = await images.find({ image: spec.image, digest: spec.imageDigest });
  if (found === undefined) return 'image-missing';
  const taken = warm.take(spec, found.facts);
  if (taken === undefined) return 'none-ready';
  running.moveIn(taken.supervisor);
  const claim = {
    warmId: taken.warmId,
    containerId: taken.containerId,
    network: taken.network,
    imageId: found.facts.id,
    imageEnv: found.facts.env,
    kernelInAdvance: taken.kernel,
  };
  await step(failpoints, 'warm.claim', () => record.save(claim));
  return 'started-warm';
}

/** Its name is taken, or it is gone: the session is as one that never had it, but for its home. */
export async function moveOut({ host, record, running }: Moving): Promise<Start> {
  await running.moveOut();
  await removeContainer(host, record.now);
  await record.save({ warmId: undefined, kernelInAdvance: undefined, containerId: undefined, network: undefined });
  return 'not-usable';
}

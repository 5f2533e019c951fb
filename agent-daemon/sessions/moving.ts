/** How a session takes a container that was started in advance, and leaves one that can not be used (`pool/`). */
import type { Start } from '../../schema/api/session-parts.ts';
import type { FoundImage } from '../images/images.ts';
import type { KernelInAdvance } from '../kernels/in-advance.ts';
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

/** How a session came by its container. */
export interface Came {
  by: Start;
  /** What was found on the way, of one that was taken just now. */
  image?: FoundImage;
  kernel?: KernelInAdvance | undefined;
}

/**
 * Takes one, if one fits: from then on it is the session's, whatever dies. Its home is the session's; again after a crash.
 * Says whether it did, or why not; undefined where containers are not started in advance.
 */
export async function moveIn(moving: Moving): Promise<Came | undefined> {
  const { host, record } = moving;
  if (!host.warm.isOn && record.now.warmId === undefined) return undefined;
  const came = await take(moving);
  const { sessionId, warmId } = record.now;
  if (warmId !== undefined) await step(host.failpoints, 'warm.home', () => host.homes.become(warmId, sessionId));
  return came;
}

async function take({ host, record, running }: Moving): Promise<Came> {
  const { warm, homes, images, failpoints } = host;
  const { sessionId, spec, network, containerId, transport, warmId } = record.now;
  if (warmId !== undefined) {
    // The disk may have refused it before.
    await record.save({});
    return { by: 'started-warm' };
  }
  if (network !== undefined || containerId !== undefined || transport !== undefined) return { by: 'tried-before' };
  if (!warm.mayFit(spec)) return { by: 'none-ready' };
  // What an earlier generation left in its home has to be seen.
  if ((await homes.owner(sessionId)) !== undefined) return { by: 'home-kept' };
  const found = await images.find({ image: spec.image, digest: spec.imageDigest });
  if (found === undefined) return { by: 'image-missing' };
  const taken = warm.take(spec, found.facts);
  if (taken === undefined) return { by: 'none-ready' };
  running.moveIn(taken.supervisor);
  const claim = {
    warmId: taken.warmId,
    containerId: taken.containerId,
    network: taken.network,
    imageId: found.facts.id,
    imageEnv: found.facts.env,
    kernelInAdvance: taken.kernel?.name,
  };
  await step(failpoints, 'warm.claim', () => record.save(claim));
  return { by: 'started-warm', image: found, kernel: taken.kernel };
}

/** Its name is taken, or it is gone: the session is as one that never had it, but for its home. */
export async function moveOut({ host, record, running }: Moving): Promise<Came> {
  await running.moveOut();
  await removeContainer(host, record.now);
  await record.save({ warmId: undefined, kernelInAdvance: undefined, containerId: undefined, network: undefined });
  return { by: 'not-usable' };
}

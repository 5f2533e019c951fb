/**
 * The container of one placement and what belongs to it on this host: network, home, directory of the init's socket.
 * Every step can be taken again after a crash at any point: names are fixed, and what is there already is taken over.
 */
import { join } from 'node:path';
import { Refusal } from '../../schema/errors.ts';
import {
  agentLabels,
  containerName,
  containerOptions,
  containerUser,
  labels,
  type Placement,
  sessionLabels,
} from '../runtime/docker-spec.ts';
import { type ContainerFacts, type ImageFacts, RuntimeError } from '../runtime/runtime.ts';
import type { SessionHost } from './host.ts';
import { hostNameOf, type PlacementFile, type PlacementRef } from './placement.ts';
import { step } from './step.ts';
import { resolveUser } from './user.ts';

const removeAttempts = 5;
const removePauseMs = 500;

/** What making a container needs of the host. */
export type ContainerHost = Pick<SessionHost, 'disk' | 'homes' | 'runtime' | 'runRoot' | 'toolsRoot' | 'initPath'>;

function nameOf({ sessionId, generation, spec }: PlacementFile): string {
  return containerName(sessionId, spec.kernel, generation);
}

export function runDirOf(host: Pick<SessionHost, 'runRoot'>, ref: PlacementRef): string {
  return join(host.runRoot, hostNameOf(ref));
}

/** The directory in which the init finds the agent's socket, without anything of an earlier try in it, and that of the tools. */
export async function makeRunDir(host: ContainerHost, ref: PlacementRef): Promise<void> {
  await host.disk.mkdir(host.toolsRoot, { recursive: true, mode: 0o755 });
  await host.disk.mkdir(runDirOf(host, ref), { recursive: true, mode: 0o711 });
}

/** A home with the owner that the image's user has, as far as that is a number. */
export async function makeHome(host: ContainerHost, name: string, image: ImageFacts): Promise<void> {
  const [uid, gid] = containerUser(image.user).split(':');
  await host.homes.ensure(name);
  if (isNumber(uid)) await host.homes.own(name, Number(uid), isNumber(gid) ? Number(gid) : Number(uid));
}

/** What a container is made of, beside what it is called and for whom: `ref` names its places on the host, `home` its home. */
export function planOf(
  host: ContainerHost,
  {
    ref,
    home,
    image,
    network,
    spec,
  }: { ref: PlacementRef; home: string } & Pick<Placement, 'image' | 'network' | 'spec'>,
): Omit<Placement, 'name' | 'labels'> {
  return {
    spec,
    image,
    network,
    initPath: host.initPath,
    toolsPath: host.toolsRoot,
    runPath: runDirOf(host, ref),
    homePath: host.homes.path(home),
  };
}

/** A container of this placement. `hasEnded`: it ran in an earlier life of the agent, and does not any more. */
export interface CreatedContainer {
  id: string;
  hasEnded: boolean;
}

/** Creates the container, or takes over the one that has its name. */
export async function createContainer(
  host: SessionHost,
  placement: PlacementFile,
  image: ImageFacts,
  network: string,
): Promise<CreatedContainer> {
  const { sessionId, spec, transport } = placement;
  const options = containerOptions({
    ...planOf(host, { ref: placement, home: sessionId, image, network, spec }),
    name: nameOf(placement),
    labels: { ...agentLabels(host), ...sessionLabels(placement) },
    transport,
  });
  const created = await step(host.failpoints, 'runtime.create', () => createOrFind(host, placement, options));
  await ownHomeByName(host, sessionId, image, created.id);
  return created;
}

async function createOrFind(
  host: SessionHost,
  placement: PlacementFile,
  options: ReturnType<typeof containerOptions>,
): Promise<CreatedContainer> {
  try {
    return { id: await host.runtime.createContainer(options), hasEnded: false };
  } catch (error) {
    if (!(error instanceof RuntimeError) || error.kind !== 'conflict') throw error;
    const found = await host.runtime.findContainer(nameOf(placement));
    if (found === undefined) throw error;
    if (!isOurs(host, placement, found)) {
      const detail = `Another container of this machine has the name ${nameOf(placement)}. Remove it.`;
      throw new Refusal('session_start_failed', detail);
    }
    return { id: found.id, hasEnded: found.status === 'exited' || found.status === 'dead' };
  }
}

/** Gives a container that was started in advance the name of its session; again after a crash. Undefined: it can not be used. */
export async function settleIn(host: SessionHost, placement: PlacementFile): Promise<CreatedContainer | undefined> {
  const { containerId = '' } = placement;
  const name = nameOf(placement);
  try {
    await step(host.failpoints, 'warm.rename', () => host.runtime.renameContainer(containerId, name));
    return { id: containerId, hasEnded: false };
  } catch (error) {
    if (!(error instanceof RuntimeError) || !['conflict', 'invalid', 'not-found'].includes(error.kind)) throw error;
  }
  // It has the name already, or another has it, or it is gone.
  const found = await findOurs(host, placement);
  if (found?.name !== name) return undefined;
  return { id: found.id, hasEnded: found.status === 'exited' || found.status === 'dead' };
}

/** True for the container that this agent made for this placement, or started in advance and gave to it. */
function isOurs(
  host: SessionHost,
  placement: PlacementFile,
  { name, labels: of }: Pick<ContainerFacts, 'name' | 'labels'>,
): boolean {
  const { sessionId, generation, warmId } = placement;
  if (of[labels.agent] !== host.agentId) return false;
  const warm = of[labels.warm];
  if (warm !== undefined) return warm === warmId || name === nameOf(placement);
  return of[labels.session] === sessionId && of[labels.generation] === String(generation);
}

/** The container of this placement as it is now. One that only has its name is somebody else's. */
export async function findOurs(host: SessionHost, placement: PlacementFile): Promise<ContainerFacts | undefined> {
  const found = await host.runtime.findContainer(placement.containerId ?? nameOf(placement));
  return found !== undefined && isOurs(host, placement, found) ? found : undefined;
}

/** A user that the image names: what its number is stands in the image's own files, which exist now. */
export async function ownHomeByName(host: ContainerHost, home: string, image: ImageFacts, id: string): Promise<void> {
  const user = containerUser(image.user);
  if (isNumber(user.split(':')[0])) return;
  const read = (path: string) => host.runtime.readContainerFile(id, path);
  const [passwd, group] = await Promise.all([read('/etc/passwd'), read('/etc/group')]);
  const owner = resolveUser(user, passwd ?? '', group ?? '');
  if (owner === undefined || owner.uid === 0) {
    await host.runtime.removeContainer(id);
    const why = owner === undefined ? 'does not have' : 'gives all rights to';
    throw new Refusal('session_image_invalid', `The image runs as a user that it ${why}. Use another user in it.`);
  }
  await host.homes.own(home, owner.uid, owner.gid);
}

export async function startContainer(host: SessionHost, id: string): Promise<void> {
  await step(host.failpoints, 'runtime.start', () => host.runtime.startContainer(id));
}

/** Removes the container, and then its network and the init's directory. What is gone already is fine. */
export async function removeContainer(host: SessionHost, placement: PlacementFile): Promise<void> {
  await step(host.failpoints, 'runtime.remove', async () => {
    const found = await findOurs(host, placement);
    if (found !== undefined) await host.runtime.removeContainer(found.id);
  });
  await step(host.failpoints, 'runtime.cleanup', async () => {
    if (placement.network !== undefined) await releaseNetwork(host, placement.network);
    await host.disk.rm(runDirOf(host, placement), { recursive: true, force: true });
    await host.store.removeKey(placement);
  });
}

/** The engine takes a moment to see that a network is not used any more. */
export async function releaseNetwork(host: Pick<SessionHost, 'networks' | 'timers'>, name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await host.networks.release(name);
    } catch (error) {
      if (attempt >= removeAttempts) throw error;
      await new Promise<void>((resolve) => void host.timers.after(removePauseMs, resolve));
    }
  }
}

function isNumber(text: string | undefined): boolean {
  return text !== undefined && /^\d+$/.test(text);
}

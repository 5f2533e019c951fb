/**
 * The environment of every process of a session. Nothing of it is in the container's own environment: it travels with
 * each spawn. Names of BACKENDAI_* keep images and scripts written for that platform working. Pure.
 */
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import { inside } from '../runtime/docker-spec.ts';

export interface EnvironmentOf {
  sessionId: string;
  spec: KernelSpec;
  /** The image's variables as `NAME=value`. */
  imageEnv: readonly string[];
}

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What all processes of an image have in common, whoever's they are: defaults, the image, the host's name. */
export function imageEnvironment({
  kernel,
  imageEnv,
}: {
  kernel: string;
  imageEnv: readonly string[];
}): Record<string, string> {
  return {
    PATH: defaultPath,
    HOME: inside.home,
    ...Object.fromEntries(imageEnv.flatMap(parsePair)),
    HOSTNAME: kernel,
  };
}

/** Later wins: defaults, the image, the session, `own` of one process, and last what the platform says and nobody may change. */
export function processEnvironment(
  { sessionId, spec, imageEnv }: EnvironmentOf,
  own: Readonly<Record<string, string>> = {},
  { tty }: { tty: boolean } = { tty: false },
): Record<string, string> {
  return {
    ...(tty ? { TERM: 'xterm-256color' } : {}),
    ...imageEnvironment({ kernel: spec.kernel, imageEnv }),
    ...spec.env,
    ...own,
    ...platformNames(sessionId, spec),
  };
}

function platformNames(sessionId: string, spec: KernelSpec): Record<string, string> {
  const { role, index } = splitKernel(spec.kernel);
  return {
    CAUSEWAY_SESSION_ID: sessionId,
    BACKENDAI_SESSION_ID: sessionId,
    BACKENDAI_SESSION_NAME: spec.name,
    BACKENDAI_KERNEL_ID: `${sessionId}-${spec.kernel}`,
    BACKENDAI_KERNEL_IMAGE: spec.image,
    BACKENDAI_USER_UUID: spec.ownerId,
    // One kernel a session, until clusters come.
    BACKENDAI_CLUSTER_SIZE: '1',
    BACKENDAI_CLUSTER_HOSTS: spec.kernel,
    BACKENDAI_CLUSTER_REPLICAS: 'main:1',
    BACKENDAI_CLUSTER_HOST: spec.kernel,
    BACKENDAI_CLUSTER_ROLE: role,
    BACKENDAI_CLUSTER_IDX: index,
    BACKENDAI_CLUSTER_LOCAL_RANK: '0',
  };
}

function splitKernel(kernel: string): { role: string; index: string } {
  const matched = /^([a-z]+)(\d+)$/.exec(kernel);
  return { role: matched?.[1] ?? kernel, index: matched?.[2] ?? '1' };
}

function parsePair(pair: string): [string, string][] {
  const at = pair.indexOf('=');
  return at > 0 ? [[pair.slice(0, at), pair.slice(at + 1)]] : [];
}

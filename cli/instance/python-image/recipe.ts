/**
 * What `causeway/python` is made of. Pure: the digest of this recipe names the content, so that a machine that has it
 * builds nothing. Change a word here, and every instance builds anew at its next start.
 */
import { createHash } from 'node:crypto';

/** Repository of the image; the recipe's digest and `latest` are its tags. */
export const IMAGE = 'causeway/python';

/** Label that carries the recipe's digest. */
export const RECIPE_LABEL = 'causeway.image.recipe';

/** Debian packages over the minimal system. */
export const PACKAGES = ['ca-certificates', 'python3', 'python3-ipykernel', 'python3-numpy', 'python3-sklearn'];

/** The user that sessions run as. */
export const USER = { name: 'work', uid: 1000, home: '/home/work' };

/** Labels in Backend.AI's format, by which schedulers and clients know what an image offers. */
const LABELS = {
  'ai.backend.kernelspec': '1',
  'ai.backend.role': 'COMPUTE',
  'ai.backend.base-distro': 'debian',
  'ai.backend.runtime-type': 'python',
  'ai.backend.runtime-path': '/usr/bin/python3',
  'ai.backend.features': 'batch query uid-match',
  'ai.backend.resource.min.cpu': '1',
  'ai.backend.resource.min.mem': '128m',
  'ai.backend.envs.corecount': 'OPENBLAS_NUM_THREADS,OMP_NUM_THREADS',
};

const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
};

/** The digest of everything that decides the content: this file's lists, the script, the release and the processor. */
export function recipeDigest(script: string, codename: string, architecture: string): string {
  const content = JSON.stringify({ PACKAGES, USER, LABELS, ENVIRONMENT, script, codename, architecture });
  return createHash('sha256').update(content).digest('hex');
}

/** The image's configuration as Dockerfile instructions, for an import. */
export function imageChanges(digest: string): string[] {
  const labels = { ...LABELS, [RECIPE_LABEL]: digest };
  return [
    ...Object.entries(labels).map(([name, value]) => `LABEL ${name}=${JSON.stringify(value)}`),
    ...Object.entries(ENVIRONMENT).map(([name, value]) => `ENV ${name}=${JSON.stringify(value)}`),
    `USER ${USER.name}`,
    `WORKDIR ${USER.home}`,
    'CMD ["python3"]',
  ];
}

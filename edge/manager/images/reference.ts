/** Image references, as people write them: `[host[:port]/]path[:tag][@digest]`. Pure; refuses what an engine would. */
import { Refusal } from '../../../schema/errors.ts';

export interface ImageReference {
  /** Absent: the engine's own default. */
  registry: string | undefined;
  /** Lower-case path components. */
  repository: string;
  tag: string | undefined;
  /** `sha256:` and 64 hex digits. */
  digest: string | undefined;
}

const component = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const registryHost =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const digestPattern = /^sha256:[0-9a-f]{64}$/;
const repositoryLength = 255;

function refuse(detail: string): never {
  throw new Refusal('session_image_invalid', detail);
}

/** Takes a reference apart. @throws Refusal `session_image_invalid` with what is wrong */
export function parseImageReference(text: string): ImageReference {
  if (/[^\x21-\x7e]/.test(text)) refuse('An image reference has no spaces, control or non-ASCII characters.');
  const [named = '', digest, ...more] = text.split('@');
  if (more.length > 0 || (digest !== undefined && !digestPattern.test(digest)))
    refuse('After @ comes one digest: sha256: and 64 lower-case hex digits.');
  const { registry, path } = splitRegistry(named);
  const colon = path.lastIndexOf(':');
  const tag = colon === -1 ? undefined : path.slice(colon + 1);
  const repository = colon === -1 ? path : path.slice(0, colon);
  if (tag !== undefined && !tagPattern.test(tag))
    refuse('A tag is 1 to 128 letters, digits, dots, dashes and underscores, and begins with no dot or dash.');
  checkRepository(repository);
  return { registry, repository, tag, digest };
}

/** The first component is a registry when it looks like a host: a dot, a port, or `localhost`. */
function splitRegistry(named: string): { registry: string | undefined; path: string } {
  const slash = named.indexOf('/');
  const first = slash === -1 ? '' : named.slice(0, slash);
  if (first !== 'localhost' && !/[.:]/.test(first)) return { registry: undefined, path: named };
  if (!registryHost.test(first)) refuse('The registry is not a host name with an optional port.');
  return { registry: first, path: named.slice(slash + 1) };
}

function checkRepository(repository: string): void {
  if (repository === '') refuse('The image has no name.');
  if (repository.length > repositoryLength) refuse(`An image name has at most ${repositoryLength} characters.`);
  if (/[A-Z]/.test(repository)) refuse('An image name is in lower case.');
  if (!repository.split('/').every((part) => component.test(part)))
    refuse(
      'An image name is made of lower-case letters and digits, separated by . _ - and /, without empty or .. parts.',
    );
  if (/^[0-9a-f]{64}$/.test(repository))
    refuse('An image id is no reference. Name the image, or use name@sha256:digest.');
}

/** Names of images as Docker reads them. Pure. */

const host = '(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?)';
const component = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const pattern = new RegExp(
  `^(?:${host}/)?(?:${component})(?:/${component})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`,
);
const contentId = /^sha256:[0-9a-f]{64}$/;

/** True for what may be given to the engine as the name of an image: no path tricks, nothing it would read as an option. */
export function isImageReference(text: string): boolean {
  return text.length <= 512 && (pattern.test(text) || contentId.test(text));
}

/** The name without tag and digest. */
export function repositoryOf(reference: string): string {
  const named = reference.split('@')[0] ?? '';
  const slash = named.lastIndexOf('/');
  const colon = named.indexOf(':', slash + 1);
  return colon < 0 ? named : named.slice(0, colon);
}

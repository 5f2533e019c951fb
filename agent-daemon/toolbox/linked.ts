/** What a program of this machine needs to run elsewhere, from what `ldd` says of it. Pure. */

export interface Linked {
  /** Absolute path of the program that loads it; undefined: none is needed. */
  loader: string | undefined;
  /** By the names under which it asks for them. */
  libraries: { name: string; path: string }[];
}

/** Undefined when something of it is missing here, so that it runs nowhere. */
export function parseLinked(text: string): Linked | undefined {
  const found: Linked = { loader: undefined, libraries: [] };
  for (const line of text.split('\n')) {
    if (line.trim().endsWith('=> not found')) return undefined;
    const [, name = '', path = ''] = /^\s*(\S+) => (\/\S+)(?: \(0x[0-9a-f]+\))?$/.exec(line) ?? [];
    const loader = /^\s*(\/\S+) \(0x[0-9a-f]+\)$/.exec(line)?.[1];
    if (loader !== undefined) found.loader = loader;
    // A loader that is a library too is named both ways by musl.
    else if (name.startsWith('/')) found.loader = name;
    else if (name !== '') found.libraries.push({ name, path });
  }
  return found;
}

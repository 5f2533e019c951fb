/**
 * Kernels of Jupyter that are started before anybody asks for one (`init kernel --park`, SPEC.md J18): which may be, and what
 * has to be the same for one to be taken. Pure but for hashing.
 */
import { createHash } from 'node:crypto';
import type { FoundSpec } from './kernelspecs.ts';

/** A kernel that waits, under this name, as one of this kernelspec. */
export interface KernelInAdvance {
  name: string;
  found: FoundSpec;
}

/** Variables that a kernel has read by the time it answers: where they differ it has to be started with them. */
const readAtStart =
  /^(?:PATH|HOME|TMPDIR|LANG|LANGUAGE|(?:LC|LD|PYTHON|IPYTHON|JUPYTER|MPL|MALLOC|GLIBC|COVERAGE)_?[A-Z0-9_]*|R_[A-Z0-9_]*)$/;

/** In which the bridge can say that the environment is another now (`init/kernel.c`). */
const languages = ['python', 'r'];

/** Whose environment can be changed while it runs. */
export function mayBeInAdvance({ spec }: FoundSpec): boolean {
  return languages.includes(spec.language.toLowerCase()) && spec.interruptMode === 'signal';
}

/** The name under which a kernel waits: the same for those that can not be told apart once the environment is given. */
export function nameInAdvance(argv: readonly string[], env: Readonly<Record<string, string>>): string {
  const read = Object.entries(env)
    .filter(([name]) => readAtStart.test(name))
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash('sha256').update(JSON.stringify([argv, read]));
  return `causeway-kernel-${hash.digest('hex').slice(0, 32)}`;
}

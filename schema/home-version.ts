/**
 * What a control plane's storage was written by: its release, the migrations of D1, the schemas of its objects. A folder
 * (`version.json`) and a backup (its manifest) carry it, so that older code leaves alone what it can not read.
 */
import { z } from 'zod';

interface ObjectSchemaVersion {
  version: number;
  /** Oldest version of the code that can work with what this version writes. */
  minReader: number;
}

/** Schemas of the storages of objects in this release, by class. */
export const objectSchemas = {
  Access: { version: 2, minReader: 1 },
  Admission: { version: 1, minReader: 1 },
  Ledger: { version: 2, minReader: 1 },
  Throttle: { version: 1, minReader: 1 },
} as const satisfies Record<string, ObjectSchemaVersion>;

export const HomeVersion = z.object({
  /** Version of package.json. */
  release: z.string().regex(/^\d{1,6}\.\d{1,6}\.\d{1,6}/),
  /** Names of the migrations of D1 that were applied, in order. */
  migrations: z.array(z.string()).max(10_000),
  /** Of each class of objects. */
  objects: z.record(z.string(), z.object({ version: z.int().min(1), minReader: z.int().min(1) })),
});
export type HomeVersion = z.infer<typeof HomeVersion>;

/** The version that this code writes. `migrations`: names of the files that it has. */
export function ownVersion(release: string, migrations: readonly string[]): HomeVersion {
  return { release, migrations: [...migrations], objects: objectSchemas };
}

export type HomeVerdict =
  /** What this code writes. */
  | { kind: 'same' }
  /** Of an older release: this code brings it up to date. `steps`: what changes, in words. */
  | { kind: 'older'; steps: string[] }
  /** Of a newer release: this code must not touch it. `reasons`: why, in words. */
  | { kind: 'newer'; reasons: string[] };

/** Judges what is found by the code that is about to open it. */
export function judgeVersion(found: HomeVersion, own: HomeVersion): HomeVerdict {
  const unknown = found.migrations.filter((name) => !own.migrations.includes(name));
  const unreadable = Object.entries(found.objects).filter(
    ([name, { minReader }]) => minReader > (own.objects[name]?.version ?? 0),
  );
  const reasons = [
    ...(compareReleases(found.release, own.release) > 0
      ? [`release ${found.release} wrote it, this is ${own.release}`]
      : []),
    ...unknown.map((name) => `its database has the migration ${name}`),
    ...unreadable.map(([name, { minReader }]) => `its ${name} objects need a code of schema ${minReader}`),
  ];
  if (reasons.length > 0) return { kind: 'newer', reasons };
  const steps = [
    ...own.migrations.filter((name) => !found.migrations.includes(name)).map((name) => `migration ${name}`),
    ...Object.entries(own.objects)
      .filter(([name, { version }]) => version > (found.objects[name]?.version ?? version))
      .map(([name, { version }]) => `${name} objects to schema ${version}`),
    ...(found.release === own.release ? [] : [`release ${found.release} to ${own.release}`]),
  ];
  return steps.length > 0 ? { kind: 'older', steps } : { kind: 'same' };
}

/** Negative, 0 or positive, by the three numbers. */
function compareReleases(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(/[.-]/).slice(0, 3).map(Number));
  for (const at of [0, 1, 2]) {
    const difference = (left?.[at] ?? 0) - (right?.[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The version of this checkout, and that of a home. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HomeVersion, ownVersion } from '../../schema/home-version.ts';
import { findJson, writeJson } from './files.ts';
import { root } from './parts.ts';

const versionFile = (home: string) => join(home, 'version.json');

/** What this checkout writes. */
export function checkoutVersion(): HomeVersion {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const migrations = readdirSync(join(root, 'schema/db/migrations'))
    .filter((name) => name.endsWith('.sql'))
    .sort();
  return ownVersion(version, migrations);
}

/** What a home was written by; one from before this was noted counts as the oldest. Undefined where nothing was written. */
export function findHomeVersion(home: string): HomeVersion | undefined {
  if (!existsSync(join(home, 'edge'))) return undefined;
  return findJson(versionFile(home), HomeVersion) ?? { release: '0.0.0', migrations: [], objects: {} };
}

/** From here on older checkouts leave the home alone. */
export function noteHomeVersion(home: string): void {
  writeJson(versionFile(home), checkoutVersion());
}

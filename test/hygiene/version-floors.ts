/**
 * The least version of each package that we may be built from, with the reason. No database of advisories is at hand
 * offline, so what we know of is written down; `npm run check` compares the lockfile. A floor of a package that is not
 * installed waits for the day when it is.
 */

export interface Floor {
  /** Least good version of each major line that was mended; other lines below the highest floor are bad. */
  least: readonly string[];
  why: string;
}

export const versionFloors: Readonly<Record<string, Floor>> = {
  '@grpc/grpc-js': { least: ['1.8.22', '1.10.9'], why: 'CVE-2024-37168: memory beyond the limit of a message' },
  '@hono/node-server': { least: ['1.19.15'], why: 'paths and addresses believed that were not checked' },
  braces: { least: ['3.0.3'], why: 'CVE-2024-4068: memory without bound' },
  'brace-expansion': { least: ['1.1.12', '2.0.2', '3.0.1', '4.0.1'], why: 'CVE-2025-5889: catastrophic backtracking' },
  cookie: { least: ['0.7.0'], why: 'CVE-2024-47764: characters out of bounds in names' },
  'cross-spawn': { least: ['6.0.6', '7.0.5'], why: 'CVE-2024-21538: catastrophic backtracking' },
  esbuild: { least: ['0.25.0'], why: 'GHSA-67mh-4wv8-2f99: any website could read from its server' },
  hono: {
    least: ['4.13.5'],
    why: 'CSRF, body limit, JWT algorithms, cookies, mount prefixes (CVE-2026-22817, -22818, -24398, -47673 to -47676)',
  },
  micromatch: { least: ['4.0.8'], why: 'CVE-2024-4067: catastrophic backtracking' },
  nanoid: { least: ['3.3.8', '5.0.9'], why: 'CVE-2024-55565: predictable ids' },
  'path-to-regexp': {
    least: ['0.1.12', '1.9.0', '3.3.0', '6.3.0', '8.0.0'],
    why: 'CVE-2024-45296: catastrophic backtracking',
  },
  protobufjs: { least: ['6.11.4', '7.2.5'], why: 'CVE-2023-36665: prototype pollution' },
  semver: { least: ['5.7.2', '6.3.1', '7.5.2'], why: 'CVE-2022-25883: catastrophic backtracking' },
  ssh2: { least: ['1.4.0'], why: 'CVE-2020-26301: commands from a configuration' },
  tar: { least: ['7.5.8'], why: 'CVE-2026-23745, CVE-2026-26960: links out of the folder' },
  'tar-fs': { least: ['1.16.6', '2.1.4', '3.1.1'], why: 'CVE-2025-59343: links out of the folder' },
  undici: {
    least: ['6.21.2', '7.5.0'],
    why: 'CVE-2025-22150, CVE-2025-47279: guessable boundaries, a leak by bad certificates',
  },
  vite: { least: ['5.4.19', '6.3.4'], why: 'CVE-2025-46565: files outside of its root' },
  ws: { least: ['5.2.4', '6.2.3', '7.5.10', '8.17.1'], why: 'CVE-2024-37890: a crash by many headers' },
  zod: { least: ['3.22.3'], why: 'CVE-2023-4316: catastrophic backtracking' },
};

/** Copies below their floor that can do no harm where they are, with the reason. */
const exceptions: Readonly<Record<string, string>> = {
  'node_modules/@esbuild-kit/core-utils/node_modules/esbuild': 'of drizzle-kit, which starts no server with it',
};

/** Packages of a lockfile (version 3) that are below their floor, in words; and how many have one. */
export function belowFloors(lockfile: { packages: Record<string, { version?: string }> }): {
  bad: string[];
  checked: number;
} {
  const bad: string[] = [];
  let checked = 0;
  for (const [path, { version }] of Object.entries(lockfile.packages)) {
    const name = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)$/.exec(path)?.[1];
    const floor = name === undefined ? undefined : versionFloors[name];
    if (name === undefined || floor === undefined || version === undefined || path in exceptions) continue;
    checked += 1;
    if (isBelow(version, floor.least))
      bad.push(`${path} is ${version}; at least ${floor.least.join(' or ')}: ${floor.why}`);
  }
  return { bad, checked };
}

function isBelow(version: string, least: readonly string[]): boolean {
  const mine = numbersOf(version);
  const line = least
    .map(numbersOf)
    .findLast(([major, minor]) => major === mine[0] && (major !== 0 || minor === mine[1]));
  const floor = line ?? numbersOf(least.at(-1) ?? '');
  const differs = mine.findIndex((number, at) => number !== floor[at]);
  return differs >= 0 && mine[differs]! < floor[differs]!;
}

/** Of a prerelease, those of the release that it comes before. */
function numbersOf(version: string): number[] {
  return (version.split(/[-+]/)[0] ?? '').split('.').map(Number);
}

/**
 * Removal of what killed test runs left on this machine: engines and network namespaces, found by the directories
 * whose owner is gone. It touches nothing that such a directory does not name.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Traces, removeTraces, tracesFile, unmountBelow } from './dockerd-traces.ts';
import { runToEnd } from './process.ts';
import { abandonedDirs, startTime } from './tmp.ts';

/** File in a directory of `tmp.ts` with the names of the network namespaces that go with it, as a JSON array. */
export const namespacesFile = 'namespaces.json';

const claimFile = '.sweeping';

/** Removes everything whose owner died without doing so. What can not be removed now is left to the next sweep. */
export async function sweepAbandoned(): Promise<void> {
  for (const dir of abandonedDirs()) {
    if (!claim(dir)) continue;
    try {
      await sweep(dir);
    } catch (error) {
      console.error(`what a killed run left in ${dir} could not be removed: ${(error as Error).message}`);
      rmSync(join(dir, claimFile), { force: true });
    }
  }
}

async function sweep(dir: string): Promise<void> {
  const traces = readJson(join(dir, tracesFile));
  if (traces !== undefined) await removeTraces(traces as Traces, { keepData: false });
  for (const name of (readJson(join(dir, namespacesFile)) ?? []) as string[]) await deleteNamespace(name);
  await unmountBelow(dir);
  rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

/** Makes this process the only one that sweeps the directory; a claim of a process that is gone counts no more. */
function claim(dir: string): boolean {
  const file = join(dir, claimFile);
  try {
    const owner = readFileSync(file, 'utf8');
    if (startTime(Number(owner)) !== undefined) return false;
    rmSync(file);
  } catch {
    // Not claimed yet.
  }
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' });
    return true;
  } catch {
    return false;
  }
}

/** Deletes a network namespace with its interfaces, if it exists. */
export async function deleteNamespace(name: string): Promise<void> {
  if (existsSync(`/run/netns/${name}`)) await runToEnd('ip', ['netns', 'delete', name]);
}

function readJson(file: string): unknown {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}

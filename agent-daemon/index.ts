/**
 * Starts the agent (`daemon.ts`) as one bundled file in this very process, with a heap that suits it: about 87 MiB with
 * 50 sessions instead of 150. Where that can not be made, from its sources: all works, in more memory.
 */
import { join } from 'node:path';
import { bundleOf } from './bundle/bundle.ts';

/**
 * A heap that grows by little: what the agent carries are bytes outside of it, not objects. `--optimize-for-size` would save
 * another 6 MiB and costs a fifth of the speed of an exec.
 */
const heapFlags = ['--max-semi-space-size=2'];
/** The C library keeps what was freed for later, in eight heaps, unless it is told otherwise. */
const mallocSettings = { MALLOC_ARENA_MAX: '2', MALLOC_TRIM_THRESHOLD_: '131072' };

async function bundled(): Promise<string | undefined> {
  const root = join(import.meta.dirname, '..');
  try {
    return await bundleOf(root, join(root, 'node_modules/.cache/causeway-agent'));
  } catch (error) {
    process.stderr.write(`causeway agent: runs from its sources, in more memory: ${String(error)}\n`);
    return undefined;
  }
}

const path = await bundled();
if (path === undefined || process.execve === undefined) await import('./daemon.ts');
else {
  // That execve is experimental is nothing for the agent's log.
  process.removeAllListeners('warning');
  const args = [process.execPath, ...heapFlags, path, ...process.argv.slice(2)];
  process.execve(process.execPath, args, { ...mallocSettings, ...process.env });
}

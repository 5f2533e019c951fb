/** Starts a kernel of Jupyter in a container that is nobody's yet, for whoever asks for one there. */
import type { OutputPolicy } from '../../schema/api/session-parts.ts';
import type { Clock, Random, Timers } from '../../schema/ports.ts';
import { freshId } from '../fresh-id.ts';
import type { SpawnSpec } from '../init/messages.ts';
import { type KernelInAdvance, mayBeInAdvance, nameInAdvance } from '../kernels/in-advance.ts';
import {
  bridgeArgv,
  kernelArgvOf,
  kernelspecsArgv,
  listKernelspecs,
  runTool,
  specEnv,
} from '../kernels/kernelspecs.ts';
import type { Spools } from '../output/spools.ts';
import { imageEnvironment } from '../processes/environment.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import { inside } from '../runtime/docker-spec.ts';
import { recordOf } from '../sessions/main-process.ts';

interface BootPorts {
  clock: Clock;
  timers: Timers;
  random: Random;
  spools: Spools;
}

/** The container: whose names its processes have until it is a session's, and what they are like. */
interface Bootable {
  warmId: string;
  supervisor: Supervisor;
  kernel: string;
  imageEnv: readonly string[];
}

const output: OutputPolicy = { onFull: 'block', blockMs: 0, spoolBytes: 1024 * 1024 };

/**
 * Leaves a kernel of this kernelspec waiting, as the image has it (no user has put anything into this home yet), and answers
 * how it is asked for. Undefined where there is none of that name, or none that can be given away. @throws Error when it did not come up
 */
export async function bootKernel(
  ports: BootPorts,
  container: Bootable,
  specName: string,
  signal: AbortSignal,
): Promise<KernelInAdvance | undefined> {
  const { warmId, supervisor } = container;
  const toolPorts = { ...ports, supervisor };
  const ref = () => ({ sessionId: warmId, generation: 0, processId: freshId('process', ports) });
  const env = imageEnvironment({ kernel: container.kernel, imageEnv: container.imageEnv });
  const spawning = (processId: string, argv: string[], own: Readonly<Record<string, string>> = {}) => {
    const spec: SpawnSpec = { processId, argv, env: { ...env, ...own }, cwd: inside.home, stdin: 'null', output };
    return Promise.resolve({ spec, record: recordOf(spec, output, ports.clock.nowMs()) });
  };
  const listing = ref();
  const specs = await listKernelspecs(
    toolPorts,
    listing,
    spawning(listing.processId, kernelspecsArgv(inside.init)),
    signal,
  );
  const found = specs.find(({ spec }) => spec.name === specName);
  if (found === undefined || !mayBeInAdvance(found)) return undefined;
  const own = specEnv(found, env);
  const name = nameInAdvance(kernelArgvOf(found), { ...env, ...own });
  const parking = ref();
  const parked = await runTool(
    toolPorts,
    parking,
    { spawning: spawning(parking.processId, bridgeArgv(inside.init, found, { park: name }), own), reads: 'stderr' },
    signal,
  );
  if (parked?.exit.exitCode === 0) return { name, found };
  throw new Error(`a kernel did not come up: ${parked?.output.toString().trim().slice(-500) ?? 'it took too long'}`);
}

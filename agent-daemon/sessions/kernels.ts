/** The kernels of a session: what they need of it. */
import { SessionKernels } from '../kernels/session-kernels.ts';
import { type SpawningSession, toSpawn } from '../processes/spawn-spec.ts';
import { inside } from '../runtime/docker-spec.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import type { SessionHost } from './host.ts';
import { recordOf } from './main-process.ts';
import type { PlacementFile } from './placement.ts';

export interface SessionWithKernels extends SpawningSession {
  readonly placement: PlacementFile;
  readonly supervisor: Supervisor | undefined;
}

export function makeKernels(session: SessionWithKernels, host: SessionHost): SessionKernels {
  const { placement } = session;
  const { sessionId, generation, spec } = placement;
  return new SessionKernels(
    {
      sessionId,
      generation,
      ...host.store.kernelsOf(placement),
      supervisor: () => session.supervisor,
      initPath: inside.init,
      kernelInAdvance: () => session.placement.kernelInAdvance,
      startsSpec: (name) => {
        const image = session.image();
        image.then((facts) => facts && host.warm.startedKernel(spec, facts, name)).catch(() => undefined);
      },
      spawnOf: async (processId, argv, env = {}) => {
        const spawn = await toSpawn(session, processId, { argv: [...argv], stdin: true, env });
        return { spec: spawn, record: recordOf(spawn, spec.output, host.clock.nowMs()) };
      },
    },
    host,
  );
}

/** The kernels of a session: what they need of it. */
import { kernelMadeFor, mainKernelOf, mainKernelRestarts, usualSpecOf } from '../../schema/api/jupyter.ts';
import type { KernelInAdvance } from '../kernels/in-advance.ts';
import { SessionKernels } from '../kernels/session-kernels.ts';
import { type SpawningSession, toSpawn } from '../processes/spawn-spec.ts';
import { inside } from '../runtime/docker-spec.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import type { SessionHost } from './host.ts';
import { hasMain, recordOf } from './main-process.ts';
import type { PlacementFile } from './placement.ts';

export interface SessionWithKernels extends SpawningSession {
  readonly placement: PlacementFile;
  readonly supervisor: Supervisor | undefined;
  readonly state: 'present' | 'running' | 'ended';
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
      hasEnded: () => session.state === 'ended',
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

/**
 * Starts the kernel that a session was made for, as soon as the session runs: whoever asks for it finds it, and is told if
 * it could not be started. `waiting`: one that was started in advance with the container.
 */
export function startMainKernel(
  { placement, kernels }: Pick<SessionWithKernels, 'placement'> & { kernels: SessionKernels },
  { log }: Pick<SessionHost, 'log'>,
  signal: AbortSignal,
  waiting: KernelInAdvance | undefined,
): void {
  const { sessionId, spec } = placement;
  const made = hasMain(spec) ? undefined : kernelMadeFor(spec.env);
  const name = made && usualSpecOf(made.language);
  if (name === undefined) return;
  const wanted = { spec: name, restarts: mainKernelRestarts };
  kernels.startSpec(mainKernelOf(sessionId), wanted, signal, waiting).catch((error: unknown) => {
    log.debug('the kernel of a session waits for who asks for it', { sessionId, error: String(error) });
  });
}

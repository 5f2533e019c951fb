/** The terminals of a session: what they need of it. */
import { toSpawn } from '../processes/spawn-spec.ts';
import { SessionTerminals } from '../terminals/session-terminals.ts';
import { checkWorkdir } from '../runtime/docker-spec.ts';
import type { SessionHost } from './host.ts';
import type { SessionWithKernels } from './kernels.ts';
import { hasMain, mainProcessId, recordOf } from './main-process.ts';

/** While the agent is away a terminal waits as long as one whose other end does not answer. */
const output = { onFull: 'block', blockMs: 86_400_000 } as const;

export function makeTerminals(session: SessionWithKernels, host: SessionHost): SessionTerminals {
  const { placement } = session;
  const { sessionId, generation, spec } = placement;
  return new SessionTerminals(
    {
      sessionId,
      generation,
      ...host.store.terminalsOf(placement),
      mainProcessId: spec.tty && hasMain(spec) ? mainProcessId(sessionId, generation) : undefined,
      supervisor: () => session.supervisor,
      spawnOf: async (processId, spawn, { spoolBytes }) => {
        if (spawn.cwd !== undefined) checkWorkdir(spawn.cwd);
        const spec = { ...(await toSpawn(session, processId, spawn)), output };
        return { spec, record: recordOf(spec, { ...output, spoolBytes }, host.clock.nowMs()) };
      },
    },
    { ...host, pool: host.screenPool },
  );
}

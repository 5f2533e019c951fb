/** What the init is asked for when a further process of a session is started: a client's, a kernel, a command of SSH. */
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import type { SpawnSpec } from '../init/messages.ts';
import { inside } from '../runtime/docker-spec.ts';
import type { ImageFacts } from '../runtime/runtime.ts';
import { processEnvironment } from './environment.ts';

/** The session, as far as its processes are like it. */
export interface SpawningSession {
  sessionId: string;
  placement: { spec: KernelSpec; imageEnv?: readonly string[] | undefined };
  /** For one that an earlier version of the agent placed. */
  image(): Promise<ImageFacts | undefined>;
}

/** With everything that each process of a session gets. */
export async function toSpawn(session: SpawningSession, processId: string, spawn: ProcessSpawn): Promise<SpawnSpec> {
  const { sessionId, placement } = session;
  const { spec } = placement;
  const imageEnv = placement.imageEnv ?? (await session.image())?.env ?? [];
  return {
    processId,
    argv: spawn.argv,
    env: processEnvironment({ sessionId, spec, imageEnv }, spawn.env, { tty: spawn.tty !== undefined }),
    cwd: spawn.cwd ?? inside.home,
    ...(spawn.tty === undefined ? {} : { tty: { rows: spawn.tty.rows, cols: spawn.tty.columns } }),
    stdin: spawn.stdin === true ? 'open' : 'null',
    output: { onFull: spec.output.onFull, blockMs: spec.output.blockMs },
  };
}

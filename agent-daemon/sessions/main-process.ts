/** How the main process of a session is started: what to run, as what. Pure but for hashing. */
import { createHash } from 'node:crypto';
import { Refusal } from '../../schema/errors.ts';
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import type { SpawnSpec } from '../init/messages.ts';
import { type ProcessRecord, shortArgv } from '../output/process-record.ts';
import { derivedProcessId } from '../processes/derived-id.ts';
import { processEnvironment } from '../processes/environment.ts';
import { inside } from '../runtime/docker-spec.ts';
import type { ImageFacts } from '../runtime/runtime.ts';

/** The terminal of a main process until somebody with a window attaches. */
const defaultWindow = { rows: 24, cols: 80 } as const;

/** The id of the main process: always the same for a placement, so that it can be started only once. */
export function mainProcessId(sessionId: string, generation: number): string {
  return derivedProcessId(`main ${sessionId} ${generation}`);
}

/** Whether a session has a main process: an interactive one without a command has none. */
export function hasMain({ type, command }: Pick<KernelSpec, 'type' | 'command'>): boolean {
  return type === 'batch' || (command?.length ?? 0) > 0;
}

/**
 * Argv of the main process; undefined for a session that has none (interactive, without a command).
 * @throws Refusal `session_image_invalid` when a batch session's image has no command of its own
 */
export function mainArgv(spec: KernelSpec, image: ImageFacts): string[] | undefined {
  if (spec.command !== undefined && spec.command.length > 0) return spec.command;
  if (spec.type === 'interactive') return undefined;
  const own = [...image.entrypoint, ...image.cmd];
  if (own.length > 0) return own;
  throw new Refusal('session_image_invalid', 'The image has no command of its own. Name one: run ... -- COMMAND');
}

/** What the init is asked for. */
export function mainSpawn(
  sessionId: string,
  generation: number,
  spec: KernelSpec,
  image: ImageFacts,
  argv: readonly string[],
): SpawnSpec {
  return {
    processId: mainProcessId(sessionId, generation),
    argv,
    env: processEnvironment({ sessionId, spec, imageEnv: image.env }, {}, { tty: spec.tty }),
    cwd: inside.home,
    ...(spec.tty ? { tty: defaultWindow } : {}),
    stdin: spec.stdin ? 'open' : 'null',
    output: { onFull: spec.output.onFull, blockMs: spec.output.blockMs },
  };
}

/** What is kept of a process that is started by `spawn`. */
export function recordOf(spawn: SpawnSpec, output: ProcessRecord['output'], startedAtMs: number): ProcessRecord {
  return {
    spawn: hashOf(spawn),
    argv: shortArgv(spawn.argv),
    tty: spawn.tty !== undefined,
    stdin: spawn.stdin === 'open' || spawn.tty !== undefined,
    startedAtMs,
    output,
    holes: {},
  };
}

/** What makes two requests the same one: not the window, which a client may have changed meanwhile. */
function hashOf({ argv, env, cwd, tty, stdin }: SpawnSpec): string {
  const same = JSON.stringify([
    argv,
    Object.entries(env).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    cwd,
    tty !== undefined,
    stdin,
  ]);
  return createHash('sha256').update(same).digest('hex');
}

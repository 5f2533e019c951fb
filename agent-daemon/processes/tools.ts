/** The programs that every container has with its init (`agent-daemon/init/SPEC.md`, "Tools"), as what is spawned. Pure. */
import type { ProcessExit } from '../output/process-record.ts';
import { inside } from '../runtime/docker-spec.ts';

export type Tool = 'accepted' | 'connect' | 'connect-unix' | 'listen' | 'listen-fresh' | 'listen-unix' | 'sftp';

/** Status of an init of before its tools, which takes them for a wrong use of itself. */
const wrongUse = 2;

/** What a person is told who wants a tool in a session whose init has none. */
export const initTooOld = 'The session runs since before its agent could do this. Start a new session for it.';

/** The command. There is always an argument: without one an older init would take the name for its socket. */
export function toolArgv(tool: Tool, ...args: [string, ...string[]]): [string, ...string[]] {
  return [inside.init, tool, ...args];
}

/** Whether `argv` ended so because the container's init is older than the tool. */
export function isInitTooOld(argv: readonly string[], exit: ProcessExit | undefined): boolean {
  return argv[0] === inside.init && exit?.exitCode === wrongUse;
}

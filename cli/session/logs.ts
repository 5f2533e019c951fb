/** `causeway logs`: the kept output of a session, from any offset, followed over every cut. */
import type { Command } from 'commander';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { oneOf, wholeNumber } from '../options.ts';
import { ProcessFollower } from '../process/follow.ts';
import { localIo } from '../process/local-io.ts';
import { dialSession } from '../tunnel/dial.ts';
import { findSession } from './find.ts';

interface LogOptions {
  follow?: boolean;
  stream: string;
  sinceOffset?: string;
  tail?: string;
}

const anyOffset = [0, Number.MAX_SAFE_INTEGER] as const;
const maxTailLines = 1_000_000;

/** Registers `logs`. */
export function registerLogs(program: Command): void {
  program
    .command('logs')
    .description('output of a session, also after its end (stdout to stdout, stderr to stderr)')
    .option('-f, --follow', 'go on until the session ends')
    .option('--stream <stream>', 'stdout, stderr or both', 'both')
    .option('--since-offset <bytes>', 'start after this many bytes of each stream')
    .option('--tail <lines>', 'start this many lines before the end')
    .argument('<session>', 'name or id')
    .action(showLogs);
}

async function showLogs(name: string, options: LogOptions): Promise<void> {
  const streams = oneOf('--stream', options.stream, ['both', 'stdout', 'stderr']);
  const { sinceOffset, tail } = options;
  const offset = sinceOffset === undefined ? undefined : wholeNumber('--since-offset', sinceOffset, anyOffset);
  const tailLines = tail === undefined ? undefined : wholeNumber('--tail', tail, [0, maxTailLines]);
  if (offset !== undefined && tailLines !== undefined)
    throw new CliFailure('--since-offset and --tail: give one of the two', { status: exitStatus.usage });
  const api = new Api();
  const session = await findSession(api, name);
  const start = { stdout: offset ?? 0, stderr: offset ?? 0 };
  const follower = new ProcessFollower(
    dialSession(api, session.id, 'logs'),
    {
      open: (after) => ({
        op: 'logs',
        processId: 'main',
        streams,
        follow: Boolean(options.follow),
        ...(tailLines !== undefined && after.stdout + after.stderr === 0 ? { tailLines } : { after }),
      }),
      from: start,
      startsAnywhere: offset !== undefined || tailLines !== undefined,
      endsWithoutExit: true,
    },
    localIo(false),
  );
  process.once('SIGINT', () => follower.detach());
  await follower.run();
}

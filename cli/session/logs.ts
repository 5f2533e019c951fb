/** `causeway logs`: the kept output of a session, from any offset or time, searched or whole, followed over every cut. */
import type { Command } from 'commander';
import type { Session } from '../../schema/api/session.ts';
import { isAgo, whenMs } from '../../schema/log/when.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { oneOf, wholeNumber } from '../options.ts';
import { type Position, ProcessFollower, type ProcessIo } from '../process/follow.ts';
import { placeWords } from '../process/placement.ts';
import { localIo } from '../process/local-io.ts';
import { dialSession } from '../tunnel/dial.ts';
import { mayPass } from '../tunnel/patience.ts';
import { findSession } from './find.ts';
import { LogEvents } from './log-events.ts';

interface LogOptions {
  follow?: boolean;
  stream: string;
  sinceOffset?: string;
  tail?: string;
  since?: string;
  until?: string;
  grep?: string;
  ignoreCase?: boolean;
  timestamps?: boolean;
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
    .option('--since <time>', 'lines written since: 10m (ago), or 2026-11-28T10:00:00Z')
    .option('--until <time>', 'lines written before')
    .option('--grep <pattern>', 'lines in which this regular expression is found')
    .option('-i, --ignore-case', 'small and capital letters are the same to --grep')
    .option('--timestamps', 'begin each line with its time')
    .argument('<session>', 'name or id')
    .action(showLogs);
}

async function showLogs(name: string, options: LogOptions): Promise<void> {
  const streams = oneOf('--stream', options.stream, ['both', 'stdout', 'stderr']);
  const { sinceOffset, tail, since, until, grep, ignoreCase, timestamps } = options;
  const offset = sinceOffset === undefined ? undefined : wholeNumber('--since-offset', sinceOffset, anyOffset);
  const tailLines = tail === undefined ? undefined : wholeNumber('--tail', tail, [0, maxTailLines]);
  if (offset !== undefined && tailLines !== undefined)
    throw new CliFailure('--since-offset and --tail: give one of the two', { status: exitStatus.usage });
  const areLines = since !== undefined || until !== undefined || grep !== undefined || timestamps === true;
  if (offset !== undefined && areLines)
    throw new CliFailure('--since-offset counts bytes: leave it out where lines are chosen or marked', {
      status: exitStatus.usage,
    });
  const api = new Api();
  const session = await findSession(api, name);
  if (areLines) {
    const query = { stream: streams, since, until, grep, ignoreCase, timestamps, tailLines, follow: options.follow };
    await showLines(api, session.id, query);
    return;
  }
  const from = { stdout: offset ?? 0, stderr: offset ?? 0 };
  await showBytes(api, session, {
    streams,
    follow: options.follow === true,
    tailLines,
    from,
    isOffset: offset !== undefined,
  });
}

interface BytesWish {
  streams: 'stdout' | 'stderr' | 'both';
  follow: boolean;
  tailLines: number | undefined;
  from: Position;
  isOffset: boolean;
}

/** What a machine answers, or is answered for it, when its output may lie in object storage. */
const elsewhere = new Set(['agent_unreachable', 'session_output_gone', 'process_not_found']);
/** A machine that has just lost its connection is back within this. */
const comesBackMs = 5_000;
const pauseMs = 1_000;

/** It is asked for again and again while a machine is away: each thing is said once. */
function sayingOnce(io: ProcessIo): ProcessIo {
  const said = new Set<string>();
  const once = (tell: (line: string) => void) => (line: string) => {
    if (!said.has(line)) tell(line);
    said.add(line);
  };
  return { ...io, say: once((line) => io.say(line)), warn: once((line) => io.warn(line)) };
}

/** At its machine; where that is out of reach, or has nothing any more, what it handed over. */
async function showBytes(api: Api, session: Session, { streams, follow, tailLines, isOffset, ...wish }: BytesWish) {
  const io = sayingOnce(localIo(false));
  const startedMs = performance.now();
  let { from } = wish;
  let hasBegun = false;
  /** It is not known yet where it begins. */
  let isFresh = from.stdout + from.stderr === 0;
  let follower: ProcessFollower;
  const detached = new AbortController();
  let isReadingStored = false;
  process.once('SIGINT', () => {
    if (isReadingStored) process.exit(0);
    detached.abort();
    follower.detach();
  });
  while (!detached.signal.aborted) {
    const isTail = isFresh && tailLines !== undefined;
    follower = new ProcessFollower(
      dialSession(api, session.id, 'logs'),
      {
        open: (after) => ({
          op: 'logs',
          processId: 'main',
          streams,
          follow,
          ...(isTail && !follower.hasBegun ? { tailLines } : { after }),
        }),
        from,
        startsAnywhere: isTail || (isOffset && !isFresh),
        endsWithoutExit: true,
        givesUpOn: elsewhere,
      },
      io,
    );
    try {
      await follower.run();
      return;
    } catch (error) {
      if (!(error instanceof CliFailure)) throw error;
      // It lost its machine, and waits for the next: an earlier one may have handed something over.
      const isLost = error.code === 'session_not_running';
      if (!isLost && !elsewhere.has(error.code ?? '')) throw error;
      from = follower.position;
      hasBegun ||= follower.hasBegun;
      isFresh &&= !hasBegun;
      const mayComeBack = error.code === 'agent_unreachable' && performance.now() - startedMs < comesBackMs;
      if (!mayComeBack) {
        isReadingStored = true;
        const stored = await showStored(api, session, { streams, follow, tailLines, from, isFresh }, io);
        isReadingStored = false;
        // Who follows waits for it, and who has a part of what there was.
        const waits = error.code === 'agent_unreachable' && (follow || hasBegun);
        if (stored === undefined && !waits) throw error;
        if (stored?.isOver || (stored && !follow)) return;
        from = stored?.from ?? from;
        isFresh &&= stored === undefined;
        io.say(isLost ? placeWords.lost : placeWords.away);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** What lies in object storage from `from` on; undefined when nothing does, or (where it is followed) just now can not be read. */
async function showStored(
  api: Api,
  { id: sessionId, generation }: Session,
  {
    streams,
    follow,
    tailLines,
    from,
    isFresh,
  }: Pick<BytesWish, 'streams' | 'follow' | 'tailLines' | 'from'> & { isFresh: boolean },
  io: ProcessIo,
): Promise<{ isOver: boolean; from: BytesWish['from'] } | undefined> {
  const lastId = isFresh ? {} : { lastId: `${from.generation ?? generation}.${from.stdout}.${from.stderr}` };
  const query = { stream: streams, source: 'storage', tailLines };
  const events = new LogEvents(api, { sessionId, query, typed: {}, follow: false, timestamps: false, ...lastId }, io);
  try {
    const isOver = await events.run();
    const [placement, stdout, stderr] = (events.lastId ?? '').split('.').map(Number);
    return {
      isOver,
      from: stdout === undefined || stderr === undefined ? from : { stdout, stderr, generation: placement },
    };
  } catch (error) {
    if (!(error instanceof CliFailure)) throw error;
    if (error.code === 'session_output_gone' || (follow && mayPass(error))) return undefined;
    throw error;
  }
}

interface LineQuery {
  stream: string;
  since: string | undefined;
  until: string | undefined;
  grep: string | undefined;
  ignoreCase: boolean | undefined;
  timestamps: boolean | undefined;
  tailLines: number | undefined;
  follow: boolean | undefined;
}

/** A time that stays what it is, however often it is asked for: a follower comes again after each cut. */
function fixed(time: string | undefined): string | undefined {
  if (time === undefined || !isAgo(time)) return time;
  const nowMs = Date.now();
  return new Date(whenMs(time, nowMs) ?? nowMs).toISOString();
}

async function showLines(api: Api, sessionId: string, query: LineQuery): Promise<void> {
  const typed = { since: '--since', until: '--until', grep: '--grep', tailLines: '--tail' };
  const times = { ...query, since: fixed(query.since), until: fixed(query.until) };
  const follow = query.follow === true;
  const timestamps = query.timestamps === true;
  process.once('SIGINT', () => process.exit(0));
  await new LogEvents(api, { sessionId, query: times, typed, follow, timestamps }, localIo(false)).run();
}

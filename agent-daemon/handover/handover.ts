/**
 * Hands kept output to object storage, through the edge: all of a session when it has ended, and what is new of those that
 * run, every few minutes. It never holds a session's end up: it reads what is on the disk, in its own time, and tries again
 * until it is there. It decides nothing about what is kept here: that stays with the retention of the spools.
 */
import { createHash } from 'node:crypto';
import { chunkName, encodeChunk, type HandOverEnd } from '../../schema/log/chunk.ts';
import { streamNames } from '../../schema/log/tail.ts';
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Clock, Failpoints, Log, Random, Timers } from '../../schema/ports.ts';
import { backoffMs } from '../../schema/protocol/backoff.ts';
import { timeLimit } from '../deadline.ts';
import { type Disk, isMissing } from '../disk.ts';
import type { Loop, Loops } from '../loops.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import { isUnreadable } from '../output/read-again.ts';
import type { StreamName } from '../output/segment.ts';
import type { SpoolRef, Spools } from '../output/spools.ts';
import { attendedSpawn } from '../processes/supervisor.ts';
import { mainProcessId } from '../sessions/main-process.ts';
import { EdgeRefusal, type Upload } from '../tunnel/edge-api.ts';
import { type Chunk, readChunk } from './chunker.ts';
import { type HandedOver, readHandedOver, writeHandedOver } from './state.ts';

/** From bytes to a gzip member. Off the thread that serves everybody. */
export type Gzip = (bytes: Uint8Array) => Promise<Uint8Array>;

export interface HandOverOptions {
  spools: Spools;
  /** How often what is new of running sessions is handed over, ms; 0: only when they have ended. */
  everyMs: number;
  upload: Upload;
  gzip: Gzip;
  disk: Disk;
  clock: Clock;
  timers: Timers;
  random: Random;
  loops: Loops;
  log: Log;
  failpoints: Failpoints<AgentFailpoint>;
}

const uploadMs = 60_000;
/** Chunks of one stream before others have their turn; and at most of one that is being written, at each look. */
const chunksPerTurn = 16;
const chunksWhileWritten = 64;
/** A look that takes longer is gone on with in another one. */
const longestLookMs = 120_000;
/** What the edge does not want is offered again after this long: it may know by then. */
const refusedMs = 3_600_000;
/** What the disk does not give is read again after the first of these, later each time, up to the second, and given up after the third. */
const unreadMs = { first: 30_000, most: 3_600_000, patience: 24 * 3_600_000 };
/** A mode that somebody changed. It is not given up: somebody can change it back. */
const forbidden = new Set(['EACCES', 'EPERM']);
/** Answers that are about what is sent, not about whether anything can be. */
const unwanted = new Set([400, 404, 409, 410, 413]);
/** Whether what is still written is taken as well, or only what has an end. */
interface Turn {
  isOver: boolean;
  takesWritten: boolean;
}

/** `later`: it was not its turn. */
type Outcome = 'ended' | 'more' | 'waits' | 'later';

/** The loop looks at least so often, for what a poke was missed for. */
const lookEveryMs = 600_000;

export class HandOver {
  readonly #options: HandOverOptions;
  /** By process: until when it is left alone, on the boot clock. */
  readonly #refused = new Map<string, number>();
  /** By process: since when the disk does not give its output, and how often that was seen. */
  readonly #unread = new Map<string, { sinceMs: number; times: number }>();
  readonly #stopping = new AbortController();
  #loop: Loop | undefined;
  #failures = 0;
  #notBeforeMs = 0;
  /** When what is still written was taken last. */
  #writtenAtMs = Number.NEGATIVE_INFINITY;
  /** The next look beside those of the loop. */
  #nextLookMs = Number.POSITIVE_INFINITY;
  #cancelNextLook: () => void = () => undefined;

  constructor(options: HandOverOptions) {
    this.#options = options;
  }

  start(): void {
    const { loops, spools, everyMs } = this.#options;
    this.#loop = loops.every('hand-over of output', everyMs === 0 ? lookEveryMs : everyMs, () => this.#look());
    spools.whenEnded(() => this.#loop?.soon());
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'));
    this.#cancelNextLook();
    await this.#loop?.stop();
  }

  async #look(): Promise<void> {
    const { clock, spools, everyMs } = this.#options;
    const startedMs = clock.bootMs();
    if (startedMs < this.#notBeforeMs) return this.#lookIn(this.#notBeforeMs - startedMs);
    // Looks come more often where sessions end all the time: each would cut a chunk of its own from every log.
    let takesWritten = startedMs - this.#writtenAtMs >= everyMs;
    if (everyMs > 0 && !takesWritten) this.#lookIn(this.#writtenAtMs + everyMs - startedMs);
    try {
      for (let hasMore = true; hasMore;) {
        hasMore = false;
        for (const { sessionId, generation, isOver } of await spools.generations()) {
          if (this.#stopping.signal.aborted) return;
          hasMore = (await this.#generation(sessionId, generation, { isOver, takesWritten })) || hasMore;
        }
        if (takesWritten) this.#writtenAtMs = startedMs;
        takesWritten = false;
        if (hasMore && clock.bootMs() - startedMs > longestLookMs) {
          this.#lookIn(1);
          return;
        }
      }
      this.#failures = 0;
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#retryLater(error);
    }
  }

  /** The edge can not be reached, or is busy: everything waits. */
  #retryLater(error: unknown): void {
    const { random, clock, log } = this.#options;
    if (this.#failures === 0) log.warn('output could not be handed over, trying again', { error: String(error) });
    const asked = error instanceof EdgeRefusal ? (error.retryAfterMs ?? 0) : 0;
    const waitMs = Math.max(asked, backoffMs(this.#failures++, random.fraction()));
    this.#notBeforeMs = clock.bootMs() + waitMs;
    this.#lookIn(waitMs);
  }

  #lookIn(delayMs: number): void {
    const { clock, timers } = this.#options;
    const atMs = clock.bootMs() + delayMs;
    if (atMs >= this.#nextLookMs) return;
    this.#cancelNextLook();
    this.#nextLookMs = atMs;
    this.#cancelNextLook = timers.after(delayMs, () => {
      this.#nextLookMs = Number.POSITIVE_INFINITY;
      this.#loop?.soon();
    });
  }

  /** True when there is more of it right now. */
  async #generation(sessionId: string, generation: number, turn: Turn): Promise<boolean> {
    const { spools, everyMs } = this.#options;
    const { isOver } = turn;
    if (!isOver && everyMs === 0) return false;
    let isAll = isOver;
    let hasMore = false;
    for (const processId of await spools.processes(sessionId, generation)) {
      if (this.#stopping.signal.aborted) return false;
      const outcome = await this.#guarded({ sessionId, generation, processId }, turn);
      isAll &&= outcome === 'ended';
      hasMore ||= outcome === 'more';
    }
    if (isAll) await spools.markHandedOver(sessionId, generation);
    return hasMore;
  }

  async #guarded(ref: SpoolRef, turn: Turn): Promise<Outcome> {
    const { clock, log } = this.#options;
    const key = keyOf(ref);
    if ((this.#refused.get(key) ?? 0) > clock.bootMs()) return 'waits';
    this.#refused.delete(key);
    try {
      const outcome = await this.#process(ref, turn);
      // Of one that was given up the rest is still to be sent.
      if (outcome === 'ended' || outcome === 'waits') this.#unread.delete(key);
      return outcome;
    } catch (error) {
      if (isUnreadable(error) || forbidden.has((error as NodeJS.ErrnoException).code ?? '')) {
        this.#leave(ref, error);
        return 'waits';
      }
      // Removed meanwhile, with its session.
      if (isMissing(error)) {
        this.#unread.delete(key);
        return 'waits';
      }
      if (!(error instanceof EdgeRefusal) || !unwanted.has(error.status)) throw error;
      this.#refused.set(key, clock.bootMs() + refusedMs);
      log.warn('the control plane does not take the output of a process', { ...ref, code: error.code });
      return 'waits';
    }
  }

  /** The disk does not give it now: others do not wait for that. */
  #leave(ref: SpoolRef, error: unknown): void {
    const { clock, log } = this.#options;
    const key = keyOf(ref);
    const nowMs = clock.bootMs();
    const unread = this.#unread.get(key) ?? { sinceMs: nowMs, times: 0 };
    if (unread.times === 0)
      log.warn('the disk keeps output from being handed over, trying again', { ...ref, error: String(error) });
    const waitMs = Math.min(unreadMs.first * 2 ** unread.times, unreadMs.most);
    this.#unread.set(key, { ...unread, times: unread.times + 1 });
    this.#refused.set(key, nowMs + waitMs);
    this.#lookIn(waitMs);
  }

  /** It was tried for long: what is kept elsewhere says what is missing, and has all the rest. */
  #givesUp(ref: SpoolRef): boolean {
    const { sinceMs } = this.#unread.get(keyOf(ref)) ?? {};
    return sinceMs !== undefined && this.#options.clock.bootMs() - sinceMs >= unreadMs.patience;
  }

  async #process(ref: SpoolRef, { isOver, takesWritten }: Turn): Promise<Outcome> {
    const { spools, disk } = this.#options;
    const dir = spools.dirOf(ref);
    let state = await readHandedOver(disk, dir);
    if (state.ended) return 'ended';
    const read = await spools.read(ref);
    if (read === undefined) return 'waits';
    try {
      const { spool } = read;
      if (!isLog(ref, spool)) return spool.record.exit === undefined && !isOver ? 'waits' : 'ended';
      // Looked at before what there is: what comes later belongs to the next look.
      const isFinal = isOver || spool.record.exit !== undefined;
      if (!isFinal && !takesWritten) return 'later';
      const missing: NonNullable<HandOverEnd['missing']> = {};
      for (const stream of streamNames) {
        const sent = await this.#stream(ref, spool, stream, state, isFinal);
        state = sent.state;
        if (sent.hasMore) return 'more';
        if (sent.missing !== undefined) missing[stream] = sent.missing;
      }
      if (!isFinal) return 'waits';
      await this.#end(ref, spool, missing);
      await writeHandedOver(disk, dir, { ...state, ended: true });
      return 'ended';
    } finally {
      await read.done();
    }
  }

  /** Sends what is new of a stream. `missing`: why its last bytes are, if they are. */
  async #stream(ref: SpoolRef, spool: ProcessSpool, stream: StreamName, from: HandedOver, isFinal: boolean) {
    const log = spool.log(stream);
    // What is written while chunks are sent belongs to the next look: it would be sent in as many as it comes in.
    const until = isFinal ? Number.POSITIVE_INFINITY : log.end;
    let state = from;
    for (let turn = 0; turn < (isFinal ? chunksPerTurn : chunksWhileWritten); turn++) {
      const { done, planned } = state[stream];
      if (planned === undefined && done >= until) return { state, hasMore: false, missing: undefined };
      const chunk = await readChunk(log, done, { limit: planned, givesUp: this.#givesUp(ref) });
      if (chunk.records.length === 0 && planned === undefined) return { state, hasMore: false, missing: chunk.missing };
      state = await this.#send(ref, spool, stream, chunk, state);
    }
    return { state, hasMore: isFinal && state[stream].done < log.end, missing: undefined };
  }

  async #send(ref: SpoolRef, spool: ProcessSpool, stream: StreamName, chunk: Chunk, before: HandedOver) {
    const { disk, failpoints } = this.#options;
    const { dir } = spool;
    const { from, to, records, missing } = chunk;
    let state = before;
    const note = async (side: HandedOver[StreamName]) => {
      state = { ...state, [stream]: side };
      await writeHandedOver(disk, dir, state);
    };
    if (records.length > 0) {
      await failpoints.before('handover.plan');
      if (before[stream].planned !== to) await note({ done: before[stream].done, planned: to });
      await failpoints.after('handover.plan');
      if (failpoints.unknown('handover.plan')) throw new Error('handover.plan: the outcome is unknown');
      await failpoints.before('handover.put');
      const raw = encodeChunk(records);
      await this.#upload(ref, `${stream}/${chunkName(from, to)}`, await this.#options.gzip(raw), {
        'content-type': 'application/gzip',
        'causeway-sha256': createHash('sha256').update(raw).digest('hex'),
        ...(missing === undefined ? {} : { 'causeway-missing': missing }),
      });
      await failpoints.after('handover.put');
      if (failpoints.unknown('handover.put')) throw new Error('handover.put: the answer was lost');
    }
    // What was planned is gone: the next chunk begins there all the same, and says why its bytes are missing.
    await note({ done: records.length === 0 ? before[stream].done : to });
    return state;
  }

  async #end(ref: SpoolRef, spool: ProcessSpool, missing: NonNullable<HandOverEnd['missing']>): Promise<void> {
    const { exitCode, signal, reason } = spool.record.exit ?? {};
    const how = {
      ...(exitCode === undefined ? {} : { exitCode }),
      ...(signal === undefined ? {} : { signal }),
    };
    const end: HandOverEnd = {
      ...(reason === undefined ? {} : { exit: { ...how, reason } }),
      ends: { stdout: spool.log('stdout').end, stderr: spool.log('stderr').end },
      ...(Object.keys(missing).length === 0 ? {} : { missing }),
    };
    await this.#upload(ref, 'end', Buffer.from(JSON.stringify(end)), { 'content-type': 'application/json' });
  }

  /** Resolves when it is there. What is there under that name already stays: it was sent before what is here was dropped. */
  async #upload(
    { sessionId, generation, processId }: SpoolRef,
    name: string,
    body: Uint8Array,
    headers: Record<string, string>,
  ): Promise<void> {
    const { timers, upload } = this.#options;
    const process = processId === mainProcessId(sessionId, generation) ? 'main' : processId;
    const limit = timeLimit(timers, uploadMs, this.#stopping.signal);
    try {
      const path = `/agent/v1/blobs/logs/${sessionId}/${generation}/${process}/${name}`;
      await upload(path, headers, body, limit.signal);
    } catch (error) {
      if (!(error instanceof EdgeRefusal) || error.code !== 'archive_chunk_conflict') throw error;
    } finally {
      limit.cancel();
    }
  }
}

/** What is worth keeping: not what somebody typed in a terminal beside the session's own, nor what only passed through. */
function isLog({ sessionId, generation, processId }: SpoolRef, { record }: ProcessSpool): boolean {
  if (processId === mainProcessId(sessionId, generation)) return true;
  return !record.tty && record.spawn !== attendedSpawn;
}

function keyOf({ sessionId, generation, processId }: SpoolRef): string {
  return `${sessionId} ${generation} ${processId}`;
}

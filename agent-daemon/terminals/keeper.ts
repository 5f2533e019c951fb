/**
 * Keeps the screen of one terminal: reads its log as it is written, draws it, and now and then writes the drawn screen to the
 * disk. The log lets go of nothing that no kept screen has, so whoever comes gets the exact screen, however much was written
 * and whoever died meanwhile. A program that writes faster than can be drawn waits, as at any terminal.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Log, Timers } from '../../schema/ports.ts';
import { type Disk, readIfThere } from '../disk.ts';
import { Bell } from '../bell.ts';
import { pause } from '../deadline.ts';
import type { Follower } from '../output/log-context.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamLog } from '../output/stream-log.ts';
import { StreamReader } from '../output/stream-reader.ts';
import { whenDue } from '../wake.ts';
import type { Size } from './saved.ts';
import { PieceReader } from './piece-reader.ts';
import type { ScreenPool } from './screen-pool.ts';
import { type DrawnScreen, type Screen, ScreenLost } from './screens.ts';

export interface KeeperPorts {
  timers: Timers;
  log: Log;
  disk: Disk;
  pool: ScreenPool;
}

/** The terminal. */
export interface KeeperOwner {
  /** Its sizes, the first at 0, in order; those before the kept screen are taken away. */
  readonly sizes: Size[];
  /** Its log is the session's, with a policy of its own. */
  readonly isMain: boolean;
  isWatched(): boolean;
  /** It wrote something just now. */
  wrote(): void;
  /** Types the answer to a question of the program. */
  answer(text: string): void;
  /** Everything is drawn that the terminal ever wrote. */
  ended(): void;
}

/** A screen, and the offset of the output behind it. */
export interface ScreenAt extends DrawnScreen {
  at: number;
}

/** A screen is kept after so much output, or a quarter of what its log keeps: as much as is drawn again at most. */
const keepEveryBytes = 4 * 1024 * 1024;
/** ... and after so much when all of it is drawn. */
const keepQuietBytes = 256 * 1024;
/** A screen that nobody looks at and that does not change is kept, and then takes no memory. */
const idleMs = 60_000;
const retryMs = 1_000;
const fileName = 'screen';
/** A string of a control sequence that bytes are missing of can not be gone on with. */
const cancel = 0x18;

const count = z.int().nonnegative();
const KeptScreen = z.strictObject({
  at: count,
  window: TerminalWindow,
  text: z.string(),
  within: z.int().optional(),
});

export class Keeper implements Follower {
  readonly #owner: KeeperOwner;
  readonly #ports: KeeperPorts;
  readonly #spool: ProcessSpool;
  readonly #bell = new Bell();
  readonly #asks = new Set<{ until: number; answer: PromiseWithResolvers<ScreenAt> }>();
  /** Questions before this offset were answered, or by nobody. */
  #answerFrom: number;
  #keptAt = 0;
  #drawn = 0;
  /** Where drawing died last, and it was not since got past that. */
  #lostAt = -1;
  #isOver = false;
  #isStopped = false;
  #isReleased = false;
  /** The size of what is drawn. */
  #window: TerminalWindow | undefined;
  /** What the disk refused. */
  #unwritten: ScreenAt | undefined;

  /** `answerFrom`: from where the program waits for answers. */
  constructor(owner: KeeperOwner, ports: KeeperPorts, spool: ProcessSpool, answerFrom: number) {
    this.#owner = owner;
    this.#ports = ports;
    this.#spool = spool;
    this.#answerFrom = answerFrom;
  }

  /** For the log: what it may let go of. */
  get position(): number {
    return this.#keptAt;
  }

  get holds(): boolean {
    return this.#owner.isMain;
  }

  /** The log is full. */
  wanted(): void {
    this.#bell.ring();
  }

  /** Draws until the terminal has ended, or `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    // Where the disk fails nothing is let go of before it is read again.
    const kept = await this.#read().catch(() => undefined);
    this.#keptAt = kept?.at ?? 0;
    const unfollow = this.#log.follow(this);
    signal.addEventListener('abort', () => this.#bell.ring(), { once: true });
    while (!signal.aborted && !this.#isOver) {
      try {
        await this.#pass(signal);
        if (!this.#isOver) await this.#whenWanted(signal);
      } catch (error) {
        await this.#failed(error, signal);
      }
    }
    unfollow();
    this.#isStopped = true;
    await this.#answerAsks().catch(() => undefined);
  }

  /** The screen as it is now. @throws Refusal */
  async screen(): Promise<ScreenAt> {
    const answer = Promise.withResolvers<ScreenAt>();
    this.#asks.add({ until: this.#log.end, answer });
    this.#bell.ring();
    if (this.#isStopped) await this.#answerAsks();
    return answer.promise;
  }

  /** Its size changes, or somebody began to look. */
  notice(): void {
    this.#bell.ring();
  }

  /** Its place is wanted by another one: it is kept and lets go of its memory. */
  release(): void {
    this.#isReleased = true;
    this.#bell.ring();
  }

  get #log(): StreamLog {
    return this.#spool.log('stdout');
  }

  /** From the kept screen on: draws what there is, and goes on until the terminal is over or idle. */
  async #pass(signal: AbortSignal): Promise<void> {
    this.#isReleased = false;
    const { pool } = this.#ports;
    const kept = await this.#read();
    this.#drawn = kept?.at ?? 0;
    this.#window = kept?.window ?? this.#sizeAt(0);
    const screen = pool.open(this, this.#window, kept);
    const reader = new StreamReader(this.#log, this.#drawn, { live: false });
    const pieces = new PieceReader(reader);
    const keepBytes = Math.min(keepEveryBytes, this.#log.policy.spoolBytes / 2);
    try {
      while (!signal.aborted) {
        const { turn } = this.#bell;
        const item = await pieces.next();
        if (item === undefined) {
          await this.#drawTo(screen, this.#log.end);
          if (this.#log.isFinal && reader.position >= this.#log.end) {
            await this.#keep(screen);
            this.#isOver = true;
            this.#owner.ended();
            return;
          }
          await this.#answer(screen);
          const unkeptBytes = this.#drawn - this.#keptAt;
          if (unkeptBytes >= (this.#log.isBlocked ? 1 : keepQuietBytes)) await this.#keep(screen);
          this.#lostAt = -1;
          if (await this.#isIdle(turn, signal)) return await this.#keep(screen);
        } else if (item.kind === 'gap') {
          await screen.write(Uint8Array.of(cancel));
          this.#drawn = item.gap.to;
        } else await this.#draw(screen, item.offset, item.bytes);
        pool.used(this);
        await this.#answer(screen);
        if (this.#drawn - this.#keptAt >= keepBytes) await this.#keep(screen);
        if (this.#isReleased) return await this.#keep(screen);
      }
    } finally {
      pool.closed(this);
      screen.close();
      await reader.close();
    }
  }

  async #draw(screen: Screen, offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let from = 0; from < bytes.byteLength;) {
      await this.#drawTo(screen, offset + from);
      const next = this.#owner.sizes.find(({ at }) => at > offset + from)?.at ?? Number.POSITIVE_INFINITY;
      const to = Math.min(bytes.byteLength, next - offset);
      // The screen takes what it is given.
      const isWhole = from === 0 && to === bytes.byteLength;
      const answer = await screen.write(isWhole ? bytes : new Uint8Array(bytes.subarray(from, to)));
      this.#drawn = offset + to;
      if (offset + from >= this.#answerFrom) {
        this.#owner.wrote();
        if (answer !== '') this.#owner.answer(answer);
      }
      from = to;
    }
  }

  /** Gives the screen the size that it has before the byte at `offset`. */
  async #drawTo(screen: Screen, offset: number): Promise<void> {
    const { rows, columns } = this.#sizeAt(offset);
    if (this.#window?.rows === rows && this.#window.columns === columns) return;
    this.#window = { rows, columns };
    await screen.resize(this.#window);
  }

  #sizeAt(offset: number): TerminalWindow {
    const { rows, columns } = this.#owner.sizes.findLast(({ at }) => at <= offset) ?? this.#owner.sizes[0]!;
    return { rows, columns };
  }

  /** True when nothing happens any more. */
  async #isIdle(turn: number, signal: AbortSignal): Promise<boolean> {
    if (this.#asks.size > 0 || this.#bell.turn > turn) return false;
    const idle = new AbortController();
    const cancelTimer = this.#ports.timers.after(idleMs, () => idle.abort());
    await this.#more(turn, AbortSignal.any([signal, idle.signal]));
    cancelTimer();
    return idle.signal.aborted && !this.#owner.isWatched() && this.#log.end <= this.#drawn;
  }

  /** Resolves when there is more output, the bell was rung, or `signal` aborts. */
  #more(turn: number, signal: AbortSignal): Promise<void> {
    const isDue = () => this.#log.isBeyond(this.#drawn) || this.#bell.turn > turn;
    return whenDue(isDue, [this.#log, this.#bell], signal);
  }

  /** The screen is let go of: until there is something to draw, or somebody asks. */
  async #whenWanted(signal: AbortSignal): Promise<void> {
    const { turn } = this.#bell;
    if (this.#asks.size === 0) await this.#more(turn, signal);
  }

  async #answer(screen: Screen): Promise<void> {
    const due = [...this.#asks].filter(({ until }) => until <= this.#drawn);
    if (due.length === 0) return;
    const { held, ...drawn } = await screen.draw();
    for (const ask of due) {
      this.#asks.delete(ask);
      ask.answer.resolve({ ...drawn, at: this.#drawn - held });
    }
  }

  /** Of a terminal that nothing is drawn of any more. */
  async #answerAsks(): Promise<void> {
    const asks = [...this.#asks];
    this.#asks.clear();
    const kept = this.#isOver ? await this.#read() : undefined;
    for (const { answer } of asks)
      if (kept !== undefined) answer.resolve(kept);
      else if (this.#isOver) answer.reject(new Refusal('session_output_gone', 'The terminal ended long ago.'));
      else answer.reject(new Refusal('terminal_screen_lost', 'The agent is ending.'));
  }

  async #keep(screen: Screen): Promise<void> {
    const { held, ...drawn } = await screen.draw();
    const at = this.#drawn - held;
    await this.#write({ ...drawn, at });
    this.#keptAt = at;
    const { sizes } = this.#owner;
    const first = sizes.findLastIndex((size) => size.at <= at);
    if (first > 0) sizes.splice(0, first);
    this.#log.followerMoved();
  }

  async #write(screen: ScreenAt): Promise<void> {
    const { disk, log } = this.#ports;
    const path = join(this.#spool.dir, fileName);
    try {
      await disk.writeFile(`${path}.new`, JSON.stringify(screen), { mode: 0o600 });
      await disk.rename(`${path}.new`, path);
      this.#unwritten = undefined;
    } catch (error) {
      // The terminal goes on, and its screen is lost only with this process.
      this.#unwritten = screen;
      log.warn('the screen of a terminal could not be kept', { dir: this.#spool.dir, error: String(error) });
    }
  }

  async #read(): Promise<ScreenAt | undefined> {
    if (this.#unwritten !== undefined) return this.#unwritten;
    const bytes = await readIfThere(this.#ports.disk, join(this.#spool.dir, fileName));
    if (bytes === undefined) return undefined;
    try {
      return KeptScreen.parse(JSON.parse(bytes.toString()));
    } catch {
      return undefined;
    }
  }

  /**
   * The screen was lost: it is drawn again from the kept one. What kills what draws it a second time is left out: a screen
   * that is wrong until the program draws it anew is better than none.
   */
  async #failed(cause: unknown, signal: AbortSignal): Promise<void> {
    const { log, timers } = this.#ports;
    log.warn('the screen of a terminal is drawn again', { dir: this.#spool.dir, error: String(cause) });
    this.#answerFrom = Math.max(this.#answerFrom, this.#drawn + 1);
    if (cause instanceof ScreenLost && this.#lostAt === this.#drawn)
      await this.#skip().catch((error: unknown) =>
        log.warn('the screen of a terminal is not left out', { error: String(error) }),
      );
    this.#lostAt = this.#drawn;
    await pause(timers, retryMs, signal);
  }

  async #skip(): Promise<void> {
    const screen = this.#ports.pool.open(this, this.#sizeAt(this.#log.end), undefined);
    try {
      this.#drawn = this.#log.end;
      await this.#keep(screen);
    } finally {
      this.#ports.pool.closed(this);
      screen.close();
    }
  }
}

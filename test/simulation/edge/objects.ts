/**
 * Durable Objects of a simulated edge: one instance of each name, woken by a call, a message or its alarm, gone at any
 * moment with its memory, found again with its storage. Calls between them take time and may lose their way or their
 * answer; what arrives was cloned, as on the real wire.
 */
import { copyOf } from '../../../edge/platform/undo-map.ts';
import type { Timers } from '../../../schema/ports.ts';
import type { Chance } from '../chance.ts';
import type { VirtualTime } from '../clock.ts';
import { Life } from '../life.ts';
import type { Sometimes } from '../sometimes.ts';
import type { Weather } from '../weather.ts';

/** What an object's code is given at each wake. */
export interface Waking {
  life: Life;
  timers: Timers;
  /** Earliest wins until it rings; kept over deaths. */
  setAlarm: (atMs: number) => void;
  /** Null when none is set, also while it rings. */
  alarmMs: number | null;
  /** Work that nobody waits for. */
  keepAlive: (work: Promise<unknown>) => void;
}

export interface Instance {
  /** Methods that others may call. */
  rpc: object;
  alarm?(): Promise<void>;
}

interface Running extends Instance {
  life: Life;
}

export interface WorldPorts {
  time: VirtualTime;
  chance: Chance;
  weather: Weather;
  sometimes: Sometimes;
  /** Unix ms as the edge sees them. */
  nowMs(): number;
  /** A call arrived. */
  asked(method: string, args: readonly unknown[]): void;
  /** A call was carried out. */
  answered(method: string, args: readonly unknown[], answer: unknown, cell: Cell): void;
}

/** A call whose outcome nobody knows. */
class Unknown extends Error {}

const callMs = 1;
/** A slow one; some are overtaken by a new connection. */
const slowCallsMs = [300, 300, 5_000];
const mostSlowMs = 30_000;
const alarmRetryMs = 2_000;
const lostAfterMs = 2_000;

/** One object: its name, its storage, and the instance that lives now, if any. */
export class Cell {
  readonly name: string;
  readonly #ports: WorldPorts;
  readonly #wake: (waking: Waking) => Instance;
  #running: Running | undefined;
  #alarmMs: number | null = null;
  #ringing = false;
  /** An alarm is due, and the one before it is not over. */
  #isDueBehind = false;
  #cancelAlarm: () => void = () => undefined;
  /** Calls under way here; they are answered with a failure when the instance dies. */
  readonly #open = new Set<(error: Error) => void>();
  wakes = 0;
  /** No call gets here; what it has open, and what it calls, goes on. */
  isCutOff = false;
  /** A call may take this long to get here, so that later ones overtake it. */
  lagMs = 0;

  constructor(name: string, ports: WorldPorts, wake: (waking: Waking) => Instance) {
    this.name = name;
    this.#ports = ports;
    this.#wake = wake;
  }

  /** It will be woken, whatever becomes of this life. */
  get isArmed(): boolean {
    return this.#alarmMs !== null || this.#ringing;
  }
  get isAwake(): boolean {
    return this.#running !== undefined;
  }
  /**
   * Nothing is under way: it may be evicted without anybody noticing. Whoever waits for the answer of another, or for a
   * timer, is never hibernated by the runtime.
   */
  get isIdle(): boolean {
    return this.#open.size === 0 && !this.#ringing && this.#running?.life.isWaiting !== true;
  }

  instance(): Instance {
    if (this.#running) return this.#running;
    this.wakes += 1;
    if (this.wakes > 1) this.#ports.sometimes.reached('an object was evicted and woke again');
    const life = new Life(this.name);
    const woken = this.#wake({
      life,
      timers: life.timers(this.#ports.time),
      setAlarm: (atMs) => life.isAlive && this.#setAlarm(atMs),
      alarmMs: this.#ringing ? null : this.#alarmMs,
      keepAlive: (work) => void work.catch(() => undefined),
    });
    this.#running = Object.assign(woken, { life });
    return this.#running;
  }

  /** Memory is gone; storage and alarm stay. */
  die(): void {
    if (!this.#running) return;
    this.#running.life.end();
    this.#running = undefined;
    for (const fail of this.#open) fail(new Unknown(`${this.name} died`));
    this.#open.clear();
    if (this.#ringing) {
      // The alarm did not come to its end: the runtime rings again.
      this.#ringing = false;
      this.#alarmMs ??= this.#ports.nowMs() + alarmRetryMs;
      this.#ports.sometimes.reached('an alarm rang again after a death');
      this.#arm();
    }
  }

  /** Calls a method as another object does. */
  call(caller: Life, method: string, args: readonly unknown[]): Promise<unknown> {
    const { time, chance, weather, sometimes } = this.#ports;
    return caller.guard(
      new Promise((resolve, reject) => {
        const usualMs =
          weather.slowCall > 0 && chance.isTrue(weather.slowCall)
            ? Math.min(mostSlowMs, chance.delayMs(chance.pick(slowCallsMs)!))
            : chance.delayMs(callMs);
        const thereMs = this.lagMs > 0 ? usualMs + chance.next() * this.lagMs : usualMs;
        const backMs = chance.delayMs(callMs);
        if (chance.isTrue(weather.loseRequest) || this.isCutOff) {
          sometimes.reached('a request to an object was lost');
          time.after(lostAfterMs, () => reject(new Unknown('Network connection lost')));
          return;
        }
        const given = copyOf(args);
        const losesAnswer = chance.isTrue(weather.loseAnswer);
        time.after(thereMs, () => {
          const fail = (error: Error) => {
            this.#open.delete(fail);
            time.after(backMs, () => reject(error));
          };
          this.#open.add(fail);
          this.#ports.asked(method, given);
          this.#invoke(method, given).then(
            (answer) => {
              if (!this.#open.delete(fail)) return;
              this.#ports.answered(method, given, answer, this);
              if (losesAnswer) {
                sometimes.reached('the answer of an object was lost');
                time.after(lostAfterMs, () => reject(new Unknown('Network connection lost')));
              } else {
                const copy = copyOf(answer);
                time.after(backMs, () => resolve(copy));
              }
            },
            (error: unknown) => fail(error instanceof Error ? new Error(error.message) : new Error(String(error))),
          );
        });
      }),
    );
  }

  #invoke(method: string, args: readonly unknown[]): Promise<unknown> {
    const { rpc } = this.instance();
    const life = this.#running!.life;
    const work = (rpc as Record<string, (...args: readonly unknown[]) => Promise<unknown>>)[method];
    if (work === undefined) return Promise.reject(new Error(`${this.name} has no ${method}`));
    return life.guard((async () => work.apply(rpc, args as unknown[]))());
  }

  #setAlarm(atMs: number): void {
    this.#alarmMs = atMs;
    this.#arm();
  }

  #arm(): void {
    this.#cancelAlarm();
    this.#isDueBehind = false;
    if (this.#alarmMs === null) return;
    this.#cancelAlarm = this.#ports.time.after(Math.max(0, this.#alarmMs - this.#ports.nowMs()), () => this.#ring());
  }

  #ring(): void {
    // One at a time, as the runtime does.
    if (this.#ringing) {
      this.#isDueBehind = true;
      return;
    }
    const running = this.instance() as Running;
    this.#ringing = true;
    this.#alarmMs = null;
    running.life
      .guard(running.alarm?.() ?? Promise.resolve())
      .catch(() => {
        this.#alarmMs ??= this.#ports.nowMs() + alarmRetryMs;
        this.#arm();
      })
      .finally(() => {
        this.#ringing = false;
        if (this.#isDueBehind) this.#arm();
      });
  }
}

/** A stub of a cell: whatever method is called on it is called there. */
export function stubOf(cell: () => Cell, caller: Life): object {
  return new Proxy(
    {},
    {
      get:
        (_, method: string) =>
        (...args: readonly unknown[]) =>
          cell().call(caller, method, args),
    },
  );
}

/** How much an agent may say on its sockets of one hub: a burst, then so much a second, over all of them one after the other. */
import type { Clock } from '../../schema/ports.ts';
import { limits } from '../../schema/protocol/limits.ts';

export interface Talk {
  burstFrames: number;
  framesPerSecond: number;
}

export class TalkBudget {
  readonly #clock: Clock;
  readonly #talk: Talk;
  /** By agents of the hub (about 128): when what each said is paid off, and its last rest, in which it is not heard. */
  readonly #paidAtMs = new Map<string, number>();
  readonly #rests = new Map<string, { untilMs: number; forMs: number }>();

  constructor(clock: Clock, talk: Talk) {
    this.#clock = clock;
    this.#talk = talk;
  }

  /** Counts a frame with a payload of so many bytes. False: it is too much, and so is whatever comes in the next seconds. */
  spend(agentId: string, bytes: number): boolean {
    const { burstFrames, framesPerSecond } = this.#talk;
    const nowMs = this.#clock.bootMs();
    const rest = this.#rests.get(agentId);
    if (rest && rest.untilMs > nowMs) return false;
    const frames = 1 + Math.floor(bytes / limits.talkFrameBytes);
    const paidAtMs = Math.max(nowMs, this.#paidAtMs.get(agentId) ?? 0) + (frames * 1000) / framesPerSecond;
    const isTooMuch = paidAtMs - nowMs > (burstFrames * 1000) / framesPerSecond;
    if (isTooMuch) this.#silence(agentId, nowMs);
    else this.#paidAtMs.set(agentId, paidAtMs);
    return !isTooMuch;
  }

  /** Longer each time: else a flood would come again as often as its burst is paid. */
  #silence(agentId: string, nowMs: number): void {
    const { talkRestMs, talkLongestRestMs, talkForgivenMs } = limits;
    const last = this.#rests.get(agentId);
    const isAgain = last !== undefined && nowMs - last.untilMs < talkForgivenMs;
    const forMs = isAgain ? Math.min(2 * last.forMs, talkLongestRestMs) : talkRestMs;
    this.#rests.set(agentId, { untilMs: nowMs + forMs, forMs });
  }
}

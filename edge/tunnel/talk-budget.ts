/** How much an agent may say on its control sockets: a burst, then so much a second, over all its sockets one after the other. */
import type { Clock } from '../../schema/ports.ts';
import { limits } from '../../schema/protocol/limits.ts';

export class TalkBudget {
  readonly #clock: Clock;
  /** By agents of the hub (about 128): when what each said is paid off, and until when it is not heard. */
  readonly #paidAtMs = new Map<string, number>();
  readonly #restsUntilMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts a frame with a payload of so many bytes. False: it is too much, and so is whatever comes in the next seconds. */
  spend(agentId: string, bytes: number): boolean {
    const { talkFramesPerSecond, talkBurstFrames, talkFrameBytes, talkRestMs } = limits;
    const nowMs = this.#clock.bootMs();
    if ((this.#restsUntilMs.get(agentId) ?? nowMs) > nowMs) return false;
    const frames = 1 + Math.floor(bytes / talkFrameBytes);
    const paidAtMs = Math.max(nowMs, this.#paidAtMs.get(agentId) ?? 0) + (frames * 1000) / talkFramesPerSecond;
    const isTooMuch = paidAtMs - nowMs > (talkBurstFrames * 1000) / talkFramesPerSecond;
    if (isTooMuch) this.#restsUntilMs.set(agentId, nowMs + talkRestMs);
    else this.#paidAtMs.set(agentId, paidAtMs);
    return !isTooMuch;
  }
}

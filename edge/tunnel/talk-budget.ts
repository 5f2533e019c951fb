/** How much an agent may say on its control sockets: a burst, then so much a second, over all its sockets one after the other. */
import type { Clock } from '../../schema/ports.ts';
import { limits } from '../../schema/protocol/limits.ts';

export class TalkBudget {
  readonly #clock: Clock;
  /** When what an agent said is paid off, by agents of the hub: there are about 128. */
  readonly #paidAtMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts a frame with a payload of so many bytes. False: it is too much, and was not counted. */
  spend(agentId: string, bytes: number): boolean {
    const nowMs = this.#clock.bootMs();
    const frames = 1 + Math.floor(bytes / limits.talkFrameBytes);
    const paidAtMs = Math.max(nowMs, this.#paidAtMs.get(agentId) ?? 0) + (frames * 1000) / limits.talkFramesPerSecond;
    if (paidAtMs - nowMs > (limits.talkBurstFrames * 1000) / limits.talkFramesPerSecond) return false;
    this.#paidAtMs.set(agentId, paidAtMs);
    return true;
  }
}

/** Loops of an agent under clocks that the test moves. */
import type { Disk } from '../../agent-daemon/disk.ts';
import { Loops } from '../../agent-daemon/loops.ts';
import { systemDisk } from '../../agent-daemon/platform.ts';
import { ManualTimers, keptLog } from './ports.ts';

/** Boot and wall clock apart, timers by hand. */
export class LoopWorld {
  disk: Disk = systemDisk;
  boot = 1_000;
  wall = 1_800_000_000_000;
  readonly clock = { nowMs: () => this.wall, bootMs: () => this.boot };
  readonly timers = new ManualTimers();
  readonly log = keptLog();
  readonly loops = new Loops(this);

  /** Lets `ms` pass by both clocks, and runs whatever waits; a run that takes long is left alone after a second. */
  async pass(ms: number): Promise<void> {
    const { size } = this.timers;
    this.boot += ms;
    this.wall += ms;
    this.timers.fire();
    for (let looks = 0; looks === 0 || (this.timers.size < size && looks < 50); looks++)
      await new Promise((resolve) => void setTimeout(resolve, 20));
  }
}

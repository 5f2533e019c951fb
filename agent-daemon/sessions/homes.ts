/**
 * The home of each session: one directory of the host, mounted at /home/work, kept over the session's generations on
 * this agent and for a day after its end. Its content belongs to the tenant: nothing here follows what is inside.
 */
import { join } from 'node:path';
import type { Clock } from '../../schema/ports.ts';
import { type Disk, isMissing } from '../disk.ts';
import type { Loop, Loops } from '../loops.ts';
import { Passing, markEnded, wasKept, withEach } from '../retention.ts';

const keepMs = 24 * 3_600_000;
const sweepEveryMs = 600_000;
const endedSuffix = '.ended';

export interface HomesPorts {
  clock: Clock;
  disk: Disk;
  loops: Loops;
}

export class Homes {
  readonly #root: string;
  readonly #disk: Disk;
  readonly #ports: HomesPorts;
  readonly #passing: Passing;
  #sweeping: Loop | undefined;

  constructor(root: string, ports: HomesPorts) {
    this.#root = root;
    this.#disk = ports.disk;
    this.#ports = ports;
    this.#passing = new Passing(() => ports.clock.bootMs());
  }

  async start(): Promise<void> {
    await this.#disk.mkdir(this.#root, { recursive: true, mode: 0o700 });
    this.#sweeping = this.#ports.loops.every('sweep of homes', sweepEveryMs, () => this.#sweep());
  }

  async stop(): Promise<void> {
    await this.#sweeping?.stop();
  }

  /** Where a session's home is, whether it exists or not. */
  path(sessionId: string): string {
    return join(this.#root, sessionId);
  }

  /** Makes the home, or keeps the one of an earlier generation. */
  async ensure(sessionId: string): Promise<string> {
    await this.#disk.rm(this.path(sessionId) + endedSuffix, { force: true });
    await this.#disk.mkdir(this.path(sessionId), { recursive: true, mode: 0o700 });
    return this.path(sessionId);
  }

  /**
   * The home of a container that was started in advance becomes that of a session; again after a crash. A mount follows
   * the directory, whatever it is called.
   */
  async become(warmId: string, sessionId: string): Promise<void> {
    await this.#disk.rename(this.path(warmId), this.path(sessionId)).catch((error: unknown) => {
      if (!isMissing(error)) throw error;
    });
  }

  /** Gives the home (not what is in it) to the user that runs inside. */
  async own(sessionId: string, uid: number, gid: number): Promise<void> {
    await this.#disk.chown(this.path(sessionId), uid, gid);
    await this.#disk.chmod(this.path(sessionId), 0o700);
  }

  /** Owner of the home; undefined when there is none. */
  async owner(sessionId: string): Promise<{ uid: number; gid: number } | undefined> {
    try {
      const { uid, gid } = await this.#disk.stat(this.path(sessionId));
      return { uid, gid };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** From now on the home is kept for a day. */
  async sessionEnded(sessionId: string): Promise<void> {
    if ((await this.owner(sessionId)) === undefined) return;
    await markEnded(this.#disk, this.path(sessionId) + endedSuffix, this.#ports.clock.nowMs());
  }

  /** The home goes now. */
  async remove(sessionId: string): Promise<void> {
    await this.#disk.rm(this.path(sessionId), { recursive: true, force: true });
    await this.#disk.rm(this.path(sessionId) + endedSuffix, { force: true });
  }

  async #sweep(): Promise<void> {
    const passedMs = this.#passing.lap();
    const notes = (await this.#disk.readdir(this.#root)).filter((name) => name.endsWith(endedSuffix));
    await withEach(notes, async (note) => {
      if (await wasKept(this.#disk, join(this.#root, note), passedMs, keepMs))
        await this.remove(note.slice(0, -endedSuffix.length));
    });
  }
}

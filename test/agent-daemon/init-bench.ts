/**
 * What an agent has around the processes of one session, over a real causeway-init that is an ordinary process here: no
 * engine, no container. `restart` is what the death of the agent and its next start do.
 */
import { mkdirSync } from 'node:fs';
import { unixDoor } from '../../agent-daemon/init/door.ts';
import type { SessionKey } from '../../agent-daemon/init/session-key.ts';
import { Loops } from '../../agent-daemon/loops.ts';
import { Spools } from '../../agent-daemon/output/spools.ts';
import { systemClock, systemDisk, systemRandom, systemSoon, systemTimers } from '../../agent-daemon/platform.ts';
import { Supervisor } from '../../agent-daemon/processes/supervisor.ts';
import { start, type Started } from '../support/process.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';
import { initBinary } from './init/harness.ts';
import { keptLog, noFailpoints } from './ports.ts';
import { sessionId } from './support.ts';

export abstract class InitBench {
  readonly dir: TmpDir;
  readonly log = keptLog();
  supervisor!: Supervisor;
  spools!: Spools;
  #key: SessionKey | undefined;
  #init: Started | undefined;

  constructor(name: string) {
    this.dir = tmpDir(name);
  }

  /** The part of the agent that is tested begins, or goes on with what was left. */
  protected abstract begin(): Promise<void>;
  /** It lets go. */
  protected abstract end(): Promise<void>;

  ports() {
    return {
      clock: systemClock,
      timers: systemTimers(this.log),
      random: systemRandom,
      log: this.log,
      disk: systemDisk,
      door: unixDoor,
      soon: systemSoon,
      failpoints: noFailpoints,
    };
  }

  async start(): Promise<this> {
    for (const name of ['run', 'home']) mkdirSync(`${this.dir.path}/${name}`, { recursive: true });
    const ports = this.ports();
    this.spools = new Spools({ root: `${this.dir.path}/output`, totalBytes: 1e9, ...ports, loops: new Loops(ports) });
    await this.spools.start();
    const owner = {
      sessionId,
      generation: 1,
      connected: () => undefined,
      leaseExpired: () => undefined,
      reasonOf: () => Promise.resolve('exited'),
      ended: () => undefined,
    };
    const place = {
      runDir: `${this.dir.path}/run`,
      sessionKey: this.#key,
      transport: 'socket' as const,
      saveSessionKey: (key: SessionKey) => Promise.resolve(void (this.#key = key)),
    };
    this.supervisor = new Supervisor(owner, place, { ...ports, spools: this.spools });
    await this.supervisor.link.listen();
    this.#init ??= start(initBinary, [`${this.dir.path}/run/agent.sock`], { name: 'init' });
    await this.supervisor.link.ready();
    await this.begin();
    return this;
  }

  /** The agent dies, in as far as one process can play that: nothing more is written by it. */
  async leave(): Promise<void> {
    await this.end();
    await this.supervisor.close();
    await this.spools.stop();
  }

  async restart(): Promise<void> {
    await this.leave();
    await this.start();
  }

  async stop(): Promise<void> {
    // It may be gone before its answer is.
    this.supervisor.link.shutdown(true).catch(() => undefined);
    await this.#init?.exited;
    await this.leave();
    this.dir.remove();
  }
}

/** A running session as the agent holds it, with a real init beside it as an ordinary process: for what its processes are used for. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freshId } from '../../agent-daemon/fresh-id.ts';
import { unixDoor } from '../../agent-daemon/init/door.ts';
import { Loops } from '../../agent-daemon/loops.ts';
import { Spools } from '../../agent-daemon/output/spools.ts';
import { systemDisk, systemSoon } from '../../agent-daemon/platform.ts';
import { Supervisor } from '../../agent-daemon/processes/supervisor.ts';
import { inside } from '../../agent-daemon/runtime/docker-spec.ts';
import type { Session } from '../../agent-daemon/sessions/session.ts';
import { gatherRsync } from '../../agent-daemon/toolbox/gather.ts';
import { type Started, start } from '../support/process.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';
import { initBinary } from './init/harness.ts';
import { clock, random, timers } from './init/ports.ts';
import { keptLog, noFailpoints } from './ports.ts';
import { imageFacts, kernelSpec, sessionId } from './support.ts';

export class LiveSession {
  readonly dir: TmpDir = tmpDir('ses');
  readonly log = keptLog();
  readonly spools: Spools;
  readonly supervisor: Supervisor;
  readonly session: Session;
  /** What the parts of the agent that serve connections are given. */
  readonly of;
  /** The file of the init that has the tools. */
  tools = initBinary;
  /** Where rsync of this machine is copied to, and whether it has one. */
  readonly toolsRoot = join(this.dir.path, 'toolbox');
  hasRsync = true;
  hasShell = true;
  /** Where programs are searched, if not where they are. */
  path: string | undefined;
  #init: Started | undefined;

  private constructor() {
    const loops = new Loops({ clock, timers, log: this.log });
    const failpoints = noFailpoints;
    this.spools = new Spools({
      root: join(this.dir.path, 'output'),
      totalBytes: 1024 ** 3,
      disk: systemDisk,
      clock,
      timers,
      loops,
      log: this.log,
      failpoints,
    });
    const nothing = () => undefined;
    this.supervisor = new Supervisor(
      {
        sessionId,
        generation: 1,
        connected: nothing,
        leaseExpired: nothing,
        reasonOf: () => Promise.resolve('exited'),
        ended: nothing,
      },
      {
        runDir: join(this.dir.path, 'run'),
        sessionKey: undefined,
        transport: 'socket',
        saveSessionKey: () => Promise.resolve(),
      },
      { clock, timers, random, log: this.log, door: unixDoor, soon: systemSoon, failpoints, spools: this.spools },
    );
    // There is no container here: no home of a session, and the init's file is where it is.
    const spawn = this.supervisor.spawn.bind(this.supervisor);
    this.supervisor.spawn = (spec, record) => {
      const argv = spec.argv
        .map((word) => (word === inside.init ? this.tools : word))
        .map((word) => (word === '/bin/sh' && !this.hasShell ? '/none/sh' : word))
        .map((word) => word.replaceAll(inside.tools, this.toolsRoot));
      const env = this.path === undefined ? spec.env : { ...spec.env, PATH: this.path };
      return spawn({ ...spec, argv, env, cwd: this.dir.path }, record);
    };
    this.session = {
      sessionId,
      generation: 1,
      state: 'running',
      supervisor: this.supervisor,
      placement: { sessionId, generation: 1, spec: kernelSpec() },
      image: () => Promise.resolve(imageFacts()),
    } as unknown as Session;
    const freshProcessId = () => freshId('process', { clock, random });
    const find = () => this.session;
    const gather = () => (this.hasRsync ? gatherRsync(this.toolsRoot) : Promise.resolve(undefined));
    const { spools, log } = this;
    const of = { find, spools, nowMs: () => Date.now(), timers, log, freshProcessId };
    this.of = { ...of, gatherRsync: gather, forwardsAgents: true };
  }

  static async start(): Promise<LiveSession> {
    const made = new LiveSession();
    await made.spools.start();
    const runDir = join(made.dir.path, 'run');
    await systemDisk.mkdir(runDir, { recursive: true });
    await made.supervisor.link.listen();
    made.#init = start(initBinary, [join(runDir, 'agent.sock')]);
    return made;
  }

  /** From now on an init of before its tools is asked for them, which takes that for a wrong use of itself. */
  withoutTools(): void {
    this.tools = join(this.dir.path, 'old-init');
    writeFileSync(this.tools, '#!/bin/sh\necho "usage: causeway-init" >&2\nexit 2\n');
    chmodSync(this.tools, 0o755);
  }

  async stop(): Promise<void> {
    // It may be gone before its answer is.
    await Promise.race([this.supervisor.link.shutdown(true).catch(() => undefined), this.#init?.exited]);
    await this.supervisor.giveUp('session-ended');
    await this.#init?.kill9();
    await this.spools.stop();
    this.dir.remove();
  }
}

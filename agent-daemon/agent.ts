/**
 * The whole agent behind its ports: joins once, keeps the tunnel up and carries orders out until it is stopped. Whoever
 * builds it gives it the world, a real one or a simulated one.
 */
import { join } from 'node:path';
import { UpgradePlan } from '../schema/api/upgrade.ts';
import type { Config } from './config.ts';
import type { Route } from '../schema/protocol/diagnosis.ts';
import { freshId } from './fresh-id.ts';
import { Loops } from './loops.ts';
import { requireSameMachine } from './machine.ts';
import { describeCall } from './status/describe.ts';
import { RecentErrors } from './status/recent-errors.ts';
import { type AgentStatus, StatusFile } from './status/status-file.ts';
import type { Put } from './tunnel/edge-api.ts';
import { joinOnce } from './tunnel/enrol.ts';
import { Identity, type Membership } from './tunnel/identity.ts';
import { Journal } from './tunnel/journal.ts';
import { authorization, uploadAs } from './tunnel/signed.ts';
import { Tunnel, type TunnelPorts } from './tunnel/tunnel.ts';
import type { Installation } from './upgrade/installation.ts';
import type { Download } from './upgrade/unpack.ts';
import { Upgrader } from './upgrade/upgrader.ts';
import { agentVersion } from './version.ts';
import { startWork, type Work, type WorkConfig, type WorkPorts } from './work.ts';

export type AgentConfig = WorkConfig & Pick<Config, 'token' | 'name'>;
/** What an agent needs to become another version; absent where it can not. */
export interface UpgradePorts {
  installation: Installation;
  download: Download;
  /** Ends the process in order, so that its keeper starts the version that is current. */
  restart(): void;
  trialMs: number;
}
export type AgentPorts = TunnelPorts &
  Omit<WorkPorts, 'upload'> & { put: Put; upgrade?: UpgradePorts; route?: () => Route };

export class Agent {
  readonly #membership: Membership;
  readonly #journal: Journal;
  readonly #tunnel: Tunnel;
  readonly #work: Work;
  readonly #loops: Loops;
  readonly #statusFile: StatusFile;
  readonly #upgrader: Upgrader;

  private constructor(
    config: AgentConfig,
    ports: AgentPorts,
    parts: { membership: Membership; journal: Journal; tunnel: Tunnel; work: Work; loops: Loops; upgrader: Upgrader },
  ) {
    this.#membership = parts.membership;
    this.#journal = parts.journal;
    this.#tunnel = parts.tunnel;
    this.#work = parts.work;
    this.#loops = parts.loops;
    this.#upgrader = parts.upgrader;
    this.#statusFile = new StatusFile(config.stateDir, { ...ports, loops: parts.loops }, () => this.status());
  }

  /** Resolves when it has joined, taken up what an earlier run left, and dials. @throws JoinError, MachineChanged */
  static async start(config: AgentConfig, given: AgentPorts, signal: AbortSignal): Promise<Agent> {
    const errors = new RecentErrors(given.log, given.clock);
    const ports = { ...given, log: errors.log };
    const identity = await Identity.open(config.stateDir, ports);
    await requireSameMachine(config.stateDir, { ...ports, hardwareId: await ports.host.readHardwareId() });
    const freshJournalId = () => freshId('journal', ports);
    const journal = await Journal.open(join(config.stateDir, 'journal.log'), { ...ports, freshJournalId });
    const tunnel = new Tunnel(ports, identity, journal);
    const loops = new Loops(ports);
    const upgrader = newUpgrader(ports, { identity, tunnel, loops });
    const findings = () => upgrader.findings;
    const upload = uploadAs(ports, identity);
    const work = await startWork(config, { ...ports, findings, upload }, tunnel.services, loops);
    const { token, name } = config;
    const membership = await joinOnce(identity, { url: () => ports.url(), token, name }, work.workload, ports, signal);
    await work.begin(membership);
    const agent = new Agent(config, ports, { membership, journal, tunnel, work, loops, upgrader });
    agent.#statusFile.start();
    upgrader.start();
    const describe = describeCall({
      clock: ports.clock,
      runtimeVersion: ports.host.runtimeVersion,
      diagnose: () => work.diagnose(),
      route: () => ports.route?.(),
      pingMs: () => tunnel.pingMs,
      errors: () => errors.list(),
      loops: () => loops.troubled(),
    });
    const { calls } = work.handlers;
    tunnel.start(membership, work.workload, { ...work.handlers, calls: { ...calls, ...upgrader.calls, describe } });
    return agent;
  }

  status(): AgentStatus {
    const { agentId, url } = this.#membership;
    return {
      version: agentVersion,
      agentId,
      url,
      tunnel: this.#tunnel.status,
      ...this.#work.status(),
      loops: this.#loops.troubled(),
    };
  }

  /** Lets go of everything in order; containers live on. */
  async stop(): Promise<void> {
    await this.#upgrader.stop();
    await this.#tunnel.drain();
    await this.#tunnel.stop();
    await this.#work.stop();
    await this.#statusFile.stop();
    await this.#journal.close();
  }
}

function newUpgrader(
  ports: AgentPorts,
  { identity, tunnel, loops }: { identity: Identity; tunnel: Tunnel; loops: Loops },
): Upgrader {
  const { upgrade } = ports;
  return new Upgrader({
    ...ports,
    loops,
    version: agentVersion,
    arch: ports.host.arch,
    installation: upgrade?.installation,
    download: (path, signal) =>
      upgrade === undefined ? Promise.reject(new Error('nothing to download by')) : upgrade.download(path, signal),
    restart: () => upgrade?.restart(),
    trialMs: upgrade?.trialMs ?? 0,
    releaseKey: () => identity.membership?.releaseKey,
    isProven: () => tunnel.proven,
    plan: (signal) => askPlan(ports, identity, signal),
  });
}

/** Asks the edge, signed as for a control socket. */
async function askPlan(ports: AgentPorts, identity: Identity, signal: AbortSignal): Promise<UpgradePlan> {
  if (ports.upgrade === undefined) throw new Error('this agent does not upgrade itself');
  const headers = { authorization: await authorization(ports, identity, signal) };
  let text = '';
  for await (const bytes of await ports.upgrade.download('/agent/v1/upgrade', signal, headers))
    text += Buffer.from(bytes).toString('utf8');
  return UpgradePlan.parse(JSON.parse(text));
}

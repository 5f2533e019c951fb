/**
 * What must hold whatever fails, checked from outside: by what the engines did, what the API says, what came out of the
 * containers and what stands in the logs. The ids are those of the failure model:
 *
 *   I1   at most one running container of a session at any time, and never an older generation after a newer one
 *   I2   every accepted session is there for ever, live or in one terminal state
 *   I3   what runs on a host fits into what its agent offers
 *   I4   when nothing changes any more: API, agents and engines agree, and nothing is left over
 *   I5   output has every byte once, in order, or an announced gap
 *   I6   no command takes effect twice
 *   I7   histories move along declared edges, with contiguous versions, and ends are final
 *   I11  no secret in logs or in what a container's inspection shows
 *   I12  memory of edge and agent stays below its limit
 */
import { readFileSync } from 'node:fs';
import type { Session } from '../../schema/api/session.ts';
import { labels, ownerOf } from '../../agent-daemon/runtime/docker-spec.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { EngineEvents } from './engine-events.ts';
import { historyFaults } from './invariant-history.ts';
import {
  type AgentOnLedger,
  type Container,
  type Network,
  containerFaults,
  counterFaults,
  networkFaults,
  reservationFaults,
  runFaults,
} from './invariant-rules.ts';
import type { AgentPart } from './stack-parts.ts';
import type { Stack } from './stack.ts';
import { until } from './wait.ts';

/** Resident memory that a part may have, in MiB: far above the usual, far below what an unbounded queue would take. */
const memoryLimitMiB = { workerd: 1500, agent: 512 };

export interface Expectation {
  sessionId: string;
  /** The command counts (`counterCommand`): its output is checked. */
  counts?: boolean;
}

/** Prints `begin`, then 1, 2, 3 ... one a line: what is lost, doubled or started twice shows in the output. */
export function counterCommand({ upTo, pauseMs = 20 }: { upTo?: number; pauseMs?: number } = {}): string[] {
  const condition = upTo === undefined ? 'true' : `[ $i -lt ${upTo} ]`;
  const pause = pauseMs === 0 ? '' : `usleep ${pauseMs * 1000};`;
  return ['sh', '-c', `echo begin; i=0; while ${condition}; do i=$((i+1)); echo $i; ${pause} done`];
}

export class Witness {
  readonly #stack: Stack;
  readonly #events = new Map<AgentPart, EngineEvents>();
  readonly #accepted: Expectation[] = [];
  /** Over, as the API has said once; that it stays so is a fault's matter, not quiet's. */
  readonly #over = new Set<string>();

  constructor(stack: Stack) {
    this.#stack = stack;
    for (const agent of stack.agents) this.#events.set(agent, new EngineEvents(agent.engine.docker));
  }

  /** Remembers a session whose POST was answered with success. */
  accepted(sessionId: string, options: { counts?: boolean } = {}): void {
    this.#accepted.push({ sessionId, ...options });
  }

  /** Waits until nothing is under way: each accepted session is over or running, and each end is cleaned up. */
  async quiesce(timeoutMs = 120_000): Promise<void> {
    await until(
      async () => {
        const restless: string[] = [];
        for (const { sessionId } of this.#accepted) {
          if (this.#over.has(sessionId)) continue;
          const { state } = await this.#stack.client.session(sessionId);
          if (isTerminal(state)) this.#over.add(sessionId);
          else if (state !== 'RUNNING') restless.push(`${sessionId} is ${state}`);
        }
        const left = await this.#agreement();
        if (restless.length + left.length > 0) throw new Error([...restless, ...left].join('; '));
        return true;
      },
      { what: 'everything to come to rest', timeoutMs, everyMs: 500 },
    );
  }

  /** Everything that does not hold, one sentence each; empty is good. Call it after `quiesce`. */
  async faults({ secrets = [] }: { secrets?: readonly string[] } = {}): Promise<string[]> {
    for (const events of this.#events.values()) await events.settle();
    const sessions = await this.#sessions();
    const lives = [...this.#events.values()].flatMap((events) => [...events.lives.values()]);
    return [
      ...runFaults(lives),
      ...(await this.#lossFaults(sessions)),
      ...(await this.#capacityFaults()),
      ...(await this.#agreement()).map((fault) => `[I4] ${fault}`),
      ...(await this.#outputFaults()),
      ...(await this.#historyFaults()),
      ...(await this.#secretFaults(secrets)),
      ...this.#memoryFaults(),
    ];
  }

  async stop(): Promise<void> {
    for (const events of this.#events.values()) await events.stop();
  }

  async #sessions(): Promise<Map<string, Session>> {
    return new Map((await this.#stack.client.sessions()).map((session) => [session.id, session]));
  }

  async #lossFaults(listed: Map<string, Session>): Promise<string[]> {
    const faults: string[] = [];
    for (const { sessionId } of this.#accepted) {
      const { status } = await this.#stack.client.call('GET', `/v1/sessions/${sessionId}`);
      if (status !== 200) faults.push(`[I2] ${sessionId} was accepted and is answered with ${status}`);
      if (!listed.has(sessionId)) faults.push(`[I2] ${sessionId} was accepted and is not in the list`);
    }
    for (const id of listed.keys()) {
      if (!this.#accepted.some(({ sessionId }) => sessionId === id))
        faults.push(`[I6] ${id} exists and nobody was told so`);
    }
    return faults;
  }

  /** Where API and engines differ right now. */
  async #agreement(): Promise<string[]> {
    const sessions = await this.#sessions();
    const containers: Container[] = [];
    const networks: Network[] = [];
    for (const { engine } of this.#stack.agents) {
      for (const { Names, State } of await engine.docker.listContainers({ all: true }))
        containers.push({ ...toContainer(Names[0] ?? ''), running: State === 'running' });
      for (const { Labels, Name } of await engine.docker.listNetworks())
        networks.push({ sessionId: (Labels as Record<string, string> | null)?.[labels.session], name: Name });
    }
    const page = (await this.#stack.client.api('GET', '/v1/agents')) as { items: AgentOnLedger[] };
    return [
      ...containerFaults(sessions, containers),
      ...networkFaults(sessions, networks),
      ...reservationFaults(sessions, page.items),
    ];
  }

  async #capacityFaults(): Promise<string[]> {
    const faults: string[] = [];
    for (const agent of this.#stack.agents) {
      const { MemTotal } = (await agent.engine.docker.info()) as { MemTotal: number };
      let memory = 0;
      for (const info of await agent.engine.docker.listContainers()) {
        const { HostConfig } = await agent.engine.docker.getContainer(info.Id).inspect();
        memory += HostConfig.Memory ?? 0;
      }
      if (memory > MemTotal) faults.push(`[I3] containers of ${agent.agentId} may use ${memory} of ${MemTotal} bytes`);
    }
    return faults;
  }

  async #outputFaults(): Promise<string[]> {
    const faults: string[] = [];
    for (const { sessionId, counts } of this.#accepted) {
      if (counts !== true) continue;
      const session = await this.#stack.client.session(sessionId);
      if (session.startedAtMs === undefined) continue;
      const output = await this.#firstLines(sessionId);
      faults.push(...counterFaults(output).map((fault) => `${fault} in ${sessionId}`));
    }
    return faults;
  }

  /** What came out so far; a session that has just started gets a moment to say something. */
  async #firstLines(sessionId: string): Promise<string> {
    const read = async (): Promise<string> => (await this.#stack.client.logs(sessionId)).toString();
    return until(async () => (await read()) || undefined, { what: `output of ${sessionId}` }).catch(read);
  }

  async #historyFaults(): Promise<string[]> {
    const faults: string[] = [];
    for (const { sessionId } of this.#accepted) {
      const history = await this.#stack.client.history(sessionId);
      faults.push(...historyFaults(history).map((fault) => `[I7] ${sessionId}: ${fault}`));
    }
    return faults;
  }

  async #secretFaults(secrets: readonly string[]): Promise<string[]> {
    if (secrets.length === 0) return [];
    const faults = this.#stack.leaks(secrets).map((line) => `[I11] a log shows a secret: ${line}`);
    for (const agent of this.#stack.agents) {
      for (const info of await agent.engine.docker.listContainers({ all: true })) {
        const shown = JSON.stringify(await agent.engine.docker.getContainer(info.Id).inspect());
        if (secrets.some((secret) => shown.includes(secret)))
          faults.push(`[I11] inspecting ${info.Names[0]} shows a secret`);
      }
    }
    return faults;
  }

  #memoryFaults(): string[] {
    const parts = [
      { name: 'workerd', pid: this.#stack.edge.workerdPid, limit: memoryLimitMiB.workerd },
      ...this.#stack.agents.map((agent) => ({
        name: agent.agentId,
        pid: agent.process.pid,
        limit: memoryLimitMiB.agent,
      })),
    ];
    return parts.flatMap(({ name, pid, limit }) => {
      const used = residentMiB(pid);
      return used <= limit ? [] : [`[I12] ${name} uses ${used} MiB, more than ${limit}`];
    });
  }
}

/** Resident memory of a process in MiB. */
export function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? Number.NaN) / 1024);
}

/** Whose it is; a container that nobody has taken yet is nobody's. */
function toContainer(engineName: string): Pick<Container, 'sessionId' | 'name'> {
  const name = engineName.replace(/^\//, '');
  return { sessionId: ownerOf({ name })?.sessionId, name: engineName };
}

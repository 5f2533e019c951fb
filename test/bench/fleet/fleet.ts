/** A stack without engines, and a fleet of enrolled agents in a process beside it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Started } from '../../support/process.ts';
import { start } from '../../support/process.ts';
import { type Stack, newStack } from '../../support/stack.ts';
import { until } from '../../support/wait.ts';
import { type AgentRecord, type FleetCounters, enrolOne } from './agent.ts';

/** Below the limit of a group. */
const agentsPerGroup = 4000;
const enrolAtOnce = 16;
const connectMs = 300_000;

export class Fleet {
  readonly stack: Stack;
  readonly size: number;
  readonly ids: readonly string[];
  readonly #file: string;
  #process: Started | undefined;
  #asked = 0;

  private constructor(stack: Stack, file: string, records: readonly AgentRecord[]) {
    this.stack = stack;
    this.#file = file;
    this.size = records.length;
    this.ids = records.map(({ agentId }) => agentId);
  }

  /** Starts edge and Redis and enrols the agents by the API; none is connected yet. */
  static async enrol(size: number): Promise<Fleet> {
    const stack = newStack({ redis: 'server' });
    await stack.startEdge();
    const records: AgentRecord[] = [];
    for (let first = 0; first < size; first += agentsPerGroup) {
      const group = `fleet-${first}`;
      await stack.client.api('POST', '/v1/resource-groups', { name: group }, { headers: { 'idempotency-key': group } });
      let next = first;
      const enrol = async (): Promise<void> => {
        while (next < Math.min(size, first + agentsPerGroup)) {
          const number = next++;
          records.push(await enrolOne(stack.url, stack.client.token!, group, `fleet-${number}`));
        }
      };
      await Promise.all(Array.from({ length: enrolAtOnce }, enrol));
    }
    const file = join(stack.dir, 'fleet.json');
    writeFileSync(file, JSON.stringify(records));
    return new Fleet(stack, file, records);
  }

  /** Starts the process of the agents, and returns when all are connected. */
  async connect(): Promise<FleetCounters> {
    const program = join(import.meta.dirname, 'index.ts');
    this.#process = start(process.execPath, ['--max-old-space-size=4096', program, this.stack.url, this.#file], {
      name: 'fleet',
      stdin: true,
    });
    await this.#process.line('ready');
    return this.untilConnected();
  }

  async state(): Promise<FleetCounters> {
    const asked = ++this.#asked;
    const process = this.#process!;
    const before = process.lines.filter(({ msg }) => msg === 'state').length;
    process.child.stdin!.write(`${asked}\n`);
    const line = await until(() => process.lines.filter(({ msg }) => msg === 'state')[before], {
      what: 'the fleet to say its state',
      timeoutMs: 60_000,
      giveUp: () => (process.exit === undefined ? undefined : `it ended:\n${process.output()}`),
    });
    return line as unknown as FleetCounters;
  }

  /** Waits until all are connected, and each was cut at least `drops` times in sum. */
  async untilConnected(drops = 0): Promise<FleetCounters> {
    let last: FleetCounters | undefined;
    await until(
      async () => {
        last = await this.state();
        if (last.connected < this.size) throw new Error(JSON.stringify(last));
        return last.drops >= drops;
      },
      {
        what: `${this.size} agents to be connected`,
        timeoutMs: connectMs,
        everyMs: 250,
        giveUp: () => this.#edgeIsOver(),
      },
    );
    return last!;
  }

  #edgeIsOver(): string | undefined {
    const { exit } = this.stack.edge.process;
    return exit === undefined ? undefined : `the edge ended with ${exit.signal ?? exit.code}`;
  }

  /** Ends the process of the agents; their identities are kept. */
  async disconnect(): Promise<void> {
    this.#process?.child.stdin?.end();
    await this.#process?.exited;
    this.#process = undefined;
  }

  /** Kills workerd and waits until its successor answers. Returns when it was killed, Unix ms. */
  async killEdge(): Promise<number> {
    const { edge } = this.stack;
    const before = edge.workerdPid;
    edge.killWorkerd9();
    const killedMs = Date.now();
    await until(() => edge.workerdPid !== before, { what: 'workerd to be started again', timeoutMs: 60_000 });
    await edge.untilHealthy();
    return killedMs;
  }

  async stop(): Promise<void> {
    await this.disconnect();
    await this.stack.stop();
  }
}

/** The world that a rogue is let loose in: a real edge, an honest agent with sessions, and a whole view of them to compare. */
import { setTimeout as sleep } from 'node:timers/promises';

import { newStack, type Stack } from '../support/stack.ts';
import { ScriptedAgent } from './scripted-agent.ts';

const GiB = 1024 ** 3;

export interface RogueWorld {
  stack: Stack;
  honest: ScriptedAgent;
  /** An enrolled identity with one session of its own. */
  rogue: ScriptedAgent;
  /** Of the honest agent. */
  victims: string[];
  /** The rogue's own. */
  own: string;
}

/** Starts it; the rogue's machine is full with its one session, so everything else is the honest agent's. */
export async function startRogueWorld(): Promise<RogueWorld> {
  const stack = newStack();
  await stack.startEdge();
  const { client } = stack;
  const newSession = async (name: string): Promise<string> => {
    const made = await client.createSession({
      name,
      type: 'batch',
      image: 'none:1',
      command: ['true'],
      resources: { cpu: '1', mem: '1GiB' },
    });
    await client.waitForState(made.id, ['RUNNING']);
    return made.id;
  };
  const rogue = await ScriptedAgent.join(client, 'rogue', { cpu: 1000, mem: GiB });
  const own = await newSession('own');
  const honest = await ScriptedAgent.join(client, 'honest', { cpu: 16_000, mem: 64 * GiB });
  const victims = await Promise.all(['a', 'b', 'c'].map((name) => newSession(`victim-${name}`)));
  return { stack, honest, rogue, victims, own };
}

/** Everything that the API tells of the honest agent and its sessions, without what only says when it was looked at. */
export async function viewOf({ stack: { client }, honest, victims }: RogueWorld): Promise<unknown> {
  const [agent, sessions, histories, audit] = await Promise.all([
    client.api('GET', `/v1/agents/${honest.id}`),
    Promise.all(victims.map((id) => client.api('GET', `/v1/sessions/${id}`))),
    Promise.all(victims.map((id) => client.history(id))),
    client.api('GET', '/v1/agents'),
  ]);
  const { lastSeenAtMs: _, report: __, ...still } = agent as Record<string, unknown>;
  const names = (audit as { items: { name: string }[] }).items.map(({ name }) => name).toSorted();
  return { agent: still, sessions, histories, names };
}

/** Milliseconds of `list` below which 99 of 100 lie. */
export function p99(list: readonly number[]): number {
  const sorted = list.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
}

/** Asks for the victims' list again and again, as somebody who is not attacked, until `stop`. */
export function startBystander(stack: Stack): { stop(): Promise<{ statuses: Set<number>; tookMs: number[] }> } {
  const statuses = new Set<number>();
  const tookMs: number[] = [];
  const over = new AbortController();
  const loop = (async () => {
    while (!over.signal.aborted) {
      const at = performance.now();
      const { status } = await stack.client.call('GET', '/v1/sessions?limit=10');
      statuses.add(status);
      tookMs.push(performance.now() - at);
      await sleep(10);
    }
  })();
  return {
    stop: async () => {
      over.abort();
      await loop;
      return { statuses, tookMs };
    },
  };
}

/** What is cut on the way between people and containers. Each resolves when the part is there again. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultProxy } from './fault-proxy.ts';
import type { Rng } from './random.ts';
import type { Stack } from './stack.ts';
import { until } from './wait.ts';

/** Nothing passes for a while, then all who waited are reset: what was under way is lost. */
export async function blackhole(link: FaultProxy, random: Rng): Promise<void> {
  link.set('both', { blackhole: true });
  await sleep(random.integer(200, 1_000));
  link.reset();
  link.heal();
}

export async function killWorkerd({ edge }: Stack): Promise<void> {
  const before = edge.workerdPid;
  edge.killWorkerd9();
  await until(() => edge.workerdPid !== before, { what: 'workerd to be started again' });
  await edge.untilHealthy();
}

export async function killAgent({ agents: [agent] }: Stack): Promise<void> {
  await agent!.kill9();
  await agent!.start();
}

export async function killEngine({ agents: [agent] }: Stack): Promise<void> {
  await agent!.engine.kill9();
  await agent!.engine.restart();
}

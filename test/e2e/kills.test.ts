import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cutUnixSockets } from '../support/cut-socket.ts';
import { Witness, counterCommand } from '../support/invariants.ts';
import { busyboxImage } from '../support/images.ts';
import { seededRandom } from '../support/random.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { byTier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const containers = 20;
const killsOfEach = byTier({ daily: 2, full: 10 });
const random = seededRandom(Number(process.env['CAUSEWAY_SEED'] ?? 1));

let stack: Stack;
let witness: Witness;
const sessions: string[] = [];
/** Container id of each session before anything was killed. */
const born = new Map<string, string>();

beforeAll(async () => {
  stack = await startStack({ redis: 'server' });
  witness = new Witness(stack);
  await Promise.all(
    Array.from({ length: containers }, async () => {
      const session = await stack.client.createSession({
        type: 'batch',
        image: busyboxImage,
        command: counterCommand({ pauseMs: 50 }),
        resources: { cpu: 0.05, mem: '32m' },
      });
      witness.accepted(session.id, { counts: true });
      sessions.push(session.id);
    }),
  );
  for (const id of sessions) await stack.client.waitForState(id, ['RUNNING'], 120_000);
  for (const [id, container] of await runningContainers()) born.set(id, container);
}, 300_000);

afterAll(async () => {
  await witness?.stop();
  await stack?.stop();
}, 120_000);

const kills: Record<string, () => Promise<void>> = {
  workerd: async () => {
    const before = stack.edge.workerdPid;
    stack.edge.killWorkerd9();
    await until(() => stack.edge.workerdPid !== before, { what: 'workerd to be started again' });
    await stack.edge.untilHealthy();
  },
  'the keeper of workerd': async () => {
    await stack.edge.kill9();
    await stack.edge.start();
  },
  'the agent': async () => {
    await stack.agents[0]!.kill9();
    await stack.agents[0]!.start();
  },
  dockerd: async () => {
    await stack.agents[0]!.engine.kill9();
    await stack.agents[0]!.engine.restart();
  },
  'the redis-server': async () => {
    stack.redis!.killServer9();
    await sleep(100);
    await stack.redis!.untilHealthy();
  },
  'the gateway of redis': async () => {
    await stack.redis!.process.kill9();
    await stack.redis!.start();
  },
  'the connections of the inits': async () => {
    // The agent listens through descriptors of the sessions' directories.
    const cut = await cutUnixSockets(stack.agents[0]!.process.pid, '/proc/self/fd/');
    expect(cut).toBe(containers);
  },
  'agent and workerd at once': async () => {
    stack.edge.killWorkerd9();
    await stack.agents[0]!.kill9();
    await stack.agents[0]!.start();
    await stack.edge.untilHealthy();
  },
};

it.each(Object.keys(kills))(
  `[I1-I7] kill -9 of %s, ${killsOfEach} times, loses, doubles and leaks nothing while ${containers} containers count`,
  async (part) => {
    for (let n = 0; n < killsOfEach; n++) {
      await kills[part]!();
      await sleep(random.integer(0, 1500));
    }
    await witness.quiesce();
    expect(await witness.faults()).toEqual([]);
    expect(await runningContainers()).toEqual(born);
    await everyCounterGoesOn();
  },
  600_000,
);

it('[I2] [I4] ends all of them when asked, and leaves nothing', async () => {
  await Promise.all(sessions.map(async (id) => stack.client.deleteSession(id, '?graceMs=1000')));
  for (const id of sessions) await stack.client.waitForState(id, ['TERMINATED'], 120_000);
  await witness.quiesce();
  expect(await witness.faults({ secrets: [stack.client.password, stack.client.token!] })).toEqual([]);
});

async function runningContainers(): Promise<Map<string, string>> {
  const list = await stack.agents[0]!.engine.docker.listContainers();
  return new Map(
    list
      .map(({ Id, Labels }): [string, string] => [Labels['causeway.session'] ?? '', Id])
      .toSorted(([a], [b]) => a.localeCompare(b)),
  );
}

/** Each counter counts further than it had before: output flows again. */
async function everyCounterGoesOn(): Promise<void> {
  for (const id of sessions) {
    const { length } = await stack.client.logs(id);
    await until(async () => (await stack.client.logs(id, 'stdout', length)).length > 0, {
      what: `more output of ${id}`,
      everyMs: 100,
    });
  }
}

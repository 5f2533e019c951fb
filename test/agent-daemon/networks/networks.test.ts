/** Networks that are kept ready, on an engine that others use as well. */
import { describe, expect, it } from 'vitest';
import { Networks } from '../../../agent-daemon/networks/networks.ts';
import { systemRandom } from '../../../agent-daemon/platform.ts';
import { type ContainerRuntime, type NetworkFacts, RuntimeError } from '../../../agent-daemon/runtime/runtime.ts';
import { until } from '../../support/wait.ts';
import { keptLog, ManualTimers } from '../ports.ts';
import { agentId } from '../support.ts';

/** An engine with these networks, which refuses to remove those of `stuck`, and lists and makes others when `of` says so. */
function world() {
  const there = new Map<string, NetworkFacts>();
  const stuck = new Set<string>();
  const unguarded = new Set<string>();
  const of = { gate: Promise.resolve(), made: (_count: number): Promise<void> => Promise.resolve() };
  const runtime = {
    listNetworks: async () => {
      const listed = [...there.values()];
      await of.gate;
      return listed;
    },
    createNetwork: async (name: string, subnet: string, labels: Record<string, string>) => {
      there.set(name, { id: name, name, labels, subnets: [subnet] });
      await of.made(there.size);
      return name;
    },
    removeNetwork: (name: string) => {
      if (stuck.has(name)) return Promise.reject(new RuntimeError('failed', 'it has active endpoints'));
      there.delete(name);
      return Promise.resolve();
    },
  } as unknown as ContainerRuntime;
  const networks = new Networks({
    runtime,
    agentId,
    instanceId: 'test',
    pool: '10.213.0.0/16',
    ready: 2,
    guard: (subnet) => (unguarded.has(subnet) ? Promise.reject(new Error('no packet filter')) : Promise.resolve()),
    readRoutes: () => Promise.resolve(''),
    random: systemRandom,
    timers: new ManualTimers(),
    log: keptLog(),
  });
  const left = (name: string, subnet: string) => there.set(name, { id: name, name, labels: {}, subnets: [subnet] });
  const whenReady = () => until(() => there.size >= 2, { what: 'networks to be ready' });
  return { there, stuck, unguarded, of, networks, left, whenReady };
}

const none = new Set<string>();

describe('networks of an agent', () => {
  it('are not given to anybody when others have removed them, and others are made', async () => {
    const { there, networks, whenReady } = world();
    await networks.adopt(none);
    await whenReady();
    const gone = [...there.keys()];
    there.clear();
    for (const name of gone) networks.forget(name);
    await whenReady();
    for (let taken = 0; taken < 3; taken++) expect(there.has(await networks.take())).toBe(true);
  });

  it('are all given to somebody, also those that were being made while another went', async () => {
    const { there, of, networks } = world();
    const made = Promise.withResolvers<void>();
    of.made = (count) => (count === 2 ? made.promise : Promise.resolve());
    await networks.adopt(none);
    await until(() => there.size === 2, { what: 'one to be ready, and another to be made' });
    const [first, second] = there.keys();
    networks.forget(first!);
    made.resolve();
    await until(() => networks.names.length === 2, { what: 'two to be ready again' });
    expect(await networks.take()).toBe(second);
  });

  it('are looked at again when the engine is back: what went unheard is not given to anybody', async () => {
    const { there, networks, whenReady } = world();
    await networks.adopt(none);
    await whenReady();
    there.clear();
    await networks.adopt(none);
    await whenReady();
    for (let taken = 0; taken < 3; taken++) expect(there.has(await networks.take())).toBe(true);
  });

  it('that are made while the engine lists stay known', async () => {
    const { of, there, networks } = world();
    const gate = Promise.withResolvers<void>();
    of.gate = gate.promise;
    const adopting = networks.adopt(none);
    const taken = await networks.take();
    gate.resolve();
    await adopting;
    expect(networks.names).toContain(taken);
    expect(there.has(taken)).toBe(true);
  });

  it('are taken up at the next look where they could not be guarded or removed', async () => {
    const { there, stuck, unguarded, networks, left } = world();
    left('a', '10.213.0.0/28');
    unguarded.add('10.213.0.0/28');
    await expect(networks.adopt(none)).rejects.toThrow('no packet filter');
    unguarded.clear();
    for (const [at, name] of ['b', 'c'].entries()) left(name, `10.213.0.${16 * (at + 1)}/28`);
    stuck.add('c');
    await expect(networks.adopt(none)).rejects.toThrow('active endpoints');
    stuck.clear();
    await networks.adopt(none);
    expect([...there.keys()]).toEqual(['a', 'b']);
    expect(networks.names).toEqual(['a', 'b']);
  });
});

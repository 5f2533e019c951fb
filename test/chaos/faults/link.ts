/** What the way between an agent (or a user) and the edge does to bytes. */
import type { Faults } from '../../support/fault-link.ts';
import type { Direction, FaultProxy } from '../../support/fault-proxy.ts';
import type { Rng } from '../../support/random.ts';
import { type Fault, fault } from '../fault.ts';
import type { World } from '../world.ts';

interface Link {
  name: string;
  proxy: FaultProxy;
}

function linksOf({ hosts, userLink }: World): Link[] {
  return [...hosts.map(({ name, link }) => ({ name, proxy: link })), { name: 'users', proxy: userLink }];
}

/** A state of the link that lasts. */
function lasting(name: string, direction: Direction, faults: (random: Rng) => Faults): Fault {
  return fault<Link>({
    name,
    appliesTo: linksOf,
    on: (link) => `${link.name} link`,
    inject: async ({ proxy }, random) => {
      proxy.set(direction, faults(random));
      return async () => proxy.heal();
    },
  });
}

/** Something that happens to the connections that are open. */
function sudden(name: string, happen: (proxy: FaultProxy) => void, heal = (_proxy: FaultProxy): void => {}): Fault {
  return fault<Link>({
    name,
    appliesTo: linksOf,
    on: (link) => `${link.name} link`,
    inject: async ({ proxy }) => {
      happen(proxy);
      return async () => heal(proxy);
    },
  });
}

export const linkFaults: Fault[] = [
  lasting('latency', 'both', (random) => ({ latencyMs: random.integer(50, 800), jitterMs: random.integer(0, 200) })),
  lasting('bandwidth', 'both', (random) => ({ bytesPerSecond: random.integer(2_000, 50_000) })),
  lasting('slices', 'both', (random) => ({ sliceBytes: random.integer(1, 7), latencyMs: 1 })),
  lasting('black hole upwards', 'up', () => ({ blackhole: true })),
  lasting('black hole downwards', 'down', () => ({ blackhole: true })),
  lasting('black hole', 'both', () => ({ blackhole: true })),
  lasting('reset after some bytes', 'both', (random) => ({ limitBytes: random.integer(100, 20_000) })),
  sudden('reset', (proxy) => void proxy.reset()),
  sudden('half close upwards', (proxy) => proxy.halfClose('up')),
  sudden('half close downwards', (proxy) => proxy.halfClose('down')),
  sudden(
    'refused connections',
    (proxy) => {
      proxy.refuse();
      proxy.reset();
    },
    (proxy) => proxy.heal(),
  ),
];

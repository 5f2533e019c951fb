/** What happens below TCP: packets of one direction vanish, or some of them. */
import type { PacketDirection } from '../../support/netns.ts';
import { type Fault, fault } from '../fault.ts';
import type { Host } from '../world.ts';

function packets(name: string, direction: PacketDirection, share?: readonly [number, number]): Fault {
  return fault<Host>({
    name,
    appliesTo: ({ hosts }) => hosts.filter(({ nat }) => nat !== undefined),
    on: (host) => `${host.name} packets`,
    inject: async ({ nat }, random) => {
      if (share === undefined) await nat!.silence(direction);
      else await nat!.lose(direction, random.integer(...share) / 100);
      return async () => nat!.heal();
    },
  });
}

export const packetFaults: Fault[] = [
  packets('packets of the agent dropped', 'out'),
  packets('packets to the agent dropped', 'in'),
  packets('packets lost', 'both', [1, 15]),
];

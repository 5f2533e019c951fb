/** What no network does over TCP, and a rogue or broken end may: frames of the tunnel twice, in another order, again. */
import type { FrameFaults } from '../../support/frame-proxy.ts';
import { type Fault, fault } from '../fault.ts';
import type { Host } from '../world.ts';

function disturbed(name: string, faults: FrameFaults): Fault {
  return fault<Host>({
    name,
    appliesTo: ({ hosts }) => hosts,
    on: (host) => `${host.name} frames`,
    inject: async ({ frames }) => {
      frames.set(faults);
      return async () => frames.set({});
    },
  });
}

export const frameFaults: Fault[] = [
  disturbed('duplicated frames', { duplicate: 0.2 }),
  disturbed('reordered frames', { reorder: 0.2 }),
  disturbed('replayed frames', { replay: 0.2 }),
];

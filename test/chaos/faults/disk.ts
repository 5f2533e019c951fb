/** Disks that are full. */
import { type Fault, fault } from '../fault.ts';
import type { Host } from '../world.ts';

export const diskFaults: Fault[] = [
  fault<Host>({
    name: "the agent's disk is full",
    healsFirst: true,
    appliesTo: ({ hosts }) => hosts.filter(({ stateDisk }) => stateDisk !== undefined),
    on: (host) => `${host.name} state disk`,
    inject: async (host) => {
      host.mayHaveGaps = true;
      host.stateDisk!.fill();
      return async () => host.stateDisk!.empty();
    },
  }),
  fault<Host>({
    name: "the engine's disk is full",
    healsFirst: true,
    appliesTo: ({ hosts }) => hosts.filter(({ engineDisk }) => engineDisk !== undefined),
    on: (host) => `${host.name} engine disk`,
    inject: async (host) => {
      host.engineDisk!.fill();
      return async () => host.engineDisk!.empty();
    },
  }),
];

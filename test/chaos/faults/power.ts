/** The host of an agent loses its power: agent, engine and containers are gone at once, its disk stays. */
import { type Fault, fault } from '../fault.ts';
import type { Host } from '../world.ts';

export const powerFaults: Fault[] = [
  fault<Host>({
    name: 'power loss',
    appliesTo: ({ hosts }) => hosts,
    on: (host) => `${host.name} daemon+${host.name} engine`,
    inject: async (host) => {
      host.powerLosses++;
      await host.part.kill9();
      await host.part.engine.powerLoss();
      return async () => {
        await host.part.engine.restart();
        host.part.spawnAgain();
      };
    },
  }),
];

/** All kinds of faults. */
import type { Fault } from './fault.ts';
import { diskFaults } from './faults/disk.ts';
import { edgeFaults } from './faults/edge.ts';
import { frameFaults } from './faults/frames.ts';
import { linkFaults } from './faults/link.ts';
import { packetFaults } from './faults/packets.ts';
import { powerFaults } from './faults/power.ts';
import { processFaults } from './faults/processes.ts';
import { redisFaults } from './faults/redis.ts';

export const kinds: readonly Fault[] = [
  ...linkFaults,
  ...frameFaults,
  ...packetFaults,
  ...processFaults,
  ...powerFaults,
  ...diskFaults,
  ...edgeFaults,
  ...redisFaults,
];

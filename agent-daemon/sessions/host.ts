/** Everything outside of one session that it acts through: the core's ports. Built once by `work.ts`. */
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Clock, Failpoints, Log, Random, Timers } from '../../schema/ports.ts';
import type { Disk } from '../disk.ts';
import type { Services } from '../dispatch.ts';
import type { Uploads } from '../files/uploads.ts';
import type { Images } from '../images/images.ts';
import type { InitDoor, InitTransport, Soon } from '../init/link-options.ts';
import type { Loops } from '../loops.ts';
import type { Networks } from '../networks/networks.ts';
import type { Spools } from '../output/spools.ts';
import type { WarmContainers } from '../pool/warm.ts';
import type { ContainerRuntime } from '../runtime/runtime.ts';
import type { ScreenPool } from '../terminals/screen-pool.ts';
import type { Homes } from './homes.ts';
import type { PlacementStore } from './placement.ts';
import type { Semaphore } from './semaphore.ts';

export interface SessionHost {
  clock: Clock;
  timers: Timers;
  loops: Loops;
  random: Random;
  log: Log;
  disk: Disk;
  door: InitDoor;
  soon: Soon;
  failpoints: Failpoints<AgentFailpoint>;
  services: Pick<Services, 'recordEvent' | 'progress' | 'leases'>;
  runtime: ContainerRuntime;
  images: Images;
  networks: Networks;
  spools: Spools;
  homes: Homes;
  uploads: Uploads;
  /** Draws screens of terminals. */
  screenPool: ScreenPool;
  store: PlacementStore;
  /** Containers that were started in advance. */
  warm: WarmContainers;
  /** Starts at a time: more only queue inside the engine. */
  starts: Semaphore;
  agentId: string;
  instanceId: string;
  /** Directory of the runners of kernels. */
  runnersPath: string;
  /** Absolute path of causeway-init, and the directory of the directories with their sockets. */
  initPath: string;
  runRoot: string;
  /** Directory of what is brought into containers for want of it in their images. */
  toolsRoot: string;
  /** How inits of new containers are reached on this host; waits for the probe of this. */
  transport(): Promise<InitTransport>;
}

/** What faults may touch of a world. */
import type { ProjectLimits } from '../../edge/manager/admission/rpc.ts';
import type { SimEdge } from './edge/edge.ts';
import type { Way } from './edge/links.ts';
import type { VirtualTime } from './clock.ts';
import type { WorldHost } from './host-port.ts';
import type { Sometimes } from './sometimes.ts';

export interface Stage {
  readonly hosts: readonly WorldHost[];
  /** By the names of hosts and readers. */
  readonly ways: ReadonlyMap<string, Way>;
  readonly edge: SimEdge;
  readonly time: VirtualTime;
  readonly sometimes: Sometimes;
  /** Runs a task later; in calm weather all of them are due at once. */
  later(delayMs: number, task: () => void): void;
  /** An operator drains a host's agent, or lets it take sessions again. */
  drain(host: WorldHost, draining: boolean): void;
  /** Somebody clones a machine's disk, and starts the clone; an operator clears that up after `clearedMs`. */
  copy(host: WorldHost, clearedMs: number): void;
  /** An operator revokes a host's agent for good. */
  revoke(host: WorldHost): void;
  /** An administrator takes rights away, or gives them back. */
  changeRights(): void;
  /** New limits for all projects of some domain. */
  limit(limits: ProjectLimits): void;
}

/** What sessions know of containers that are started in advance. */
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import type { KernelInAdvance } from '../kernels/in-advance.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import type { ContainerSummary, ImageFacts } from '../runtime/runtime.ts';

/** A container that is nobody's yet: in it runs its init, and at most a kernel that waits for whoever asks for one. */
export interface WarmContainer {
  warmId: string;
  containerId: string;
  network: string;
  /** Connected to its init. */
  supervisor: Supervisor;
  /** That waits in it. */
  kernel?: KernelInAdvance | undefined;
}

/** What a session wants of one. */
export type WarmWish = Pick<KernelSpec, 'image' | 'imageDigest' | 'kernel' | 'slots' | 'type' | 'command'>;

export interface WarmContainers {
  /** False: none is ever started in advance. */
  readonly isOn: boolean;
  /** False where none would fit, so that nobody needs to look closer. */
  mayFit(wish: WarmWish): boolean;
  /** Gives one away for good: it never comes back. Undefined when none fits. */
  take(wish: WarmWish, image: ImageFacts): WarmContainer | undefined;
  /**
   * Removes what an earlier run left and no session has. `isClaimed`: a session has the one of this id, now; asked again and
   * again, since sessions take containers meanwhile. Rejects when the engine does not answer: again.
   */
  clear(containers: readonly ContainerSummary[], isClaimed: (warmId: string) => boolean): Promise<void>;
  /** Begins to hold containers: what an earlier run left is known. */
  start(): void;
  /** A session with this wish was started, in one of these or not: more of the kind may come. */
  started(wish: WarmWish, image: ImageFacts): void;
  /** In such a session a kernel of this kernelspec was started. */
  startedKernel(wish: WarmWish, image: ImageFacts, spec: string): void;
}

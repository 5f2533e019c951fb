/** What rows share in one run: made at the first use, removed at the end. */
import { type Stack, startStack } from '../support/stack.ts';
import { type KernelLab, startKernelLab } from './subjects/kernel-lab.ts';

export class BenchContext {
  #stack: Promise<Stack> | undefined;
  #behindProxy: Promise<Stack> | undefined;
  #overTls: Promise<Stack> | undefined;
  #inAdvance: Promise<Stack> | undefined;
  #kernels: Promise<KernelLab> | undefined;
  readonly #ends: (() => unknown)[] = [];

  /** The real stack with one agent. */
  stack(): Promise<Stack> {
    this.#stack ??= startStack();
    return this.#stack;
  }

  /** The same with a fault proxy between agent and edge. */
  stackBehindProxy(): Promise<Stack> {
    this.#behindProxy ??= startStack({ agentProxy: true });
    return this.#behindProxy;
  }

  /** The same over TLS, pinned at both ends. */
  stackOverTls(): Promise<Stack> {
    this.#overTls ??= startStack({ tls: true });
    return this.#overTls;
  }

  /** The same whose agent starts two containers in advance. */
  stackInAdvance(): Promise<Stack> {
    this.#inAdvance ??= startStack({ agentEnv: { CAUSEWAY_WARM_CONTAINERS: '2' } });
    return this.#inAdvance;
  }

  /** A kernel of Jupyter on the real stack, and its peers on the same engine. */
  kernels(): Promise<KernelLab> {
    this.#kernels ??= this.stack().then(startKernelLab);
    return this.#kernels;
  }

  /** Runs `end` when the run is over, the last that was given first. */
  atEnd(end: () => unknown): void {
    this.#ends.push(end);
  }

  async stop(): Promise<void> {
    for (const end of this.#ends.toReversed()) await end();
    await this.#kernels?.then(
      (lab) => lab.stop(),
      () => undefined,
    );
    const parts = await Promise.allSettled([this.#stack, this.#behindProxy, this.#overTls, this.#inAdvance]);
    for (const part of parts) if (part.status === 'fulfilled') await part.value?.stop();
  }
}

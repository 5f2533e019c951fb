/** What rows share in one run: made at the first use, removed at the end. */
import { type Stack, startStack } from '../support/stack.ts';

export class BenchContext {
  #stack: Promise<Stack> | undefined;
  #behindProxy: Promise<Stack> | undefined;
  #overTls: Promise<Stack> | undefined;

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

  async stop(): Promise<void> {
    const parts = await Promise.allSettled([this.#stack, this.#behindProxy, this.#overTls]);
    for (const part of parts) if (part.status === 'fulfilled') await part.value?.stop();
  }
}

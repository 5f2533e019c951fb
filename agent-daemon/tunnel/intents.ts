/**
 * Carries intents out: each journaled before it is acknowledged, once, one at a time per session in the order of `seq`,
 * sessions side by side (SPEC rules M4, M5). It knows orders, not containers.
 */
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Failpoints, Log, Random, Timers } from '../../schema/ports.ts';
import { backoffMs } from '../../schema/protocol/backoff.ts';
import type { Intent } from '../../schema/protocol/intents.ts';
import type { Handlers, IntentOf } from '../dispatch.ts';
import type { Journal } from './journal.ts';

interface Running {
  intent: Intent;
  superseded: AbortController;
}

export interface IntentPorts {
  log: Log;
  timers: Timers;
  random: Random;
  failpoints: Failpoints<AgentFailpoint>;
}

/** A later order that makes waiting for the earlier one pointless. One of an older placement is nothing to the newer. */
function supersedes(later: Intent, earlier: Intent): boolean {
  if (later.generation !== earlier.generation) return later.generation > earlier.generation;
  return later.order.kind !== 'create';
}

export class IntentQueue {
  readonly #journal: Journal;
  readonly #handlers: Handlers['intents'];
  readonly #ports: IntentPorts;
  readonly #waiting = new Map<string, Intent[]>();
  readonly #running = new Map<string, Running>();
  /** The batch that is being taken: what is new is known only when the one before it is in the journal. */
  #taking: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(journal: Journal, handlers: Handlers['intents'], ports: IntentPorts) {
    this.#journal = journal;
    this.#handlers = handlers;
    this.#ports = ports;
  }

  /** Takes up what an earlier run of the agent had acknowledged and not finished. */
  resume(): void {
    for (const intent of this.#journal.pendingIntents()) this.#enqueue(intent);
  }

  /** Resolves when all of them may be acknowledged: the new ones are in the journal. Batches are taken one by one. */
  accept(intents: readonly Intent[]): Promise<void> {
    const taking = this.#taking.then(() => this.#take(intents));
    this.#taking = taking.catch(() => {});
    return taking;
  }

  async #take(intents: readonly Intent[]): Promise<void> {
    const fresh: Intent[] = [];
    const newest = new Map<string, number>();
    for (const intent of intents.toSorted((a, b) => a.seq - b.seq)) {
      if (this.#journal.isSeen(intent) || intent.seq <= (newest.get(intent.sessionId) ?? -1)) continue;
      newest.set(intent.sessionId, intent.seq);
      fresh.push(intent);
    }
    if (fresh.length > 0) await this.#ports.failpoints.before('journal.intent');
    await this.#journal.recordIntents(fresh);
    if (fresh.length === 0) return;
    await this.#ports.failpoints.after('journal.intent');
    for (const intent of fresh) this.#enqueue(intent);
    if (this.#ports.failpoints.unknown('journal.intent')) throw new Error('the acknowledgement was lost');
  }

  /** Starts nothing more. What runs is told to give up waiting, and is taken up again by the next run. */
  stop(): void {
    this.#stopped = true;
    for (const { superseded } of this.#running.values()) superseded.abort(new Error('the agent stops'));
  }

  #enqueue(intent: Intent): void {
    const running = this.#running.get(intent.sessionId);
    if (running && supersedes(intent, running.intent)) running.superseded.abort(new Error('a later order waits'));
    const waiting = this.#waiting.get(intent.sessionId) ?? [];
    waiting.push(intent);
    this.#waiting.set(intent.sessionId, waiting);
    if (!running) void this.#work(intent.sessionId);
  }

  async #work(sessionId: string): Promise<void> {
    const waiting = this.#waiting.get(sessionId) ?? [];
    for (let intent = waiting.shift(); intent !== undefined && !this.#stopped; intent = waiting.shift()) {
      const running = { intent, superseded: new AbortController() };
      this.#running.set(sessionId, running);
      if (waiting.some((later) => supersedes(later, running.intent)))
        running.superseded.abort(new Error('a later order waits'));
      await this.#carryOut(running);
    }
    this.#running.delete(sessionId);
    this.#waiting.delete(sessionId);
  }

  /** Resolves when it is done or the agent stops; a handler that fails is asked again. */
  async #carryOut({ intent, superseded }: Running): Promise<void> {
    for (let attempt = 0; !this.#stopped; attempt++) {
      try {
        const known = this.#journal.generationOf(intent.sessionId) ?? intent.generation;
        if (intent.generation >= known) await this.#handle(intent, superseded.signal);
        else this.#ports.log.info('dropped an order of an older placement', { sessionId: intent.sessionId });
        if (!this.#stopped) await this.#journal.recordDone(intent.intentId);
        return;
      } catch (error) {
        if (this.#stopped) return;
        this.#ports.log.error('an order failed and is tried again', {
          sessionId: intent.sessionId,
          kind: intent.order.kind,
          error: String(error),
        });
        await this.#pause(backoffMs(attempt + 1, this.#ports.random.fraction()));
      }
    }
  }

  #handle(intent: Intent, superseded: AbortSignal): Promise<void> {
    switch (intent.order.kind) {
      case 'create':
        return this.#handlers.create(intent as IntentOf<'create'>, superseded);
      case 'stop':
        return this.#handlers.stop(intent as IntentOf<'stop'>, superseded);
      case 'remove':
        return this.#handlers.remove(intent as IntentOf<'remove'>, superseded);
    }
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.#ports.timers.after(delayMs, resolve));
  }
}

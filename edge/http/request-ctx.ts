/**
 * The context of one request. A class whose parts are made when asked for: a request that needs no trace, log or address
 * does not pay for them (measured: closures and getters made per request cost as much as serving a small answer).
 */
import type { EdgeFailpoint } from '../../schema/failpoints.ts';
import { idPrefixes, newId } from '../../schema/ids.ts';
import type { Clock, Failpoints, Log, Random } from '../../schema/ports.ts';
import { systemClock } from '../platform/clock.ts';
import { type Config, readConfig } from '../platform/config.ts';
import { failpointsOf } from '../platform/failpoint.ts';
import { consoleLog, describeError } from '../platform/log.ts';
import { systemRandom } from '../platform/random.ts';
import { clientAddressOf } from './client-address.ts';
import type { Actor, Ctx } from './context.ts';
import { Stranger } from './strangers.ts';
import { nextTraceparent } from './trace.ts';

type CreatedKind = Parameters<Ctx['newId']>[0];

export class RequestCtx implements Ctx {
  readonly env: Env;
  readonly request: Request;
  readonly requestId: string;
  readonly clock: Clock = systemClock;
  readonly random: Random = systemRandom;
  actor: Actor = { kind: 'anonymous' };
  idempotency: Ctx['idempotency'] = undefined;
  /** Body of the ids of this request, given by the admission object to a creating POST with a key. */
  idBody: string | undefined = undefined;
  readonly #route: string;
  readonly #execution: { waitUntil(work: Promise<unknown>): void };
  #trace: string | undefined;
  #log: Log | undefined;
  #stranger: Stranger | undefined;

  constructor(parts: {
    env: Env;
    request: Request;
    requestId: string;
    route: string;
    execution: { waitUntil(work: Promise<unknown>): void };
  }) {
    this.env = parts.env;
    this.request = parts.request;
    this.requestId = parts.requestId;
    this.#route = parts.route;
    this.#execution = parts.execution;
  }

  get config(): Config {
    return readConfig(this.env);
  }
  get failpoints(): Failpoints<EdgeFailpoint> {
    return failpointsOf(this.env);
  }
  get traceparent(): string {
    this.#trace ??= nextTraceparent(this.request.headers.get('traceparent'), this.random);
    return this.#trace;
  }
  get log(): Log {
    this.#log ??= consoleLog({ requestId: this.requestId, trace: this.traceparent.slice(3, 35), route: this.#route });
    return this.#log;
  }
  get clientAddress(): string {
    return clientAddressOf(this.request, this.config.layout);
  }
  get stranger(): Stranger {
    return (this.#stranger ??= new Stranger(this.request, this.config.layout));
  }
  takeTurn(): Promise<void> {
    return this.stranger.takeTurn();
  }
  waitUntil(work: Promise<unknown>): void {
    this.#execution.waitUntil(
      work.catch((error: unknown) => this.log.error('background work failed', { ...describeError(error) })),
    );
  }
  newId(kind: CreatedKind): string {
    if (this.idBody !== undefined) return `${idPrefixes[kind]}_${this.idBody}`;
    return newId(kind, this.clock.nowMs(), this.random.bytes(10));
  }
}

/** What the Worker's own code gets with a request of a simulated world: bindings to its objects and D1, and its ports. */
import type { Actor, Ctx } from '../../../edge/http/context.ts';
import type { LedgerRpc } from '../../../edge/manager/scheduler/rpc.ts';
import type { EdgeFailpoint } from '../../../schema/failpoints.ts';
import { newId } from '../../../schema/ids.ts';
import type { Clock, Failpoints, Log, Random } from '../../../schema/ports.ts';
import { type Life, never } from '../life.ts';
import { openThrottle } from './access.ts';

/** The objects and tables that bindings lead to. */
export interface Bound {
  readonly accounts: { door: (guard: <Result>(work: Promise<Result>) => Promise<Result>) => D1Database };
  admission: (name: string, caller: Life) => object;
  ledger: (groupNumber: number, caller: Life) => LedgerRpc;
  controlHub: (name: string, caller: Life) => object;
  dataHub: (name: string, caller: Life) => object;
  access: (name: string, caller: Life) => object;
}

export interface RequestPorts {
  env: Env;
  layout: 'production' | 'machine';
  clock: Clock;
  random: Random;
  log: Log;
  failpoints: Failpoints<EdgeFailpoint>;
}

export const keys = { hmac: [{ version: 1, key: 'simulated'.padEnd(43, '0') }] };
/** Part of what agents sign. */
export const instance = 'simulated';
const request = new Request('https://edge.test/');

/** The bindings of one isolate. */
export function bindingsOf(edge: Bound, life: Life): Env {
  const objects = (get: (name: string) => unknown) => ({ getByName: get });
  const bindings = {
    DB: edge.accounts.door((work) => life.guard(work)),
    ADMISSION: objects((name) => edge.admission(name, life)),
    LEDGER: objects((name) => edge.ledger(Number(name), life)),
    CONTROL_HUB: objects((name) => edge.controlHub(name, life)),
    DATA_HUB: objects((name) => edge.dataHub(name, life)),
    ACCESS: objects((name) => edge.access(name, life)),
    THROTTLE: objects(() => openThrottle),
  };
  return bindings as unknown as Env;
}

export function requestOf<A extends Actor>(actor: A, ports: RequestPorts): Ctx<A> {
  const { env, layout, clock, random, log, failpoints } = ports;
  return {
    env,
    config: {
      instance,
      layout,
      keys,
      bootstrap: undefined,
      failpoint: undefined,
      failpointUrl: undefined,
      releaseUrl: undefined,
      logDays: 30,
      logsS3: undefined,
      origin: undefined,
      serverPin: undefined,
      redis: undefined,
      timeScale: 1,
    },
    actor,
    requestId: newId('request', clock.nowMs(), random.bytes(10)),
    traceparent: '',
    clientAddress: '192.0.2.1',
    request,
    idempotency: undefined,
    clock,
    random,
    log,
    failpoints,
    takeTurn: () => Promise.resolve(),
    waitUntil: (work) => void work.catch(() => undefined),
    newId: (kind) => newId(kind, clock.nowMs(), random.bytes(10)),
  };
}

/** A request may end at any durable step, without a word. */
export function failpointsOf(dies: () => boolean): Failpoints<EdgeFailpoint> {
  const maybeDie = (): Promise<void> => (dies() ? never() : Promise.resolve());
  return { before: maybeDie, after: maybeDie, unknown: dies };
}

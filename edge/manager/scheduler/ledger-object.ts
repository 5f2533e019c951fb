/**
 * The Durable Object `Ledger`, one for each resource group (named by its number): gives the ledger's room its storage,
 * alarm and doors. It decides nothing.
 */
import { DurableObject } from 'cloudflare:workers';
import { drizzle } from 'drizzle-orm/durable-sqlite';
import { migrate } from 'drizzle-orm/durable-sqlite/migrator';
import migrations from '../../../schema/ledger/migrations/migrations.js';
import { objectSchemas } from '../../../schema/home-version.ts';
import { EventPublisher } from '../../event-bus/publish.ts';
import { systemClock, systemTimers } from '../../platform/clock.ts';
import { readConfig } from '../../platform/config.ts';
import { failpointsOf } from '../../platform/failpoint.ts';
import { consoleLog } from '../../platform/log.ts';
import { claimObjectSchema } from '../../platform/object-schema.ts';
import { admissionObject, controlHubObject, dataHubObject } from '../../platform/objects.ts';
import { systemRandom } from '../../platform/random.ts';
import { redisOf } from '../../platform/redis.ts';
import { dataHubName, makeDataTicket } from '../../tunnel/tickets.ts';
import { writeReadModel } from '../sessions/read-model.ts';
import { LedgerRoom } from './ledger-room.ts';
import type { LedgerRpc } from './rpc.ts';
import { sqlStore } from './sql-store.ts';
import { scaledTimers } from './timers.ts';

export class Ledger extends DurableObject<Env> implements LedgerRpc {
  readonly #room: LedgerRoom;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const { layout, keys, timeScale } = readConfig(env);
    const db = drizzle(ctx.storage, { logger: false });
    const log = consoleLog({ ledger: ctx.id.name });
    const world = { clock: systemClock, random: systemRandom, log };
    this.#room = new LedgerRoom({
      ...world,
      groupNumber: Number(ctx.id.name),
      store: sqlStore(db, (work) => ctx.storage.transactionSync(work)),
      timers: scaledTimers(timeScale, layout),
      failpoints: failpointsOf(env),
      after: (delayMs, task) => systemTimers.after(delayMs, task),
      dataHub: (agentId) => dataHubName(layout, agentId),
      dataTicket: (agentId, epoch, hub) => makeDataTicket(keys, { agentId, epoch, hub }),
      controlHub: (name) => controlHubObject(env, name),
      dataHubOf: (agentId) => dataHubObject(env, dataHubName(layout, agentId)),
      admission: (domainNumber) => admissionObject(env, String(domainNumber)),
      list: (rows, gone) => writeReadModel(env.DB, rows, gone),
      publisher: new EventPublisher({ ...world, redis: redisOf(env) }),
      setAlarm: (atMs) => void ctx.storage.setAlarm(atMs),
      keepAlive: (work) => ctx.waitUntil(work),
    });
    void ctx.blockConcurrencyWhile(async () => {
      claimObjectSchema(ctx.storage.sql, objectSchemas.Ledger);
      await migrate(db, migrations);
      this.#room.woke(await ctx.storage.getAlarm());
    });
  }

  override alarm(): Promise<void> {
    return this.#room.alarm();
  }

  admit(...given: Parameters<LedgerRpc['admit']>) {
    return this.#room.admit(...given);
  }
  get(...given: Parameters<LedgerRpc['get']>) {
    return this.#room.get(...given);
  }
  left(...given: Parameters<LedgerRpc['left']>) {
    return this.#room.left(...given);
  }
  show(...given: Parameters<LedgerRpc['show']>) {
    return this.#room.show(...given);
  }
  history(...given: Parameters<LedgerRpc['history']>) {
    return this.#room.history(...given);
  }
  route(...given: Parameters<LedgerRpc['route']>) {
    return this.#room.route(...given);
  }
  terminate(...given: Parameters<LedgerRpc['terminate']>) {
    return this.#room.terminate(...given);
  }
  shape() {
    return this.#room.shape();
  }
  stats() {
    return this.#room.stats();
  }
  setClosing(...given: Parameters<LedgerRpc['setClosing']>) {
    return this.#room.setClosing(...given);
  }
  restored(...given: Parameters<LedgerRpc['restored']>) {
    return this.#room.restored(...given);
  }
  isBound() {
    return this.#room.isBound();
  }
  known(...given: Parameters<LedgerRpc['known']>) {
    return this.#room.known(...given);
  }
  relist(...given: Parameters<LedgerRpc['relist']>) {
    return this.#room.relist(...given);
  }
  believe(...given: Parameters<LedgerRpc['believe']>) {
    return this.#room.believe(...given);
  }
  orphans() {
    return this.#room.orphans();
  }
  endOrphan(...given: Parameters<LedgerRpc['endOrphan']>) {
    return this.#room.endOrphan(...given);
  }
  putAgent(...given: Parameters<LedgerRpc['putAgent']>) {
    return this.#room.putAgent(...given);
  }
  agents() {
    return this.#room.agents();
  }
  attach(...given: Parameters<LedgerRpc['attach']>) {
    return this.#room.attach(...given);
  }
  carries(...given: Parameters<LedgerRpc['carries']>) {
    return this.#room.carries(...given);
  }
  events(...given: Parameters<LedgerRpc['events']>) {
    return this.#room.events(...given);
  }
  intentsAcked(...given: Parameters<LedgerRpc['intentsAcked']>) {
    return this.#room.intentsAcked(...given);
  }
  progress(...given: Parameters<LedgerRoom['progress']>) {
    return this.#room.progress(...given);
  }
  agentImages(...given: Parameters<LedgerRpc['agentImages']>) {
    return this.#room.agentImages(...given);
  }
  images() {
    return this.#room.images();
  }
  detached(...given: Parameters<LedgerRpc['detached']>) {
    return this.#room.detached(...given);
  }
}

/**
 * The Durable Object `Admission`, one for each domain (named by its number) and `system`: gives admission's room its
 * storage, alarm and doors. It decides nothing.
 */
import { DurableObject } from 'cloudflare:workers';
import { drizzle } from 'drizzle-orm/durable-sqlite';
import { migrate } from 'drizzle-orm/durable-sqlite/migrator';
import migrations from '../../../schema/admission/migrations/migrations.js';
import { objectSchemas } from '../../../schema/home-version.ts';
import { EventPublisher } from '../../event-bus/publish.ts';
import { systemClock, systemTimers } from '../../platform/clock.ts';
import { failpointsOf } from '../../platform/failpoint.ts';
import { consoleLog } from '../../platform/log.ts';
import { claimObjectSchema } from '../../platform/object-schema.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { systemRandom } from '../../platform/random.ts';
import { redisOf } from '../../platform/redis.ts';
import { AuditChain } from '../audit/chain.ts';
import { writeReadModel } from '../sessions/read-model.ts';
import { AdmissionRoom } from './admission-room.ts';
import type { AdmissionRpc } from './rpc.ts';
import { sqlStore } from './sql-store.ts';

export class Admission extends DurableObject<Env> implements AdmissionRpc {
  readonly #room: AdmissionRoom;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const db = drizzle(ctx.storage, { logger: false });
    const log = consoleLog({ admission: ctx.id.name });
    const world = { clock: systemClock, random: systemRandom, log };
    this.#room = new AdmissionRoom({
      ...world,
      store: sqlStore(db, (work) => ctx.storage.transactionSync(work)),
      audit: new AuditChain(ctx.storage, env, ctx.id.name ?? 'system'),
      failpoints: failpointsOf(env),
      after: (delayMs, task) => systemTimers.after(delayMs, task),
      ledger: (groupNumber) => ledgerObject(env, groupNumber),
      list: (rows, gone) => writeReadModel(env.DB, rows, gone),
      publisher: new EventPublisher({ ...world, redis: redisOf(env) }),
      durable: () => ctx.storage.sync(),
      setAlarm: (atMs) => void ctx.storage.setAlarm(atMs),
      keepAlive: (work) => ctx.waitUntil(work),
    });
    void ctx.blockConcurrencyWhile(async () => {
      claimObjectSchema(ctx.storage.sql, objectSchemas.Admission);
      await migrate(db, migrations);
      this.#room.woke((await ctx.storage.getAlarm()) !== null);
    });
  }

  override alarm(): Promise<void> {
    return this.#room.alarm();
  }

  create(...given: Parameters<AdmissionRpc['create']>) {
    return this.#room.create(...given);
  }
  get(...given: Parameters<AdmissionRpc['get']>) {
    return this.#room.get(...given);
  }
  terminate(...given: Parameters<AdmissionRpc['terminate']>) {
    return this.#room.terminate(...given);
  }
  begin(...given: Parameters<AdmissionRpc['begin']>) {
    return this.#room.begin(...given);
  }
  finish(...given: Parameters<AdmissionRpc['finish']>) {
    return this.#room.finish(...given);
  }
  abandon(...given: Parameters<AdmissionRpc['abandon']>) {
    return this.#room.abandon(...given);
  }
  rest(...given: Parameters<AdmissionRpc['rest']>) {
    return this.#room.rest(...given);
  }
  release(...given: Parameters<AdmissionRpc['release']>) {
    return this.#room.release(...given);
  }
  setLimits(...given: Parameters<AdmissionRpc['setLimits']>) {
    return this.#room.setLimits(...given);
  }
  limits(...given: Parameters<AdmissionRpc['limits']>) {
    return this.#room.limits(...given);
  }
  claims(...given: Parameters<AdmissionRpc['claims']>) {
    return this.#room.claims(...given);
  }
  reconcile(...given: Parameters<AdmissionRpc['reconcile']>) {
    return this.#room.reconcile(...given);
  }
  recount(...given: Parameters<AdmissionRpc['recount']>) {
    return this.#room.recount(...given);
  }
  catchUpAudit() {
    return this.#room.catchUpAudit();
  }
  expectAudit() {
    return this.#room.expectAudit();
  }
  audit(...given: Parameters<AdmissionRpc['audit']>) {
    return this.#room.audit(...given);
  }
  refused(...given: Parameters<AdmissionRpc['refused']>) {
    return this.#room.refused(...given);
  }
  sealAudit() {
    return this.#room.sealAudit();
  }
}

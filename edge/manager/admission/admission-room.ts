/**
 * What surrounds admission's core in its object, whatever the object runs on: requests are gathered into commits, ledgers
 * and D1 are told, the alarm makes sure of it, durable steps stand between their failpoints. Takes ports, so that a
 * simulator runs this very code.
 */
import type { AuditEntry } from '../../../schema/api/audit.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import type { EdgeFailpoint } from '../../../schema/failpoints.ts';
import type { Failpoints, Log, Timers } from '../../../schema/ports.ts';
import { EventSink } from '../../event-bus/outbox-sink.ts';
import type { EventPublisher } from '../../event-bus/publish.ts';
import { durably } from '../../platform/failpoint.ts';
import { describeError } from '../../platform/log.ts';
import type { Head } from '../audit/sealer.ts';
import type { Refusals } from '../audit/refusal-windows.ts';
import type { LedgerRpc } from '../scheduler/rpc.ts';
import { Admission, type AdmissionPorts, type StopOrder } from './admission.ts';
import { Committer } from './committer.ts';
import type { AdmissionDomain, AdmissionRpc, CreateAnswer, SessionRequest } from './rpc.ts';
import { Teller } from './teller.ts';

/** The audit chain of this object, as far as admission needs it. */
export interface AuditPort {
  /** Part of the transaction of what it tells of. */
  add(entry: AuditEntry): void;
  /** D1 is about to get an entry. */
  expect(): void;
  refused(refusals: readonly Refusals[]): void;
  /** Something to seal, or to wait for. */
  isDue(): boolean;
  seal(): Promise<Head>;
  /** Goes on behind what D1 has, where this object was put back to before it. */
  catchUp(): Promise<void>;
}

export interface AdmissionRoomPorts extends AdmissionPorts {
  audit: AuditPort;
  log: Log;
  failpoints: Failpoints<EdgeFailpoint>;
  after: Timers['after'];
  ledger(groupNumber: number): Pick<LedgerRpc, 'admit' | 'terminate'>;
  /** Brings the read model up to these rows; rejects when it is unknown whether it did. */
  list(rows: readonly SessionRow[], gone: readonly string[]): Promise<void>;
  publisher: EventPublisher;
  /** Resolves when everything committed so far is durable. */
  durable(): Promise<void>;
  /** Part of the commit around it: the object is woken then at the latest. */
  setAlarm(atMs: number): void;
  /** Keeps the object awake for work that nobody waits for. */
  keepAlive(work: Promise<void>): void;
}

/** A created session is answered when its ledger and D1 have it, and no later than this. */
const answerWithinMs = 250;
/** The alarm that goes on telling after a crash. */
const alarmAfterMs = 5_000;
/** The same when only events wait: Redis may be away for long, and nobody decides by them. */
const eventsAlarmMs = 60_000;
/** Entries of the audit trail get their place within a minute. */
const auditAlarmMs = 30_000;

export class AdmissionRoom implements AdmissionRpc {
  readonly #ports: AdmissionRoomPorts;
  readonly #core: Admission;
  readonly #committer: Committer<{ domain: AdmissionDomain; request: SessionRequest }, CreateAnswer>;
  readonly #teller: Teller;
  readonly #events: EventSink;
  #alarmArmed = false;

  constructor(ports: AdmissionRoomPorts) {
    const { failpoints } = ports;
    this.#ports = ports;
    this.#core = new Admission(ports);
    this.#committer = new Committer({
      commit: (requests) => this.#commit(requests),
      durable: () => ports.durable(),
      sizeBytes: ({ request }) => JSON.stringify(request.spec).length,
    });
    this.#teller = new Teller({
      admission: this.#core,
      admit: (groupNumber, sessions) =>
        durably(failpoints, 'admission.handover', () => ports.ledger(groupNumber).admit(groupNumber, sessions)),
      terminate: (groupNumber, sessionId, order) => ports.ledger(groupNumber).terminate(sessionId, order),
      list: (rows, gone) => durably(failpoints, 'admission.readModel', () => ports.list(rows, gone)),
      after: ports.after,
      log: ports.log,
    });
    this.#events = new EventSink({
      publisher: ports.publisher,
      undelivered: (limit) => this.#core.undelivered(limit),
      lastSeq: () => this.#core.lastOutboxSeq(),
      delivered: (uptoSeq) => this.#core.delivered(uptoSeq),
      after: ports.after,
      log: ports.log,
    });
  }

  /** Whether an earlier life left an alarm. */
  woke(alarmArmed: boolean): void {
    this.#alarmArmed = alarmArmed;
  }

  /** Whether anybody has still to be told of something. */
  #isBehind(): boolean {
    return this.#core.todo(1).length > 0 || this.#core.undelivered(1).length > 0;
  }

  #commit(requests: readonly { domain: AdmissionDomain; request: SessionRequest }[]): CreateAnswer[] {
    const [first] = requests;
    if (!first) return [];
    const answers = this.#core.create(
      first.domain,
      requests.map(({ request }) => request),
      (request, sessionId) => this.#note(request, sessionId),
    );
    if (answers.some(({ kind }) => kind === 'created')) this.#arm();
    return answers;
  }

  /** Part of the transaction that makes the session. */
  #note({ audit, spec }: SessionRequest, sessionId: string): void {
    this.#ports.audit.add({ ...audit, objectId: sessionId, details: { project: spec.projectId, image: spec.image } });
  }

  /** Part of the same commit as what is to be told. */
  #arm(afterMs = alarmAfterMs): void {
    if (this.#alarmArmed) return;
    this.#alarmArmed = true;
    this.#ports.setAlarm(this.#ports.clock.nowMs() + afterMs);
  }

  /** Tells in the background; the alarm is armed already. `anew`: those too who wait for a pause to end. */
  #tell(anew = false): Promise<void> {
    const telling = (anew ? this.#teller.retry() : this.#teller.kick()).catch((error: unknown) =>
      this.#ports.log.error('telling failed', { error: describeError(error).cause }),
    );
    this.#ports.keepAlive(telling);
    this.#ports.keepAlive(this.#events.kick());
    return telling;
  }

  async create(domain: AdmissionDomain, request: SessionRequest): Promise<CreateAnswer> {
    const answer = await durably(this.#ports.failpoints, 'admission.accept', () =>
      this.#committer.submit({ domain, request }),
    );
    if (answer.kind === 'created') await this.#told();
    return answer;
  }

  /** Read-your-writes in the normal case, without waiting for a slow store. */
  #told(anew = false): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#ports.after(answerWithinMs, resolve);
      void this.#tell(anew).finally(() => {
        cancel();
        resolve();
      });
    });
  }

  async get(sessionId: string) {
    return this.#core.get(sessionId);
  }

  async terminate(sessionId: string, order: StopOrder): Promise<'accepted' | 'ended' | 'unknown'> {
    const answer = this.#core.terminate(sessionId, order);
    if (answer !== 'accepted') return answer;
    this.#arm();
    await this.#told(true);
    return answer;
  }

  async begin(...[key]: Parameters<AdmissionRpc['begin']>) {
    return this.#core.keys.begin(key);
  }
  finish(...[key, outcome]: Parameters<AdmissionRpc['finish']>): Promise<void> {
    return durably(this.#ports.failpoints, 'admission.finish', async () => this.#core.keys.finish(key, outcome));
  }
  async abandon(...[key]: Parameters<AdmissionRpc['abandon']>): Promise<void> {
    this.#core.keys.abandon(key);
  }
  async rest(...[key]: Parameters<AdmissionRpc['rest']>): Promise<void> {
    this.#core.keys.rest(key);
  }

  async release(...[domain, releases]: Parameters<AdmissionRpc['release']>): Promise<void> {
    await durably(this.#ports.failpoints, 'admission.release', async () => this.#core.release(domain, releases));
    this.#tellIfAny();
  }

  async setLimits(...[domain, projectId, limits]: Parameters<AdmissionRpc['setLimits']>): Promise<void> {
    this.#core.setLimits(domain, projectId, limits);
    this.#tellIfAny();
  }
  async limits(projectId: string) {
    return this.#core.limits(projectId);
  }

  async claims(after: string, limit: number) {
    return this.#core.claims(after, Math.min(limit, 1000));
  }
  async reconcile(...[domain, live, gone]: Parameters<AdmissionRpc['reconcile']>): Promise<void> {
    this.#core.reconcile(domain, live, gone);
    this.#tellIfAny();
  }
  async recount(dryRun: boolean) {
    const wrong = this.#core.recount(dryRun);
    this.#tellIfAny();
    return wrong;
  }
  catchUpAudit(): Promise<void> {
    return this.#ports.audit.catchUp();
  }

  async expectAudit(): Promise<void> {
    this.#ports.audit.expect();
    this.#arm(auditAlarmMs);
  }
  async audit(entries: AuditEntry[]): Promise<void> {
    for (const entry of entries) this.#ports.audit.add(entry);
    this.#arm(auditAlarmMs);
  }
  async refused(refusals: Refusals[]): Promise<void> {
    this.#ports.audit.refused(refusals);
    this.#arm(auditAlarmMs);
  }
  sealAudit() {
    return this.#ports.audit.seal();
  }

  #tellIfAny(): void {
    if (!this.#isBehind()) return;
    this.#arm();
    void this.#tell();
  }

  /** Never throws: an alarm that does would be repeated by the runtime, and given up. */
  async alarm(): Promise<void> {
    this.#alarmArmed = false;
    try {
      if (this.#isBehind()) this.#arm(this.#core.todo(1).length > 0 ? alarmAfterMs : eventsAlarmMs);
      const seals = this.#ports.audit.isDue();
      if (seals) this.#arm(auditAlarmMs);
      await Promise.all([this.#teller.retry(), this.#events.kick(), ...(seals ? [this.#ports.audit.seal()] : [])]);
    } catch (error) {
      this.#ports.log.error('the alarm failed', { error: describeError(error).cause });
      this.#arm();
    }
  }
}

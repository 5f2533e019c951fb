/**
 * Admission: the owner of names and quota of a domain's sessions, and of sessions that no ledger has yet. A batch of
 * requests is one transaction; what must be told to ledgers and D1 is in the same commit. Takes ports, so that a simulator
 * runs this very code. Must never: place a session, or know what an agent is.
 */
import { newId, newSessionId } from '../../../schema/ids.ts';
import type { CausewayEvent } from '../../../schema/api/event.ts';
import type { StateReason } from '../../../schema/api/session.ts';
import type { ClaimRow } from '../../../schema/admission/claims.ts';
import type { Clock, Random } from '../../../schema/ports.ts';
import type { AdmitAnswer } from '../scheduler/rpc.ts';
import { type AdmissionStore, noneHeld } from './admission-store.ts';
import { Keys } from './keys.ts';
import { claimOf, recount } from './recount.ts';
import type {
  AdmissionDomain,
  AdmissionSession,
  CreateAnswer,
  KnownClaim,
  LiveSession,
  ProjectLimits,
  Recount,
  SessionRelease,
  SessionRequest,
} from './rpc.ts';

export interface AdmissionPorts {
  store: AdmissionStore;
  clock: Clock;
  random: Random;
}
export interface StopOrder {
  graceMs: number;
  force: boolean;
  reason: string;
  /** No list shall show it when it is over. */
  purge?: boolean;
}

/** Limits of projects that have none of their own, until an administrator sets others. */
export const defaultLimits: ProjectLimits = { concurrentSessions: 1000, liveSessions: 10_000 };

/** A request that was refused, thrown within a batch and answered to its own caller alone. */
interface Refused {
  kind: 'refused';
  code: Extract<CreateAnswer, { kind: 'refused' }>['code'];
  detail: string;
}

export class Admission {
  readonly #ports: AdmissionPorts;
  readonly #events: CausewayEvent[] = [];
  readonly keys: Keys;

  constructor(ports: AdmissionPorts) {
    this.#ports = ports;
    this.keys = new Keys(ports.store, ports.clock, ports.random);
  }

  get #store(): AdmissionStore {
    return this.#ports.store;
  }

  /** One transaction for the domain that the object is bound to. */
  #commit<Result>(domain: AdmissionDomain | undefined, work: (domain: AdmissionDomain) => Result): Result {
    this.#events.length = 0;
    return this.#store.transaction(() => {
      const bound = this.#bind(domain);
      const result = work(bound);
      if (this.#events.length > 0) this.#store.appendOutbox(this.#ports.clock.nowMs(), this.#events);
      return result;
    });
  }

  #bind(domain: AdmissionDomain | undefined): AdmissionDomain {
    const bound = this.#store.domain();
    if (bound && (!domain || (domain.id === bound.id && domain.number === bound.number))) return bound;
    if (bound || !domain) throw new Error('this admission object serves another domain');
    this.#store.putDomain(domain);
    return domain;
  }

  /**
   * Admits a batch. Each request has its own answer; a refused one leaves nothing but that under its key, since a copy of it
   * that comes late must not be admitted after all. `made` is called for each session within the transaction: when it
   * throws, nothing of the batch happened.
   */
  create(
    domain: AdmissionDomain,
    requests: readonly SessionRequest[],
    made: (request: SessionRequest, sessionId: string) => void = () => undefined,
  ): CreateAnswer[] {
    return this.#commit(domain, (bound) =>
      requests.map((request) => {
        const answer = this.#createOne(bound, request);
        if (answer.kind === 'created') made(request, answer.session.sessionId);
        return answer;
      }),
    );
  }

  #createOne(domain: AdmissionDomain, request: SessionRequest): CreateAnswer {
    const { key } = request;
    const known = key && this.keys.find(key);
    if (key && known) {
      const { outcome } = known;
      if (known.bodyHash === key.bodyHash && outcome?.kind === 'session')
        return { kind: 'replay', sessionId: known.made };
      if (known.bodyHash === key.bodyHash && outcome?.kind === 'refused') return outcome;
      return { kind: 'refused', code: 'idempotency_key_reused', detail: 'Use a new key for another request.' };
    }
    const answer = this.#admit(domain, request);
    if (key && answer.kind === 'refused') this.keys.put(key, '', answer);
    if (key && answer.kind === 'created') this.keys.put(key, answer.session.sessionId, { kind: 'session' });
    return answer;
  }

  #admit(domain: AdmissionDomain, request: SessionRequest): CreateAnswer {
    const place = this.#judgeQuota(request.spec.projectId);
    if (typeof place !== 'string') return place;
    const claim = this.#toClaim(domain, request, place);
    if (this.#store.isNamed(claim.projectId, claim.name))
      return { kind: 'refused', code: 'session_name_taken', detail: `A live session is called ${claim.name}.` };
    this.#store.insertClaim(claim);
    this.#count(claim.projectId, 1, place === 'quota' ? 1 : 0);
    // A session that goes on to its ledger is announced there, so that its events keep their order.
    if (place === 'quota') this.#tell(domain, claim, 'session.created');
    return { kind: 'created', session: toSession(domain, claim) };
  }

  #judgeQuota(projectId: string): 'quota' | 'leaving' | Refused {
    const { liveSessions, concurrentSessions } = this.#limitsOf(projectId);
    const { live, waiting } = this.#store.usage(projectId);
    if (liveSessions !== undefined && live >= liveSessions)
      return {
        kind: 'refused',
        code: 'session_quota_exceeded',
        detail: `The project has ${live} live sessions of at most ${liveSessions}. End one first.`,
      };
    const isFull = concurrentSessions !== undefined && live - waiting >= concurrentSessions;
    return isFull ? 'quota' : 'leaving';
  }

  #limitsOf(projectId: string): ProjectLimits {
    return this.#store.limits(projectId) ?? this.#store.limits('') ?? defaultLimits;
  }

  #toClaim(domain: AdmissionDomain, request: SessionRequest, place: 'quota' | 'leaving'): ClaimRow {
    const { spec, groupNumber } = request;
    const nowMs = this.#ports.clock.nowMs();
    const sessionId = newSessionId(nowMs, this.#ports.random.bytes(10), groupNumber, domain.number);
    const name = spec.name === '' ? `${spec.type}-${sessionId.slice(22, 30)}` : spec.name;
    const reason: StateReason | null = place === 'quota' ? this.#quotaReason(spec.projectId) : null;
    return {
      sessionId,
      projectId: spec.projectId,
      ownerId: spec.ownerId,
      name,
      groupNumber,
      createdAtMs: nowMs,
      place,
      reason,
      version: 1,
      trail: [{ version: 1, state: 'PENDING', generation: 1, atMs: nowMs, ...(reason ? { reason } : {}) }],
      spec: { ...spec, name },
      stop: null,
      unlisted: 1,
      todo: 1,
    };
  }

  #quotaReason(projectId: string): StateReason {
    const { concurrentSessions } = this.#limitsOf(projectId);
    return { code: 'quota_sessions', detail: `The project runs ${concurrentSessions} sessions, as many as it may.` };
  }

  #count(projectId: string, live: number, waiting: number): void {
    const usage = this.#store.usage(projectId);
    this.#store.putUsage({ projectId, live: usage.live + live, waiting: usage.waiting + waiting });
  }

  #tell(domain: AdmissionDomain, claim: ClaimRow, type: 'session.created' | 'session.state'): void {
    const { atMs, state, generation, version, reason } = claim.trail.at(-1)!;
    this.#events.push({
      eventId: newId('event', atMs, this.#ports.random.bytes(10)),
      type,
      domainId: domain.id,
      projectId: claim.projectId,
      objectId: claim.sessionId,
      version,
      atMs,
      data: { state, generation, ...(reason ? { reason } : {}) },
    });
  }

  /** Notes a transition of a session that is here. */
  #transition(
    domain: AdmissionDomain,
    claim: ClaimRow,
    state: 'PENDING' | 'CANCELLED',
    reason: StateReason | null,
  ): void {
    const atMs = this.#ports.clock.nowMs();
    claim.version += 1;
    claim.reason = reason;
    claim.trail = [
      ...claim.trail,
      { version: claim.version, state, generation: 1, atMs, ...(reason ? { reason } : {}) },
    ];
    claim.unlisted = 1;
    claim.todo = 1;
    this.#tell(domain, claim, 'session.state');
  }

  /** Changes one claim; undefined when it is unknown. */
  #change<Result>(sessionId: string, work: (claim: ClaimRow) => Result): Result | undefined {
    const claim = this.#store.claim(sessionId);
    if (!claim) return undefined;
    const before = structuredClone(claim);
    const result = work(claim);
    this.#store.updateClaim(before, claim);
    return result;
  }

  get(sessionId: string): AdmissionSession | undefined {
    const claim = this.#store.claim(sessionId);
    const domain = this.#store.domain();
    return claim && domain && claim.place !== 'handed' ? toSession(domain, claim) : undefined;
  }

  /** Ends what waits here. A session that is on its way gets the order behind it. */
  terminate(sessionId: string, order: StopOrder): 'accepted' | 'ended' | 'unknown' {
    if (!this.#store.domain()) return 'unknown';
    return this.#commit(undefined, (domain) => {
      const answer = this.#change(sessionId, (claim) => {
        if (claim.place === 'handed') return 'unknown';
        const isOver = claim.place === 'over';
        if (claim.place === 'leaving' || order.purge === true) claim.stop = order;
        if (claim.place === 'quota') this.#cancel(domain, claim, { code: order.reason });
        // Its row may be on its way to D1 just now.
        else if (isOver && order.purge === true) Object.assign(claim, { version: claim.version + 1, unlisted: 1 });
        return isOver ? 'ended' : 'accepted';
      });
      return answer ?? 'unknown';
    });
  }

  #cancel(domain: AdmissionDomain, claim: ClaimRow, reason: StateReason): void {
    const waited = claim.place === 'quota' ? -1 : 0;
    claim.place = 'over';
    // The name is free at once; no live session can have this one.
    claim.name = `!${claim.sessionId}`;
    this.#transition(domain, claim, 'CANCELLED', reason);
    this.#count(claim.projectId, -1, waited);
    if (waited === 0) this.#promote(domain, claim.projectId);
  }

  /** What is to be told: sessions for ledgers, rows for D1, stops; without what is for those who are held alone. */
  todo(limit: number, held = noneHeld): ClaimRow[] {
    return this.#store.todo(limit, held).flatMap((sessionId) => this.#store.claim(sessionId) ?? []);
  }

  domain(): AdmissionDomain | undefined {
    return this.#store.domain();
  }

  /** What became of a round of telling. `listed`: D1 has the row at this version. `stopped`: the ledger has the order. */
  told(
    outcomes: readonly {
      sessionId: string;
      version: number;
      listed: boolean;
      admitted?: AdmitAnswer;
      stopped: boolean;
    }[],
  ): void {
    this.#commit(undefined, (domain) => {
      for (const outcome of outcomes) this.#settle(domain, outcome);
    });
  }

  #settle(domain: AdmissionDomain, outcome: Parameters<Admission['told']>[0][number]): void {
    const { sessionId, version, listed, admitted, stopped } = outcome;
    const isOver = this.#change(sessionId, (claim) => {
      if (listed && claim.version === version) claim.unlisted = 0;
      if (stopped || (claim.place === 'over' && claim.unlisted === 0)) claim.stop = null;
      if (admitted === 'accepted' && claim.place === 'leaving') claim.place = 'handed';
      if (admitted === 'closed' && claim.place === 'leaving')
        this.#cancel(domain, claim, { code: 'group_closed', detail: 'The resource group is closed.' });
      if (admitted === 'full' && claim.place === 'leaving') this.#onFull(domain, claim);
      const told = claim.unlisted === 0 && claim.stop === null && claim.place !== 'leaving';
      if (!told) return false;
      claim.todo = 0;
      if (claim.place === 'quota') return false;
      claim.spec = null;
      claim.trail = [];
      return claim.place === 'over';
    });
    if (isOver === true) this.#store.deleteClaim(sessionId);
  }

  #onFull(domain: AdmissionDomain, claim: ClaimRow): void {
    if (claim.stop) this.#cancel(domain, claim, { code: claim.stop.reason });
    else if (claim.reason?.code !== 'group_full')
      this.#transition(domain, claim, 'PENDING', {
        code: 'group_full',
        detail: 'The queue of the resource group is full; it is asked again.',
      });
  }

  /** Sessions ended at their ledger: names and quota are free, and those that wait for them go on. */
  release(domain: AdmissionDomain, releases: readonly SessionRelease[]): void {
    this.#commit(domain, (bound) => {
      for (const { sessionId } of releases) {
        const claim = this.#store.claim(sessionId);
        if (!claim || claim.place === 'quota' || claim.place === 'over') continue;
        this.#store.deleteClaim(sessionId);
        this.#count(claim.projectId, -1, 0);
        this.#promote(bound, claim.projectId);
      }
    });
  }

  /** Claims behind `after`, for whoever compares them with the ledgers. */
  claims(after: string, limit: number): KnownClaim[] {
    return this.#store.claimsAfter(after, limit);
  }

  /** `live` are with their ledgers; `gone` are over there. Counts are put right by {@link recount} alone. */
  reconcile(domain: AdmissionDomain, live: readonly LiveSession[], gone: readonly string[]): void {
    this.#commit(domain, () => {
      for (const session of live) {
        const isKnown = this.#change(session.sessionId, (claim) => {
          if (claim.place !== 'handed') Object.assign(claim, { place: 'handed', todo: 1 });
          return true;
        });
        if (!isKnown) this.#store.insertClaim(claimOf(this.#store, session));
      }
      for (const sessionId of gone)
        if (this.#store.claim(sessionId)?.place !== 'over') this.#store.deleteClaim(sessionId);
    });
  }

  /** Counts the sessions of every project anew, and lets those go on for which there is room after all. */
  recount(dryRun: boolean): Recount[] {
    if (!this.#store.domain()) return [];
    return this.#commit(undefined, (domain) => {
      const wrong = recount(this.#store, dryRun);
      if (!dryRun) for (const { projectId } of wrong) this.#promote(domain, projectId);
      return wrong;
    });
  }

  /** Lets waiting sessions of a project go on, in order of birth, as far as its limit allows. */
  #promote(domain: AdmissionDomain, projectId: string): void {
    const { concurrentSessions } = this.#limitsOf(projectId);
    const { live, waiting } = this.#store.usage(projectId);
    const room = concurrentSessions === undefined ? waiting : concurrentSessions - (live - waiting);
    if (waiting === 0 || room <= 0) return;
    for (const sessionId of this.#store.waiting(projectId, Math.min(room, 500))) {
      this.#change(sessionId, (claim) => {
        claim.place = 'leaving';
        this.#transition(domain, claim, 'PENDING', null);
      });
      this.#count(projectId, 0, -1);
    }
  }

  setLimits(domain: AdmissionDomain, projectId: string | undefined, limits: ProjectLimits): void {
    this.#commit(domain, (bound) => {
      this.#store.putLimits(projectId ?? '', limits);
      if (projectId !== undefined) this.#promote(bound, projectId);
    });
  }

  limits(projectId: string): { limits: ProjectLimits; live: number; waiting: number } {
    const { live, waiting } = this.#store.usage(projectId);
    return { limits: this.#limitsOf(projectId), live, waiting };
  }

  /** Events that the bus has not got, oldest first. */
  undelivered(limit: number): { seq: number; events: CausewayEvent[] }[] {
    return this.#store.outbox(limit);
  }
  /** `seq` of the newest row of the outbox. */
  lastOutboxSeq(): number {
    return this.#store.lastOutboxSeq();
  }
  delivered(uptoSeq: number): void {
    this.#store.transaction(() => this.#store.trimOutbox(uptoSeq));
  }
}

function toSession(domain: AdmissionDomain, claim: ClaimRow): AdmissionSession {
  const { sessionId, projectId, ownerId, groupNumber, reason, version, createdAtMs, spec, place, trail } = claim;
  if (!spec) throw new Error(`the spec of ${sessionId} is gone`);
  return {
    sessionId,
    domainId: domain.id,
    projectId,
    ownerId,
    groupNumber,
    state: place === 'over' ? 'CANCELLED' : 'PENDING',
    generation: 1,
    version,
    createdAtMs,
    history: trail,
    spec,
    ...(reason ? { reason } : {}),
    ...(place === 'over' ? { endedAtMs: trail.at(-1)?.atMs ?? createdAtMs } : {}),
  };
}

/**
 * Tells ledgers and D1 what admission has committed: sessions to take, rows to list, orders to end. One round at a time,
 * one batch to each ledger and one to D1; all of it idempotent. Who fails, or is full, is told again after a growing pause,
 * and holds up nobody else.
 */
import type { SessionRow } from '../../../schema/db/sessions.ts';
import type { ClaimRow } from '../../../schema/admission/claims.ts';
import type { Log, Timers } from '../../../schema/ports.ts';
import type { AdmitAnswer, AdmittedSession } from '../scheduler/rpc.ts';
import type { Admission, StopOrder } from './admission.ts';
import type { Held } from './admission-store.ts';
import type { AdmissionDomain } from './rpc.ts';
import { describeError } from '../../platform/log.ts';

export interface TellerPorts {
  admission: Pick<Admission, 'todo' | 'told' | 'domain'>;
  /** Rejects when the outcome is unknown. */
  admit(groupNumber: number, sessions: AdmittedSession[]): Promise<AdmitAnswer[]>;
  terminate(groupNumber: number, sessionId: string, order: StopOrder): Promise<unknown>;
  /** Writes rows of D1, and removes those of `gone`. */
  list(rows: readonly SessionRow[], gone: readonly string[]): Promise<void>;
  after: Timers['after'];
  log: Log;
}

const rowsPerRound = 200;
const bytesPerRound = 400 * 1024;
const firstPauseMs = 500;
const pauseCapMs = 30_000;

export class Teller {
  readonly #ports: TellerPorts;
  #round: Promise<void> | undefined;
  #again = false;
  /** Who waits for the pause to end. */
  #listHeld = false;
  readonly #groupsHeld = new Set<number>();
  /** The outcome of a round could not be written down. */
  #hasFailed = false;
  #pauses = 0;
  #cancelPause: (() => void) | undefined;

  constructor(ports: TellerPorts) {
    this.#ports = ports;
  }

  /** Tells what there is to tell; resolves when nothing is left or what is left waits for another try. */
  async kick(): Promise<void> {
    this.#again = true;
    this.#round ??= this.#run();
    await this.#round;
  }

  /** The same, without a pause for those who failed. */
  async retry(): Promise<void> {
    this.#cancelPause?.();
    this.#cancelPause = undefined;
    this.#listHeld = false;
    this.#groupsHeld.clear();
    this.#hasFailed = false;
    await this.kick();
  }

  async #run(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      // More was committed meanwhile, or did not fit in the round.
      if (await this.#tryRound()) this.#again = true;
    }
    this.#round = undefined;
    if (this.#hasFailed || this.#listHeld || this.#groupsHeld.size > 0) this.#pause();
    else this.#pauses = 0;
  }

  /** A round whose outcome could not be written down is told again: a store that fails once must not silence us. */
  async #tryRound(): Promise<boolean> {
    try {
      return await this.#tell();
    } catch (error) {
      this.#ports.log.error('telling failed', { what: 'its outcome', error: describeError(error).cause });
      this.#hasFailed = true;
      return false;
    }
  }

  #pause(): void {
    if (this.#cancelPause !== undefined) return;
    const pauseMs = Math.min(pauseCapMs, firstPauseMs * 2 ** this.#pauses);
    this.#pauses += 1;
    this.#cancelPause = this.#ports.after(pauseMs, () => void this.retry());
  }

  get #held(): Held {
    return { list: this.#listHeld, groups: [...this.#groupsHeld] };
  }

  /** One round, of which each tells somebody or holds him. True when there is more for those who are not held. */
  async #tell(): Promise<boolean> {
    const { admission } = this.#ports;
    const domain = admission.domain();
    const claims = domain ? fitting(admission.todo(rowsPerRound, this.#held)) : [];
    if (!domain || claims.length === 0) return false;
    const toLedgers = claims.filter(({ groupNumber }) => !this.#groupsHeld.has(groupNumber));
    const [answers, listed, stopped] = await Promise.all([
      this.#handOver(
        domain,
        toLedgers.filter(({ place }) => place === 'leaving'),
      ),
      this.#list(
        domain,
        claims.filter(({ unlisted }) => unlisted === 1 && !this.#listHeld),
      ),
      this.#stop(toLedgers.filter(({ place, stop }) => place === 'handed' && stop !== null)),
    ]);
    const outcomes = claims.map(({ sessionId, version }) => {
      const admitted = answers.get(sessionId);
      return {
        sessionId,
        version,
        listed: listed.has(sessionId),
        stopped: stopped.has(sessionId),
        ...(admitted === undefined ? {} : { admitted }),
      };
    });
    admission.told(outcomes);
    return admission.todo(1, this.#held).length > 0;
  }

  async #handOver(domain: AdmissionDomain, claims: readonly ClaimRow[]): Promise<Map<string, AdmitAnswer>> {
    const answers = new Map<string, AdmitAnswer>();
    const groups = Map.groupBy(claims, ({ groupNumber }) => groupNumber);
    await Promise.all(
      Array.from(groups, ([groupNumber, part]) =>
        this.#try(
          'hand-over',
          async () => {
            const answered = await this.#ports.admit(
              groupNumber,
              part.map((claim) => toAdmitted(domain, claim)),
            );
            for (const [at, claim] of part.entries()) answers.set(claim.sessionId, answered[at] ?? 'full');
            if (part.some(({ sessionId }) => answers.get(sessionId) === 'full')) this.#groupsHeld.add(groupNumber);
          },
          () => this.#groupsHeld.add(groupNumber),
        ),
      ),
    );
    return answers;
  }

  async #list(domain: AdmissionDomain, claims: readonly ClaimRow[]): Promise<Set<string>> {
    const listed = new Set<string>();
    if (claims.length > 0)
      await this.#try(
        'read model',
        async () => {
          const isGone = ({ place, stop }: ClaimRow): boolean => place === 'over' && stop?.purge === true;
          const rows = claims.flatMap((claim) => (isGone(claim) ? [] : [toListed(domain, claim)]));
          const gone = claims.flatMap((claim) => (isGone(claim) ? [claim.sessionId] : []));
          await this.#ports.list(rows, gone);
          for (const { sessionId } of claims) listed.add(sessionId);
        },
        () => (this.#listHeld = true),
      );
    return listed;
  }

  async #stop(claims: readonly ClaimRow[]): Promise<Set<string>> {
    const stopped = new Set<string>();
    await Promise.all(
      claims.map(({ groupNumber, sessionId, stop }) =>
        this.#try(
          'stop',
          async () => {
            if (stop) await this.#ports.terminate(groupNumber, sessionId, stop);
            stopped.add(sessionId);
          },
          () => this.#groupsHeld.add(groupNumber),
        ),
      ),
    );
    return stopped;
  }

  async #try(what: string, work: () => Promise<void>, hold: () => unknown): Promise<void> {
    try {
      await work();
    } catch (error) {
      hold();
      this.#ports.log.warn('telling failed', { what, error: describeError(error).cause });
    }
  }
}

/** The first of these that fit in one round. */
function fitting(claims: readonly ClaimRow[]): ClaimRow[] {
  let bytes = 0;
  const end = claims.findIndex(({ spec }) => {
    bytes += JSON.stringify(spec).length;
    return bytes > bytesPerRound;
  });
  return claims.slice(0, end === -1 ? claims.length : Math.max(1, end));
}

function specOf({ sessionId, spec }: ClaimRow) {
  if (!spec) throw new Error(`the spec of ${sessionId} is gone`);
  return spec;
}

function toAdmitted(domain: AdmissionDomain, claim: ClaimRow): AdmittedSession {
  const { sessionId, projectId, ownerId, createdAtMs, trail } = claim;
  return {
    sessionId,
    domainId: domain.id,
    domainNumber: domain.number,
    projectId,
    ownerId,
    createdAtMs,
    trail,
    spec: specOf(claim),
  };
}

function toListed(domain: AdmissionDomain, claim: ClaimRow): SessionRow {
  const { sessionId, projectId, ownerId, groupNumber, createdAtMs, version, reason, trail, place } = claim;
  const spec = specOf(claim);
  const isOver = place === 'over';
  return {
    id: sessionId,
    domainId: domain.id,
    projectId,
    ownerId,
    name: spec.name,
    type: spec.type,
    groupNumber,
    createdAtMs,
    state: isOver ? 'CANCELLED' : 'PENDING',
    version,
    generation: 1,
    reason,
    agentId: null,
    agentName: null,
    imageDigest: spec.imageDigest ?? null,
    startedAtMs: null,
    endedAtMs: isOver ? (trail.at(-1)?.atMs ?? createdAtMs) : null,
    result: null,
    spec,
    history: isOver ? trail : null,
  };
}

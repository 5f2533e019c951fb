/** Admission's core and its teller, moved by hand. */
import { Admission } from '../../../edge/manager/admission/admission.ts';
import { memoryStore } from '../../../edge/manager/admission/memory-store.ts';
import type { SessionRequest } from '../../../edge/manager/admission/rpc.ts';
import { Teller } from '../../../edge/manager/admission/teller.ts';
import type { AdmitAnswer, AdmittedSession } from '../../../edge/manager/scheduler/rpc.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import { anySpec } from '../scheduler/rows.ts';

export const domain = { id: 'dom_1', number: 1 };
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** Goes into the audit chain of the object around the core, which has nothing to do with it. */
const audit: SessionRequest['audit'] = {
  id: 'aud_1',
  atMs: 0,
  action: 'session.create',
  outcome: 'done',
  actor: { kind: 'user', id: 'usr_1' },
  address: 'unknown',
  requestId: 'req_1',
};

/** Admission over a model store, with ledgers and a D1 that a test can break. */
export class Desk {
  readonly store = memoryStore();
  nowMs = Date.UTC(2026, 10, 24);
  admission = this.#open();
  readonly admitted = new Map<string, AdmittedSession>();
  readonly listed = new Map<string, SessionRow>();
  readonly stopped: string[] = [];
  ledger: AdmitAnswer | 'down' = 'accepted';
  /** Those of groups that have another answer. */
  readonly ledgers = new Map<number, AdmitAnswer | 'down'>();
  /** Whose ledger was asked to take sessions, each time. */
  readonly asked: number[] = [];
  d1: 'up' | 'down' = 'up';
  pauses: (() => void)[] = [];
  whileListing = (): void => undefined;
  #seed = 7;
  teller = this.#tell();

  #open(): Admission {
    return new Admission({
      store: this.store,
      clock: { nowMs: () => this.nowMs, bootMs: () => this.nowMs },
      random: {
        bytes: (count) =>
          Uint8Array.from({ length: count }, () => (this.#seed = (this.#seed * 69069 + 1) >>> 0) >>> 24),
        fraction: () => 0.5,
      },
    });
  }
  #tell(): Teller {
    return new Teller({
      admission: this.admission,
      admit: (group, sessions) => {
        const ledger = this.ledgers.get(group) ?? this.ledger;
        this.asked.push(group);
        if (ledger === 'down') return Promise.reject(new Error('down'));
        if (ledger === 'accepted') for (const each of sessions) this.admitted.set(each.sessionId, each);
        return Promise.resolve(sessions.map(() => ledger));
      },
      terminate: (_, sessionId) => Promise.resolve(this.stopped.push(sessionId)),
      list: (rows, gone) => {
        if (this.d1 === 'down') return Promise.reject(new Error('down'));
        for (const id of gone) this.listed.delete(id);
        this.whileListing();
        for (const row of rows) if (row.version > (this.listed.get(row.id)?.version ?? 0)) this.listed.set(row.id, row);
        return Promise.resolve();
      },
      after: (_, task) => {
        this.pauses.push(task);
        return () => {};
      },
      log: silent,
    });
  }
  /** The object is evicted: only its storage is left. */
  crash(): void {
    this.admission = this.#open();
    this.pauses = [];
    this.teller = this.#tell();
  }

  request(spec: Partial<KernelSpec> = {}, key?: string, bodyHash = 'h'): SessionRequest {
    this.nowMs += 1;
    return {
      groupNumber: 3,
      spec: { ...anySpec, name: '', ...spec },
      audit,
      ...(key === undefined ? {} : { key: { actorId: 'usr_1', key, bodyHash } }),
    };
  }
  /** Admits one and answers its id. */
  create(spec: Partial<KernelSpec> = {}, groupNumber = 3): string {
    const [answer] = this.admission.create(domain, [{ ...this.request(spec), groupNumber }]);
    if (answer?.kind !== 'created') throw new Error(JSON.stringify(answer));
    return answer.session.sessionId;
  }
  release(...sessionIds: string[]): void {
    this.admission.release(
      domain,
      sessionIds.map((sessionId) => ({ sessionId, generation: 1, version: 9 })),
    );
  }
  usage(projectId = anySpec.projectId) {
    const { live, waiting } = this.admission.limits(projectId);
    return { live, waiting };
  }
}

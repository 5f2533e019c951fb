/** Admission's storage as a model in memory, for simulation and as the reference of the contract suite. */
import type { CausewayEvent } from '../../../schema/api/event.ts';
import type { ClaimRow, KeyRow, UsageRow } from '../../../schema/admission/claims.ts';
import { byText, copyOf, UndoMaps } from '../../platform/undo-map.ts';
import { changed } from '../scheduler/ledger-store.ts';
import type { AdmissionStore } from './admission-store.ts';
import type { AdmissionDomain, ProjectLimits } from './rpc.ts';

export interface MemoryStore extends AdmissionStore {
  /** The `writes`-th write from now throws instead of writing. */
  crashAfter(writes: number): void;
}

/** An empty store. */
export function memoryStore(): MemoryStore {
  const undo = new UndoMaps();
  return {
    transaction: (work) => undo.transaction(work),
    crashAfter: (writes) => undo.crashAfter(writes),
    ...claimPart(undo),
    ...keyPart(undo),
    ...restPart(undo),
  };
}

type Part<Name extends keyof AdmissionStore> = Pick<AdmissionStore, Name>;

function claimPart(
  undo: UndoMaps,
): Part<'claim' | 'isNamed' | 'insertClaim' | 'updateClaim' | 'deleteClaim' | 'claimsAfter' | 'todo' | 'waiting'> {
  const claims = new Map<string, ClaimRow>();
  const oldest = (isWanted: (row: ClaimRow) => boolean) =>
    [...claims.values()].filter(isWanted).sort((a, b) => byText(a.sessionId, b.sessionId));
  const idsOf = (rows: readonly ClaimRow[], limit: number) => rows.slice(0, limit).map(({ sessionId }) => sessionId);
  const isNamed = (projectId: string, name: string) =>
    [...claims.values()].some((row) => row.projectId === projectId && row.name === name);
  return {
    claim: (sessionId) => copyOf(claims.get(sessionId)),
    isNamed,
    insertClaim(row) {
      if (claims.has(row.sessionId) || isNamed(row.projectId, row.name)) throw new Error('the claim exists');
      undo.set(claims, row.sessionId, copyOf(row));
    },
    updateClaim(before, after) {
      const diff = changed(before, after);
      const row = claims.get(after.sessionId);
      if (diff && row) undo.set(claims, after.sessionId, copyOf({ ...row, ...diff }));
    },
    deleteClaim(sessionId) {
      if (claims.has(sessionId)) undo.set(claims, sessionId, undefined);
    },
    claimsAfter: (after, limit) =>
      [...claims.values()]
        .filter(({ sessionId }) => sessionId > after)
        .sort((a, b) => byText(a.sessionId, b.sessionId))
        .slice(0, limit)
        .map(({ sessionId, projectId, groupNumber, place }) => ({ sessionId, projectId, groupNumber, place })),
    todo: (limit, { list, groups }) => {
      const rows = oldest(({ todo, unlisted, place, stop, groupNumber }) => {
        const isToLedger = place === 'leaving' || (place === 'handed' && stop !== null);
        if (todo === 0) return false;
        return (
          (unlisted === 1 && !list) || (isToLedger && !groups.includes(groupNumber)) || (unlisted === 0 && !isToLedger)
        );
      });
      return idsOf([...rows.filter(({ stop }) => stop !== null), ...rows.filter(({ stop }) => stop === null)], limit);
    },
    waiting: (projectId, limit) =>
      idsOf(
        oldest((row) => row.place === 'quota' && row.projectId === projectId),
        limit,
      ),
  };
}

function keyPart(undo: UndoMaps): Part<'key' | 'putKey' | 'deleteKey' | 'purgeKeys'> {
  const keys = new Map<string, KeyRow>();
  const nameOf = (day: number, actorId: string, key: string) => `${day} ${actorId} ${key}`;
  return {
    key: (day, actorId, key) => copyOf(keys.get(nameOf(day, actorId, key))),
    putKey: (row) => undo.set(keys, nameOf(row.day, row.actorId, row.key), copyOf(row)),
    deleteKey: (day, actorId, key) => undo.set(keys, nameOf(day, actorId, key), undefined),
    purgeKeys(day) {
      for (const [name, row] of keys) if (row.day < day) undo.set(keys, name, undefined);
    },
  };
}

interface OutboxRow {
  seq: number;
  atMs: number;
  events: CausewayEvent[];
}

function restPart(
  undo: UndoMaps,
): Part<
  | 'domain'
  | 'putDomain'
  | 'usage'
  | 'usages'
  | 'putUsage'
  | 'limits'
  | 'putLimits'
  | 'appendOutbox'
  | 'outbox'
  | 'lastOutboxSeq'
  | 'trimOutbox'
> {
  const domains = new Map<string, AdmissionDomain>();
  const usages = new Map<string, UsageRow>();
  const limits = new Map<string, ProjectLimits>();
  const outbox = new Map<string, OutboxRow>();
  const rows = () => [...outbox.values()].sort((a, b) => a.seq - b.seq);
  return {
    domain: () => copyOf(domains.get('1')),
    putDomain: (domain) => undo.set(domains, '1', copyOf(domain)),
    usage: (projectId) => copyOf(usages.get(projectId)) ?? { projectId, live: 0, waiting: 0 },
    usages: () => [...usages.values()].sort((a, b) => byText(a.projectId, b.projectId)).map(copyOf),
    putUsage: (row) => undo.set(usages, row.projectId, copyOf(row)),
    limits: (projectId) => copyOf(limits.get(projectId)),
    putLimits: (projectId, value) => undo.set(limits, projectId, copyOf(value)),
    appendOutbox(atMs, events) {
      const seq = (rows().at(-1)?.seq ?? 0) + 1;
      undo.set(outbox, String(seq), { seq, atMs, events: copyOf([...events]) });
    },
    outbox: (limit) => rows().slice(0, limit).map(copyOf),
    lastOutboxSeq: () => rows().at(-1)?.seq ?? 0,
    trimOutbox(uptoSeq) {
      for (const { seq } of rows()) if (seq <= uptoSeq) undo.set(outbox, String(seq), undefined);
    },
  };
}

/** The verbs of the audit trail: reading a chain, and proving that nothing in it was changed. */
import type { z } from 'zod';
import {
  AuditEntry,
  type AuditPage,
  type AuditQuery,
  type AuditRecord,
  type AuditVerdict,
  type AuditVerifyQuery,
} from '../../../schema/api/audit.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { parseCursor, toCursor } from '../../http/page.ts';
import { database } from '../../platform/database.ts';
import { admissionObject } from '../../platform/objects.ts';
import { findDomainNamed } from '../accounts/catalogue.ts';
import { systemChain } from './record.ts';
import { type Head, hashOf } from './sealer.ts';
import { type AuditRow, findHead, listBefore, listFrom } from './store.ts';

/** Rows of one read of D1, and of one answer. */
const rowsPerRead = 1_000;
const rowsPerAnswer = 10_000;

/** The chain that the actor asks for. Others than its domain's are for superadmins; to the rest they do not exist. */
async function requireChain(ctx: UserCtx, named: string | undefined): Promise<string> {
  const { actor } = ctx;
  if (named === undefined) return String(actor.domainNumber);
  if (named === systemChain && actor.role === 'superadmin') return systemChain;
  const domain = await findDomainNamed(ctx, named);
  if (!domain || (actor.role !== 'superadmin' && domain.number !== actor.domainNumber))
    throw new Refusal('domain_not_found');
  return String(domain.number);
}

/** A page of a chain, newest first; what was done before the question is in it. */
export async function listAudit(ctx: UserCtx, query: z.infer<typeof AuditQuery>): Promise<z.infer<typeof AuditPage>> {
  const chain = await requireChain(ctx, query.domain);
  await admissionObject(ctx.env, chain).sealAudit();
  const before = query.cursor === undefined ? Number.MAX_SAFE_INTEGER : parseSeq(query.cursor);
  const rows = await listBefore(database(ctx.env), chain, before, query.limit + 1);
  const items = rows.slice(0, query.limit).map((row, at) => toRecord(row, rows[at + 1]?.hash ?? ''));
  const last = items.at(-1);
  return { items, ...(rows.length > query.limit && last ? { next: toCursor(String(last.seq)) } : {}) };
}

function parseSeq(cursor: string): number {
  const text = parseCursor(cursor);
  if (/^[0-9]{1,15}$/.test(text)) return Number(text);
  throw new Refusal('request_query_invalid', 'The cursor is not one of ours.');
}

function toRecord({ seq, entry, hash }: AuditRow, previousHash: string): AuditRecord {
  return { ...AuditEntry.parse(JSON.parse(entry)), seq, hash, previousHash };
}

/** Checks numbers and hashes of a chain from a record on, as far as one answer goes. */
export async function verifyAudit(ctx: UserCtx, query: z.infer<typeof AuditVerifyQuery>): Promise<AuditVerdict> {
  const chain = await requireChain(ctx, query.domain);
  const object = admissionObject(ctx.env, chain);
  const db = database(ctx.env);
  const sealed = await object.sealAudit();
  // An object that lost its storage goes on behind what D1 has.
  const head = sealed.seq > 0 ? sealed : await findHead(db, chain);
  const before = query.from === 1 ? undefined : (await listFrom(db, chain, query.from - 1, 1))[0];
  const walk = new Walk(query.from, before?.seq === query.from - 1 ? before.hash : '');
  // Up to this head: others may seal more meanwhile.
  while (walk.checked < rowsPerAnswer && walk.broken === undefined && walk.next <= head.seq) {
    const rows = await listFrom(db, chain, walk.next, Math.min(rowsPerRead, head.seq - walk.next + 1));
    for (const row of rows) if (walk.broken === undefined) walk.step(row);
    if (rows.length === 0) walk.broken = { seq: walk.next, why: 'missing' };
  }
  if (walk.broken === undefined && walk.next <= head.seq) return walk.verdict(chain, walk.next);
  walk.end(head);
  const [behind] = await listFrom(db, chain, head.seq + 1, 1);
  // The sealer knows of each record before D1 does.
  if (behind && walk.broken === undefined && behind.seq > (await object.sealAudit()).seq)
    walk.broken = { seq: behind.seq, why: 'unlinked' };
  return walk.verdict(chain, undefined);
}

/** A walk along a chain: each number follows the one before, each hash follows from it. */
class Walk {
  next: number;
  checked = 0;
  broken: AuditVerdict['broken'];
  #hash: string;

  constructor(from: number, hashBefore: string) {
    this.next = from;
    this.#hash = hashBefore;
  }

  step({ seq, entry, hash }: AuditRow): void {
    if (seq !== this.next) this.broken = { seq: this.next, why: 'missing' };
    else if (hashOf(this.#hash, entry) !== hash) this.broken = { seq, why: 'changed' };
    if (this.broken !== undefined) return;
    this.#hash = hash;
    this.next += 1;
    this.checked += 1;
  }

  /** The end must be the one that the sealer knows. */
  end(head: Head): void {
    if (this.broken === undefined && head.seq > 0 && this.#hash !== head.hash)
      this.broken = { seq: head.seq, why: 'unlinked' };
  }

  verdict(chain: string, next: number | undefined): AuditVerdict {
    return {
      ok: this.broken === undefined,
      chain,
      checked: this.checked,
      upto: this.next - 1,
      ...(next === undefined ? {} : { next }),
      ...(this.broken === undefined ? {} : { broken: this.broken }),
    };
  }
}

/** The audit trail on the wire: who did what, in one hash chain for each domain, and one for what has none. */
import { z } from 'zod';
import { pageOf } from './page.ts';

const count = z.int().nonnegative();

/** What is written down when something is done or refused, before it has a place in its chain. */
export const AuditEntry = z.object({
  id: z.string(),
  atMs: count,
  /** `user.create`, `session.delete`; for refusals the route. */
  action: z.string(),
  outcome: z.enum(['done', 'refused']),
  actor: z.object({
    kind: z.enum(['user', 'agent', 'bootstrap', 'anonymous']),
    /** User or agent. */
    id: z.string().optional(),
    tokenId: z.string().optional(),
  }),
  /** Of the client, as the platform saw it. */
  address: z.string(),
  requestId: z.string(),
  objectId: z.string().optional(),
  /** Code of a refusal. */
  code: z.string().optional(),
  /** Further refusals of the same kind within a minute after the first. */
  count: count.optional(),
  /** What changed, without secrets. */
  details: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])).optional(),
});
export type AuditEntry = z.infer<typeof AuditEntry>;

/** An entry in its chain. `hash` = SHA-256 of `previousHash`, a line feed and the entry's text as it is stored. */
export const AuditRecord = AuditEntry.extend({ seq: count, hash: z.string(), previousHash: z.string() }).meta({
  id: 'AuditRecord',
});
export type AuditRecord = z.infer<typeof AuditRecord>;
export const AuditPage = pageOf(AuditRecord).meta({ id: 'AuditPage' });

const chain = z.string().max(64).optional();
export const AuditQuery = z.strictObject({
  /** Id or name of a domain, or `system`; default: the domain of who asks. Only superadmins read others. */
  domain: chain,
  limit: z.coerce.number().int().min(1).max(200).default(50).meta({ type: 'integer' }),
  cursor: z.string().max(512).optional(),
});
export const AuditVerifyQuery = z.strictObject({
  domain: chain,
  /** First record to check. */
  from: z.coerce.number().int().min(1).default(1).meta({ type: 'integer' }),
});
export const AuditVerdict = z
  .object({
    ok: z.boolean(),
    chain: z.string(),
    /** Records looked at in this answer. */
    checked: count,
    /** Last record looked at. */
    upto: count,
    /** Where to go on; absent when the end was reached. */
    next: count.optional(),
    /** The first record that does not fit, and how. */
    broken: z.object({ seq: count, why: z.enum(['missing', 'changed', 'unlinked']) }).optional(),
  })
  .meta({ id: 'AuditVerdict' });
export type AuditVerdict = z.infer<typeof AuditVerdict>;

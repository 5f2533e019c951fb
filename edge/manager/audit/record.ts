/**
 * How a verb leaves its entry: `const write = audited(ctx, { chain, action, objectId })`, then `await write([statement])`.
 * The entry is in the batch of the mutation and is written only if the mutation changed something.
 */
import type { AuditEntry } from '../../../schema/api/audit.ts';
import type { Ctx } from '../../http/context.ts';
import { database, runTogether, type Write } from '../../platform/database.ts';
import { admissionObject } from '../../platform/objects.ts';
import { findDomainNamed } from '../accounts/catalogue.ts';
import { entryStatement } from './store.ts';

/** What has no domain: resource groups, agents, domains themselves, strangers. */
export const systemChain = 'system';

export interface Note {
  /** Number of the domain whose object it is, or {@link systemChain}. */
  chain: string;
  /** `user.create` */
  action: string;
  /** Default: who asks. */
  actor?: AuditEntry['actor'];
  objectId?: string;
  details?: NonNullable<AuditEntry['details']>;
}

/** The chain of a domain by its id. */
export async function chainOf(ctx: Ctx, domainId: string): Promise<string> {
  const domain = await findDomainNamed(ctx, domainId);
  return domain ? String(domain.number) : systemChain;
}

/** The entry of what this request does. */
export function toEntry(ctx: Ctx, { action, actor, objectId, details }: Omit<Note, 'chain'>): AuditEntry {
  return {
    id: ctx.newId('audit'),
    atMs: ctx.clock.nowMs(),
    action,
    outcome: 'done',
    actor: actor ?? toAuditActor(ctx.actor),
    address: ctx.clientAddress,
    requestId: ctx.requestId,
    ...(objectId === undefined ? {} : { objectId }),
    ...(details === undefined ? {} : { details }),
  };
}

export function toAuditActor(actor: Ctx['actor']): AuditEntry['actor'] {
  if (actor.kind === 'user') return { kind: 'user', id: actor.userId, tokenId: actor.tokenId };
  if (actor.kind === 'agent') return { kind: 'agent', id: actor.agentId };
  return { kind: actor.kind };
}

/** Writes to D1 with an entry. The sealer is told first, so that it looks even if this request dies. */
export function audited(ctx: Ctx, note: Note): Write {
  const entry = toEntry(ctx, note);
  return async ([first, ...rest]) => {
    if (!first) return 0;
    await admissionObject(ctx.env, note.chain).expectAudit();
    return runTogether(database(ctx.env), [first, entryStatement(note.chain, entry), ...rest]);
  };
}

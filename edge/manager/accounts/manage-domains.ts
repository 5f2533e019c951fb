/** Domains, resource groups and who may use them. */
import type { z } from 'zod';
import type { Domain, NewDomain, NewResourceGroup, ResourceGroup } from '../../../schema/api/account.ts';
import type { PageQuery } from '../../../schema/api/page.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { parseCursor, toPage } from '../../http/page.ts';
import { database } from '../../platform/database.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { audited, systemChain } from '../audit/record.ts';
import { expireCatalogue, findDomainNamed, findGroupNamed, getCatalogue } from './catalogue.ts';
import {
  type DomainRow,
  findProject,
  type GrantRow,
  type GroupRow,
  insertDomain,
  insertGroup,
  touchGroup,
} from './store.ts';

function toDomain({ id, name, createdAtMs }: DomainRow): Domain {
  return { id, name, createdAtMs };
}
function toGroup({ id, name, number, createdAtMs }: GroupRow): ResourceGroup {
  return { id, name, number, createdAtMs };
}

/** The named domain (id or name), default the actor's own. Others are for superadmins. */
export async function requireDomain(ctx: UserCtx, named: string | undefined): Promise<{ id: string }> {
  if (named === undefined) return { id: ctx.actor.domainId };
  const domain = await findDomainNamed(ctx, named);
  if (!domain || (ctx.actor.role !== 'superadmin' && domain.id !== ctx.actor.domainId))
    throw new Refusal('domain_not_found');
  return domain;
}

export async function createDomain(ctx: UserCtx, input: z.infer<typeof NewDomain>): Promise<Domain> {
  const row = { id: ctx.newId('domain'), name: input.name, createdAtMs: ctx.clock.nowMs() };
  const write = audited(ctx, {
    chain: systemChain,
    action: 'domain.create',
    objectId: row.id,
    details: { name: row.name },
  });
  const made = await insertDomain(database(ctx.env), write, row);
  if (!made) throw new Refusal('account_name_taken', 'Another domain has this name.');
  expireCatalogue();
  return toDomain(made);
}

/** A page of what the catalogue holds, by id. */
function pageOfCatalogue<Row extends { id: string }, Item>(
  rows: readonly Row[],
  query: PageQuery,
  toItem: (row: Row) => Item,
) {
  const after = query.cursor === undefined ? '' : parseCursor(query.cursor);
  const later = rows.filter(({ id }) => id > after).sort((a, b) => (a.id < b.id ? -1 : 1));
  return toPage(later, query.limit, ({ id }) => id, toItem);
}

export async function listDomains(ctx: UserCtx, query: PageQuery) {
  return pageOfCatalogue((await getCatalogue(ctx, 0)).domains, query, toDomain);
}

export async function createGroup(ctx: UserCtx, input: z.infer<typeof NewResourceGroup>): Promise<ResourceGroup> {
  const grants: Omit<GrantRow, 'groupNumber'>[] = [];
  for (const named of input.domains ?? [])
    grants.push({ domainId: (await requireDomain(ctx, named)).id, projectId: '' });
  for (const id of input.projects ?? []) {
    const project = await findProject(database(ctx.env), id);
    if (!project) throw new Refusal('project_not_found');
    grants.push({ domainId: project.domainId, projectId: project.id });
  }
  if (input.domains === undefined && input.projects === undefined)
    grants.push({ domainId: ctx.actor.domainId, projectId: '' });
  const row = { id: ctx.newId('resourceGroup'), name: input.name, createdAtMs: ctx.clock.nowMs() };
  const write = audited(ctx, {
    chain: systemChain,
    action: 'group.create',
    objectId: row.id,
    details: { name: row.name },
  });
  const made = await insertGroup(database(ctx.env), write, row, grants);
  if (!made) throw new Refusal('account_name_taken', 'Another resource group has this name.');
  expireCatalogue();
  return toGroup(made);
}

/** Groups that the actor's projects may use; a domain's administrator sees its domain's, a superadmin all. */
export async function listGroups(ctx: UserCtx, query: PageQuery) {
  return pageOfCatalogue(await reachedGroups(ctx, 0), query, toGroup);
}

export async function reachedGroups(ctx: UserCtx, maxAgeMs?: number): Promise<GroupRow[]> {
  const { actor } = ctx;
  const { groups, grants } = await getCatalogue(ctx, maxAgeMs);
  if (actor.role === 'superadmin') return [...groups];
  const reached = new Set(
    grants
      .filter(({ domainId, projectId }) =>
        actor.role === 'domain-admin'
          ? domainId === actor.domainId
          : actor.projects.some((each) => each.domainId === domainId && (projectId === '' || projectId === each.id)),
      )
      .map(({ groupNumber }) => groupNumber),
  );
  return groups.filter(({ number }) => reached.has(number));
}

/**
 * After the storage of a group's ledger was put back to what it held at `snapshotAtMs`: a new incarnation, above every
 * epoch that was ever issued, in which agents may know more than the ledger does and are believed. Said twice, agents
 * attach twice.
 */
export async function noteRestore(ctx: UserCtx, id: string, snapshotAtMs: number): Promise<void> {
  const group = await findGroupNamed(ctx, id);
  if (!group) throw new Refusal('group_not_found');
  if (snapshotAtMs > ctx.clock.nowMs())
    throw new Refusal('request_body_invalid', undefined, {
      issues: [{ path: 'snapshotAtMs', message: 'lies in the future' }],
    });
  const note = { chain: systemChain, action: 'group.restored', objectId: group.id, details: { snapshotAtMs } };
  await touchGroup(audited(ctx, note), group.id);
  await ledgerObject(ctx.env, group.number).restored(group.number, snapshotAtMs);
}

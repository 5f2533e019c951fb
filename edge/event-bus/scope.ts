/** Which events a person may see: those of one domain, and in it of the projects that are their business. */
import type { CausewayEvent, EventsQuery } from '../../schema/api/event.ts';
import { Refusal } from '../../schema/errors.ts';
import type { UserCtx } from '../http/context.ts';
import { roleAllows } from '../http/permission.ts';
import { findDomainNamed } from '../manager/accounts/catalogue.ts';
import { requireProject } from '../manager/accounts/service.ts';

export interface EventScope {
  domainId: string;
  /** Set when the reader sees one project alone. */
  projectId: string | undefined;
  sees(event: CausewayEvent): boolean;
}

/** The scope of a request. @throws Refusal `project_not_found`, `domain_not_found`, `access_denied` */
export async function requireScope(ctx: UserCtx, query: EventsQuery): Promise<EventScope> {
  const reached = await reach(ctx, query);
  const isWanted = typeFilter(query.type);
  const { domainId, projectId } = reached;
  return { domainId, projectId, sees: (event) => isWanted(event.type) && reached.isMine(event) };
}

interface Reach {
  domainId: string;
  projectId: string | undefined;
  isMine(event: CausewayEvent): boolean;
}

async function reach(ctx: UserCtx, { project, domain }: EventsQuery): Promise<Reach> {
  const { actor } = ctx;
  if (project !== undefined || actor.projectId !== undefined) {
    const { id, domainId } = await requireProject(ctx, 'project:read', project);
    return { domainId, projectId: id, isMine: (event) => event.projectId === id };
  }
  const domainId = domain === undefined ? actor.domainId : await requireDomain(ctx, domain);
  if (actor.role !== undefined) return { domainId, projectId: undefined, isMine: () => true };
  const readable = new Set(actor.projects.filter(({ role }) => roleAllows(role, 'project:read')).map(({ id }) => id));
  return { domainId, projectId: undefined, isMine: (event) => readable.has(event.projectId ?? '') };
}

/** Another tenant's domain is one that does not exist. */
async function requireDomain(ctx: UserCtx, named: string): Promise<string> {
  const found = await findDomainNamed(ctx, named);
  const { role, domainId } = ctx.actor;
  if (!found || (role !== 'superadmin' && found.id !== domainId)) throw new Refusal('domain_not_found');
  return found.id;
}

function typeFilter(wanted: string | undefined): (type: string) => boolean {
  if (wanted === undefined) return () => true;
  if (wanted.endsWith('.*')) return (type) => type.startsWith(wanted.slice(0, -1));
  return (type) => type === wanted;
}

/** Projects and who is in them. What changes rights is told to `Access`. */
import type { z } from 'zod';
import type { Member, NewProject, Project, ProjectRole } from '../../../schema/api/account.ts';
import type { PageQuery } from '../../../schema/api/page.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { parseCursor, toPage } from '../../http/page.ts';
import type { ProjectVerb } from '../../http/permission.ts';
import { database, type Write } from '../../platform/database.ts';
import { audited, chainOf } from '../audit/record.ts';
import { requireDomain } from './manage-domains.ts';
import { changeRights } from './rights.ts';
import { requireProject } from './service.ts';
import {
  deleteMember,
  findUser,
  insertProject,
  listMembers,
  listProjects,
  type ProjectRow,
  putMember,
  type UserRow,
} from './store.ts';

function toProject({ id, name, domainId, createdAtMs }: ProjectRow): Project {
  return { id, name, domainId, createdAtMs };
}

export async function createProject(ctx: UserCtx, input: z.infer<typeof NewProject>): Promise<Project> {
  const domain = await requireDomain(ctx, input.domain);
  const row = { id: ctx.newId('project'), domainId: domain.id, name: input.name, createdAtMs: ctx.clock.nowMs() };
  const write = audited(ctx, {
    chain: await chainOf(ctx, domain.id),
    action: 'project.create',
    objectId: row.id,
    details: { name: row.name },
  });
  if (!(await insertProject(database(ctx.env), write, row)))
    throw new Refusal('account_name_taken', 'Another project of the domain has this name.');
  return toProject(row);
}

/** Projects of the actor's reach, oldest first. */
export async function listReachedProjects(ctx: UserCtx, { limit, cursor }: PageQuery) {
  const { actor } = ctx;
  const reach =
    actor.role === 'superadmin'
      ? {}
      : actor.role === 'domain-admin'
        ? { domainId: actor.domainId }
        : { ids: actor.projects.map(({ id }) => id) };
  const after = cursor === undefined ? '' : parseCursor(cursor);
  return toPage(await listProjects(database(ctx.env), reach, after, limit + 1), limit, ({ id }) => id, toProject);
}

export async function listProjectMembers(ctx: UserCtx, projectId: string, { limit, cursor }: PageQuery) {
  const project = await requireProject(ctx, 'project:read', projectId);
  const after = cursor === undefined ? '' : parseCursor(cursor);
  const rows = await listMembers(database(ctx.env), project.id, after, limit + 1);
  return toPage(
    rows,
    limit,
    ({ userId }) => userId,
    (row) => row,
  );
}

/** A project that the actor may `verb`, and a user of its domain. */
async function requireBoth(
  ctx: UserCtx,
  verb: ProjectVerb,
  projectId: string,
  userId: string,
): Promise<{
  projectId: string;
  user: UserRow;
  write: (action: string, details: Record<string, string>) => Write;
}> {
  const project = await requireProject(ctx, verb, projectId);
  const user = await findUser(database(ctx.env), userId);
  if (!user || user.domainId !== project.domainId) throw new Refusal('user_not_found');
  const chain = await chainOf(ctx, project.domainId);
  return {
    projectId: project.id,
    user,
    write: (action, details) =>
      audited(ctx, { chain, action, objectId: project.id, details: { user: userId, ...details } }),
  };
}

/** Makes a user of the project's domain a member, or changes its role. Idempotent. */
export async function setMember(ctx: UserCtx, projectId: string, userId: string, role: ProjectRole): Promise<Member> {
  const found = await requireBoth(ctx, 'project:admin', projectId, userId);
  await changeRights(ctx, { userId, outcome: 'changed' }, () =>
    putMember(database(ctx.env), found.write('member.set', { role }), { userId, projectId: found.projectId, role }),
  );
  return { userId, email: found.user.email, role };
}

/** Idempotent: whoever is no member stays none. */
export async function removeMember(ctx: UserCtx, projectId: string, userId: string): Promise<void> {
  const found = await requireBoth(ctx, 'project:admin', projectId, userId);
  await changeRights(ctx, { userId, outcome: 'changed' }, () =>
    deleteMember(database(ctx.env), found.write('member.remove', {}), userId, found.projectId),
  );
}

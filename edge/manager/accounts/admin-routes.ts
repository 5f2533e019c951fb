/** HTTP of who administers: tokens, users, projects, domains, resource groups. One route, one verb of the service. */
import { z } from 'zod';
import {
  Domain,
  DomainPage,
  GroupRestored,
  Member,
  MemberPage,
  NewDomain,
  NewProject,
  NewResourceGroup,
  NewToken,
  NewUser,
  Project,
  ProjectPage,
  PutMember,
  ResourceGroup,
  ResourceGroupPage,
  TokenCreated,
  TokenPage,
  User,
  UserPage,
  UserPatch,
} from '../../../schema/api/account.ts';
import { PageQuery } from '../../../schema/api/page.ts';
import { idPattern } from '../../../schema/ids.ts';
import { etagOf } from '../../http/etag.ts';
import { reply, route, type Route, slice } from '../../http/slice.ts';
import { createDomain, createGroup, listDomains, listGroups, noteRestore } from './manage-domains.ts';
import { createProject, listProjectMembers, listReachedProjects, removeMember, setMember } from './manage-projects.ts';
import { createToken, createTokenFor, listOwnTokens, revokeToken } from './manage-tokens.ts';
import { createUser, getUser, listReachedUsers, patchUser } from './manage-users.ts';

const UserParams = z.strictObject({ id: z.string().regex(idPattern('user')) });
const GroupParams = z.strictObject({ id: z.string().regex(idPattern('resourceGroup')) });
const TokenParams = z.strictObject({ id: z.string().regex(idPattern('token')) });
const ProjectParams = z.strictObject({ id: z.string().regex(idPattern('project')) });
const MemberParams = ProjectParams.extend({ userId: z.string().regex(idPattern('user')) });

const tokenRoutes: Route[] = [
  route(
    {
      method: 'post',
      path: '/v1/tokens',
      summary: 'Makes an API token of the actor, at most as strong as the one that asks.',
      permission: 'authenticated',
      idempotent: 'begin',
      secret: true,
      request: { body: NewToken },
      responses: { 201: { description: 'Made; its text is shown once.', schema: TokenCreated } },
      errors: ['project_not_found'],
    },
    async (ctx, { body }) => reply(201, await createToken(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/tokens',
      summary: "The actor's tokens, without their texts.",
      permission: 'authenticated',
      request: { query: PageQuery },
      responses: { 200: { description: 'A page.', schema: TokenPage } },
    },
    async (ctx, { query }) => reply(200, await listOwnTokens(ctx, query)),
  ),
  route(
    {
      method: 'delete',
      path: '/v1/tokens/{id}',
      summary: 'Revokes a token; nothing passes by it after 5 s, open streams included.',
      permission: 'authenticated',
      request: { params: TokenParams },
      responses: { 204: { description: 'Revoked.' } },
      errors: ['token_not_found'],
    },
    async (ctx, { params }) => {
      await revokeToken(ctx, params.id);
      return reply(204);
    },
  ),
];

const userRoutes: Route[] = [
  route(
    {
      method: 'post',
      path: '/v1/users',
      summary: 'Makes a user, or without a password a service account.',
      permission: 'domain:admin',
      idempotent: 'begin',
      request: { body: NewUser },
      responses: { 201: { description: 'Made.', schema: User } },
      errors: ['domain_not_found', 'account_name_taken'],
    },
    async (ctx, { body }) => reply(201, await createUser(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/users',
      summary: 'Users of the domain; for a superadmin all.',
      permission: 'domain:admin',
      request: { query: PageQuery },
      responses: { 200: { description: 'A page.', schema: UserPage } },
    },
    async (ctx, { query }) => reply(200, await listReachedUsers(ctx, query)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/users/{id}',
      summary: 'One user.',
      permission: 'domain:admin',
      request: { params: UserParams },
      responses: { 200: { description: 'The user.', schema: User, etag: true } },
      errors: ['user_not_found'],
    },
    async (ctx, { params }) => {
      const user = await getUser(ctx, params.id);
      return reply(200, user, etagOf(user.version));
    },
  ),
  route(
    {
      method: 'patch',
      path: '/v1/users/{id}',
      summary: 'Switches a user off or on, changes its role or password.',
      permission: 'domain:admin',
      conditional: true,
      request: { params: UserParams, body: UserPatch },
      responses: { 200: { description: 'Changed.', schema: User, etag: true } },
      errors: ['user_not_found'],
    },
    async (ctx, { params, body }) => {
      const user = await patchUser(ctx, params.id, body);
      return reply(200, user, etagOf(user.version));
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/users/{id}/tokens',
      summary: 'Makes a token of a service account.',
      permission: 'domain:admin',
      idempotent: 'begin',
      secret: true,
      request: { params: UserParams, body: NewToken },
      responses: { 201: { description: 'Made; its text is shown once.', schema: TokenCreated } },
      errors: ['user_not_found', 'project_not_found'],
    },
    async (ctx, { params, body }) => reply(201, await createTokenFor(ctx, params.id, body)),
  ),
];

const projectRoutes: Route[] = [
  route(
    {
      method: 'post',
      path: '/v1/projects',
      summary: 'Makes a project.',
      permission: 'domain:admin',
      idempotent: 'begin',
      request: { body: NewProject },
      responses: { 201: { description: 'Made.', schema: Project } },
      errors: ['domain_not_found', 'account_name_taken'],
    },
    async (ctx, { body }) => reply(201, await createProject(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/projects',
      summary: "The actor's projects; for administrators all of their reach.",
      permission: 'authenticated',
      request: { query: PageQuery },
      responses: { 200: { description: 'A page.', schema: ProjectPage } },
    },
    async (ctx, { query }) => reply(200, await listReachedProjects(ctx, query)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/projects/{id}/members',
      summary: 'Who is in a project.',
      permission: 'project:read',
      request: { params: ProjectParams, query: PageQuery },
      responses: { 200: { description: 'A page.', schema: MemberPage } },
      errors: ['project_not_found'],
    },
    async (ctx, { params, query }) => reply(200, await listProjectMembers(ctx, params.id, query)),
  ),
  route(
    {
      method: 'put',
      path: '/v1/projects/{id}/members/{userId}',
      summary: "Makes a user of the project's domain a member, or changes its role.",
      permission: 'project:admin',
      request: { params: MemberParams, body: PutMember },
      responses: { 200: { description: 'The member.', schema: Member } },
      errors: ['project_not_found', 'user_not_found'],
    },
    async (ctx, { params, body }) => reply(200, await setMember(ctx, params.id, params.userId, body.role)),
  ),
  route(
    {
      method: 'delete',
      path: '/v1/projects/{id}/members/{userId}',
      summary: 'Takes a user out of a project.',
      permission: 'project:admin',
      request: { params: MemberParams },
      responses: { 204: { description: 'No member any more.' } },
      errors: ['project_not_found', 'user_not_found'],
    },
    async (ctx, { params }) => {
      await removeMember(ctx, params.id, params.userId);
      return reply(204);
    },
  ),
];

const domainRoutes: Route[] = [
  route(
    {
      method: 'post',
      path: '/v1/domains',
      summary: 'Makes a domain.',
      permission: 'superadmin',
      idempotent: 'begin',
      request: { body: NewDomain },
      responses: { 201: { description: 'Made.', schema: Domain } },
      errors: ['account_name_taken'],
    },
    async (ctx, { body }) => reply(201, await createDomain(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/domains',
      summary: 'All domains.',
      permission: 'superadmin',
      request: { query: PageQuery },
      responses: { 200: { description: 'A page.', schema: DomainPage } },
    },
    async (ctx, { query }) => reply(200, await listDomains(ctx, query)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/resource-groups',
      summary: 'Makes a resource group and says who may use it.',
      permission: 'superadmin',
      idempotent: 'begin',
      request: { body: NewResourceGroup },
      responses: { 201: { description: 'Made.', schema: ResourceGroup } },
      errors: ['domain_not_found', 'project_not_found', 'account_name_taken'],
    },
    async (ctx, { body }) => reply(201, await createGroup(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/resource-groups',
      summary: "Resource groups that the actor's projects may use; for administrators those of their reach.",
      permission: 'authenticated',
      request: { query: PageQuery },
      responses: { 200: { description: 'A page.', schema: ResourceGroupPage } },
    },
    async (ctx, { query }) => reply(200, await listGroups(ctx, query)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/resource-groups/{id}/restored',
      summary: "Says that the storage of the group's ledger was put back to an older state: its agents attach anew.",
      permission: 'superadmin',
      idempotent: 'none',
      request: { params: GroupParams, body: GroupRestored },
      responses: { 204: { description: 'A new incarnation of the ledger began.' } },
      errors: ['group_not_found'],
    },
    async (ctx, { params, body }) => {
      await noteRestore(ctx, params.id, body.snapshotAtMs);
      return reply(204);
    },
  ),
];

export const administration = slice('administration', [
  ...tokenRoutes,
  ...userRoutes,
  ...projectRoutes,
  ...domainRoutes,
]);

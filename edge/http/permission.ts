/** May this actor call a route with that permission? Pure; about the object itself the service decides. */
import type { ProjectRole } from '../../schema/api/account.ts';
import { parseViewScope } from '../../schema/api/terminal-link.ts';
import { type ErrorCode, Refusal } from '../../schema/errors.ts';
import type { Actor, UserActor } from './context.ts';
import type { Permission } from './slice.ts';

const rank = { viewer: 1, member: 2, 'project-admin': 3 } as const satisfies Record<ProjectRole, number>;
/** The least role that each verb on a project needs. */
const needed = { 'project:read': 'viewer', 'project:write': 'member', 'project:admin': 'project-admin' } as const;
export type ProjectVerb = keyof typeof needed;

/** The lower of two project roles. */
export function lowerRole(a: ProjectRole, b: ProjectRole): ProjectRole {
  return rank[a] <= rank[b] ? a : b;
}

/** True when `role` is enough for `verb`. */
export function roleAllows(role: ProjectRole, verb: ProjectVerb): boolean {
  return rank[role] >= rank[needed[verb]];
}

/** The actor's role in a project, or undefined when the project is none of its business. */
export function roleIn(actor: UserActor, project: { id: string; domainId: string }): ProjectRole | undefined {
  if (actor.role === 'superadmin') return 'project-admin';
  if (actor.role === 'domain-admin' && actor.domainId === project.domainId) return 'project-admin';
  return actor.projects.find((each) => each.id === project.id)?.role;
}

/**
 * The decision about an object of a project: 404 with the object's own code when its project is none of the actor's
 * business (byte for byte as if it did not exist), 403 when the role is too low. Every slice ends its look-up with this.
 */
export function requireRole(
  actor: UserActor,
  project: { id: string; domainId: string },
  verb: ProjectVerb,
  notFound: ErrorCode,
): ProjectRole {
  const role = roleIn(actor, project);
  if (role === undefined) throw new Refusal(notFound);
  if (!roleAllows(role, verb)) throw new Refusal('access_denied', `Your role in this project is ${role}.`);
  return role;
}

/** Refuses an actor that a route with `permission` does not let through. */
export function checkPermission(actor: Actor, permission: Permission): void {
  if (!isAllowed(actor, permission)) throw refusal(actor);
}

function refusal(actor: Actor): Refusal {
  if (actor.kind === 'anonymous') return new Refusal('auth_missing');
  return new Refusal('access_denied');
}

function isAllowed(actor: Actor, permission: Permission): boolean {
  switch (permission) {
    case 'public':
      return true;
    case 'agent':
      return actor.kind === 'agent';
    case 'bootstrap':
      return actor.kind === 'bootstrap';
    case 'metrics':
      return actor.kind === 'user' && actor.scopes.includes('metrics:read');
    case 'terminal:view':
      return actor.kind === 'user' && actor.scopes.some((scope) => parseViewScope(scope) !== undefined);
    default:
      return actor.kind === 'user' && actor.scopes.length === 0 && isUserAllowed(actor, permission);
  }
}

function isUserAllowed(
  actor: UserActor,
  permission: Exclude<Permission, 'public' | 'agent' | 'bootstrap' | 'metrics' | 'terminal:view'>,
): boolean {
  switch (permission) {
    case 'authenticated':
      return true;
    case 'superadmin':
      return actor.role === 'superadmin';
    case 'domain:admin':
      return actor.role !== undefined;
    default:
      return actor.role !== undefined || actor.projects.some((each) => roleAllows(each.role, permission));
  }
}

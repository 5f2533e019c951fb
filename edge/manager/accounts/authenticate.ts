/**
 * From an API token to an actor, without a D1 read per request: rights are kept in the isolate for at most a minute, and
 * asked about at the user's `Access` object when the last check is older than 2 s; older than 3 s they pass nothing.
 */
import type { ProjectRole } from '../../../schema/api/account.ts';
import { parseViewScope } from '../../../schema/api/terminal-link.ts';
import { Refusal } from '../../../schema/errors.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { checkAccess } from '../../http/access.ts';
import type { Ctx, UserActor } from '../../http/context.ts';
import { lowerRole } from '../../http/permission.ts';
import { shardOf } from '../../http/shards.ts';
import { database } from '../../platform/database.ts';
import { accessObject } from '../../platform/objects.ts';
import { findTokenOwner, type TokenOwner } from './store.ts';
import { isTokenText, tokenHashes } from './tokens.ts';

/** Rights are read anew from D1 after this, whatever `Access` says. */
const readMs = 60_000;
/** One request renews the check this early, while others still pass by the last one. */
const renewMs = 2_000;
const maxEntries = 10_000;

interface Known {
  actor: UserActor;
  readAtMs: number;
  checkedAtMs: number;
  renewing: boolean;
}
const known = new Map<string, Known>();

/** The actor of a token. @throws Refusal `auth_invalid`, `auth_revoked` */
export async function authenticateToken(ctx: Ctx, token: string): Promise<UserActor> {
  const entry = known.get(token);
  const nowMs = ctx.clock.bootMs();
  if (!entry || nowMs - entry.readAtMs >= readMs) return read(ctx, token);
  if (isExpired(entry.actor, ctx.clock.nowMs())) return forget(token, 'auth_invalid');
  const ageMs = nowMs - entry.checkedAtMs;
  if (ageMs < renewMs || (ageMs < limits.accessCheckMs && entry.renewing)) return entry.actor;
  return check(ctx, token, entry);
}

/** Makes this isolate read rights again: of a user, or of one token. Other isolates learn it from `Access`. */
export function forgetActors(id: string): void {
  for (const [token, { actor }] of known) if (actor.userId === id || actor.tokenId === id) known.delete(token);
}

function isExpired({ tokenExpiresAtMs }: UserActor, nowMs: number): boolean {
  return tokenExpiresAtMs !== undefined && tokenExpiresAtMs <= nowMs;
}

function forget(token: string, code: 'auth_invalid' | 'auth_revoked'): never {
  known.delete(token);
  throw new Refusal(code);
}

async function check(ctx: Ctx, token: string, entry: Known): Promise<UserActor> {
  const askedAtMs = ctx.clock.bootMs();
  const checkedAtMs = ctx.clock.nowMs();
  const { userId, tokenId, accessVersion } = entry.actor;
  entry.renewing = true;
  try {
    const [verdict] = await checkAccess(ctx.env, [{ userId, tokenId, accessVersion }]);
    if (verdict === 'revoked') return forget(token, 'auth_revoked');
    if (verdict === 'changed') return await read(ctx, token);
    entry.checkedAtMs = askedAtMs;
    entry.actor = { ...entry.actor, checkedAtMs };
    return entry.actor;
  } finally {
    entry.renewing = false;
  }
}

/** Reads rights from D1, so that no change between that and the version taken is missed. */
async function read(ctx: Ctx, token: string): Promise<UserActor> {
  if (!isTokenText(ctx.config.keys, token)) return forget(token, 'auth_invalid');
  const hashes = tokenHashes(ctx.config.keys, token);
  const db = database(ctx.env);
  const readAtMs = ctx.clock.bootMs();
  const checkedAtMs = ctx.clock.nowMs();
  let owner = await findTokenOwner(db, hashes);
  if (!owner) return forget(token, 'auth_invalid');
  const { user, token: row } = owner;
  const principal = { userId: user.id, tokenId: row.id, accessVersion: 0 };
  const { version, verdicts } = await accessObject(ctx.env, shardOf(user.id)).check([principal]);
  if (verdicts[0] === 'revoked') return forget(token, 'auth_revoked');
  // Something changed lately, maybe after our reading: what is read now is at least as new as `version`.
  if (verdicts[0] === 'changed') owner = await findTokenOwner(db, hashes);
  if (!owner) return forget(token, 'auth_invalid');
  if (owner.token.revokedAtMs !== null || !owner.user.active) return forget(token, 'auth_revoked');
  const actor = { ...toActor(owner), accessVersion: version, checkedAtMs };
  if (isExpired(actor, ctx.clock.nowMs())) return forget(token, 'auth_invalid');
  remember(token, { actor, readAtMs, checkedAtMs: readAtMs, renewing: false });
  return actor;
}

function remember(token: string, entry: Known): void {
  known.delete(token);
  known.set(token, entry);
  if (known.size <= maxEntries) return;
  const [oldest] = known.keys();
  if (oldest !== undefined) known.delete(oldest);
}

/** What a user may do through a token: never more than the user, less where the token is narrowed. */
function toActor({
  user,
  token,
  domain,
  project,
  memberships,
}: TokenOwner): Omit<UserActor, 'accessVersion' | 'checkedAtMs'> {
  const narrowed = token.projectId !== null || token.role !== null || token.scopes.length > 0;
  const cap = (role: ProjectRole) => (token.role === null ? role : lowerRole(role, token.role));
  const reached = token.projectId === null ? memberships : reachedByToken(user, project, memberships);
  return {
    kind: 'user',
    userId: user.id,
    tokenId: token.id,
    email: user.email,
    domainId: user.domainId,
    domainNumber: domain.number,
    role: narrowed ? undefined : (user.role ?? undefined),
    projects: keepsProjects(token) ? reached.map((each) => ({ ...each, role: cap(each.role) })) : [],
    projectId: token.projectId ?? undefined,
    tokenRole: token.role ?? undefined,
    scopes: token.scopes,
    tokenExpiresAtMs: token.expiresAtMs ?? undefined,
  };
}

/** A link to a terminal shows what its maker may see; other scopes are of no project. */
function keepsProjects({ scopes, projectId }: TokenOwner['token']): boolean {
  return scopes.length === 0 || (projectId !== null && scopes.every((scope) => parseViewScope(scope) !== undefined));
}

function reachedByToken(
  user: TokenOwner['user'],
  project: TokenOwner['project'],
  memberships: TokenOwner['memberships'],
): TokenOwner['memberships'] {
  if (!project) return [];
  const administers =
    user.role === 'superadmin' || (user.role === 'domain-admin' && user.domainId === project.domainId);
  if (!administers) return memberships.filter((each) => each.id === project.id);
  return [{ id: project.id, name: project.name, domainId: project.domainId, role: 'project-admin' }];
}

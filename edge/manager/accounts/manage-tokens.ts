/** API tokens: made, listed, revoked. A token never makes one that may more than itself. */
import type { z } from 'zod';
import type { NewToken, Token, TokenCreated } from '../../../schema/api/account.ts';
import type { PageQuery } from '../../../schema/api/page.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserActor, UserCtx } from '../../http/context.ts';
import { parseCursor, toPage } from '../../http/page.ts';
import { lowerRole, roleIn } from '../../http/permission.ts';
import { database } from '../../platform/database.ts';
import { audited, chainOf, type Note } from '../audit/record.ts';
import { requireProject, revokeTokenOf } from './service.ts';
import { findTokenAndOwner, findUser, listTokens, listTokensOfScope, putToken, type TokenRow } from './store.ts';
import { makeToken } from './tokens.ts';

export function toToken(row: TokenRow): Token {
  return {
    id: row.id,
    name: row.name,
    prefix: row.prefix,
    ...(row.projectId === null ? {} : { projectId: row.projectId }),
    ...(row.role === null ? {} : { role: row.role }),
    scopes: row.scopes,
    createdAtMs: row.createdAtMs,
    ...(row.expiresAtMs === null ? {} : { expiresAtMs: row.expiresAtMs }),
    ...(row.revokedAtMs === null ? {} : { revokedAtMs: row.revokedAtMs }),
  };
}

/** Whether the actor's token allows less than its user may. */
export function isNarrowed({ projectId, tokenRole }: UserActor): boolean {
  return projectId !== undefined || tokenRole !== undefined;
}

/** What a new token is narrowed to: at most what its maker's own token allows. */
async function narrowing(
  ctx: UserCtx,
  input: z.infer<typeof NewToken>,
): Promise<Pick<TokenRow, 'projectId' | 'role' | 'scopes'>> {
  const { actor } = ctx;
  const scopes = input.scopes ?? [];
  if (scopes.length > 0 && actor.role !== 'superadmin')
    throw new Refusal('access_denied', 'Only a superadmin makes tokens with scopes.');
  const wanted = input.project ?? actor.projectId;
  const project = wanted === undefined ? undefined : await requireProject(ctx, 'project:read', wanted);
  const held = project === undefined ? undefined : roleIn(actor, project);
  if (held !== undefined && input.role !== undefined && lowerRole(held, input.role) !== input.role)
    throw new Refusal('access_denied', `Your role in this project is ${held}.`);
  const role = actor.tokenRole === undefined ? input.role : lowerRole(actor.tokenRole, input.role ?? actor.tokenRole);
  return { projectId: project?.id ?? null, role: role ?? null, scopes };
}

/** Makes a token of the actor; its text is in this answer alone. */
export async function createToken(
  ctx: UserCtx,
  input: z.infer<typeof NewToken>,
): Promise<z.infer<typeof TokenCreated>> {
  return insertTokenFor(
    ctx,
    { id: ctx.actor.userId, domainId: ctx.actor.domainId },
    input,
    await narrowing(ctx, input),
  );
}

/** Makes a token of a service account (a user without a password) of the administrator's reach. */
export async function createTokenFor(
  ctx: UserCtx,
  userId: string,
  input: z.infer<typeof NewToken>,
): Promise<z.infer<typeof TokenCreated>> {
  const user = await findUser(database(ctx.env), userId);
  if (!user || !isAdminOf(ctx.actor, user)) throw new Refusal('user_not_found');
  if (user.passwordHash !== null) throw new Refusal('access_denied', 'Who has a password makes tokens alone.');
  return insertTokenFor(ctx, user, input, await narrowing(ctx, input));
}

/**
 * Writes a token of a user, narrowed so, with its entry in the audit. One that a narrowed token makes lives no longer than
 * that. Whoever calls has judged that the actor may.
 */
export async function insertTokenFor(
  ctx: UserCtx,
  user: { id: string; domainId: string },
  input: Pick<z.infer<typeof NewToken>, 'name' | 'ttlSeconds'>,
  narrowed: Pick<TokenRow, 'projectId' | 'role' | 'scopes'>,
  note: Pick<Note, 'action' | 'details'> = { action: 'token.create' },
): Promise<z.infer<typeof TokenCreated>> {
  const nowMs = ctx.clock.nowMs();
  const { text, prefix, hash } = makeToken(ctx.config.keys, ctx.random);
  const expiresAtMs = input.ttlSeconds === undefined ? null : nowMs + input.ttlSeconds * 1000;
  const ends = [
    expiresAtMs,
    ctx.actor.tokenExpiresAtMs !== undefined && isNarrowed(ctx.actor) ? ctx.actor.tokenExpiresAtMs : null,
  ];
  const row: TokenRow = {
    id: ctx.newId('token'),
    userId: user.id,
    name: input.name,
    prefix,
    hash,
    ...narrowed,
    createdAtMs: nowMs,
    expiresAtMs:
      ends.reduce((least, each) => (least === null ? each : each === null ? least : Math.min(least, each))) ?? null,
    revokedAtMs: null,
  };
  const chain = await chainOf(ctx, user.domainId);
  const details = { user: user.id, prefix, project: narrowed.projectId, role: narrowed.role, ...note.details };
  const write = audited(ctx, { chain, action: note.action, objectId: row.id, details });
  await putToken(database(ctx.env), write, row);
  return { ...toToken(row), token: text };
}

/** The actor's tokens, oldest first. A narrowed token sees itself alone. */
export async function listOwnTokens(ctx: UserCtx, { limit, cursor }: PageQuery) {
  const db = database(ctx.env);
  if (isNarrowed(ctx.actor)) {
    const own = await findTokenAndOwner(db, ctx.actor.tokenId);
    return { items: own ? [toToken(own.token)] : [] };
  }
  const after = cursor === undefined ? '' : parseCursor(cursor);
  return toPage(await listTokens(db, ctx.actor.userId, after, limit + 1), limit, ({ id }) => id, toToken);
}

/** Whether the actor administers a user: its domain's administrator, but not over a superadmin. */
export function isAdminOf(actor: UserActor, user: { domainId: string; role: string | null }): boolean {
  if (actor.role === 'superadmin') return true;
  return actor.role === 'domain-admin' && actor.domainId === user.domainId && user.role !== 'superadmin';
}

/** Revokes a token of the actor, or of a user whom it administers. Idempotent. */
export async function revokeToken(ctx: UserCtx, id: string): Promise<void> {
  const found = await findTokenAndOwner(database(ctx.env), id);
  const { actor } = ctx;
  const own = found?.owner.id === actor.userId && (!isNarrowed(actor) || id === actor.tokenId);
  if (!found || !(own || isAdminOf(actor, found.owner))) throw new Refusal('token_not_found');
  await revokeTokenOf(ctx, found.owner, id, 'token.revoke');
}

/** The tokens of a project with this scope alone that are good still, oldest first, and whose they are. */
export async function listTokensWith(
  ctx: UserCtx,
  projectId: string,
  scope: string,
): Promise<{ token: Token; userId: string; email: string }[]> {
  const rows = await listTokensOfScope(database(ctx.env), { projectId, scope, nowMs: ctx.clock.nowMs() });
  return rows.map(({ token, email }) => ({ token: toToken(token), userId: token.userId, email }));
}

/** Revokes a token that has the scope, whosever it is: whoever calls has judged that the actor may. False: it has not. */
export async function revokeTokenWith(
  ctx: UserCtx,
  scope: string,
  id: string,
  action: 'terminal.unshare',
): Promise<boolean> {
  const found = await findTokenAndOwner(database(ctx.env), id);
  if (!found?.token.scopes.includes(scope)) return false;
  await revokeTokenOf(ctx, found.owner, id, action);
  return true;
}

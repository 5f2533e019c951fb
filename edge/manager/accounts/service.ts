/** Verbs of accounts that every signed-in person uses: signing in and out, who am I, which project. */
import type { Bootstrap, Login, LoggedIn, Whoami } from '../../../schema/api/account.ts';
import { type RateLimit, Refusal } from '../../../schema/errors.ts';
import type { z } from 'zod';
import type { AnonymousActor, BootstrapActor, Ctx, UserCtx } from '../../http/context.ts';
import { type ProjectVerb, requireRole } from '../../http/permission.ts';
import { database } from '../../platform/database.ts';
import { durably } from '../../platform/failpoint.ts';
import { audited, chainOf, systemChain } from '../audit/record.ts';
import { beginAttempt } from './attempts.ts';
import { expireCatalogue } from './catalogue.ts';
import { hashPassword, isPassword } from './password.ts';
import { changeRights } from './rights.ts';
import {
  findProject,
  findProjectNamed,
  findUserByEmail,
  insertFirstAccount,
  markTokenRevoked,
  type ProjectRow,
  putToken,
  type TokenRow,
} from './store.ts';
import { makeToken } from './tokens.ts';

/** How long a sign-in lasts. */
const loginTtlMs = 30 * 24 * 3_600_000;

/** A row for a new token of a user. */
function tokenRow(
  userId: string,
  id: string,
  name: string,
  fresh: { prefix: string; hash: string },
  nowMs: number,
): TokenRow {
  return {
    id,
    userId,
    name,
    prefix: fresh.prefix,
    hash: fresh.hash,
    projectId: null,
    role: null,
    scopes: [],
    createdAtMs: nowMs,
    expiresAtMs: null,
    revokedAtMs: null,
  };
}

/** Signs in by password. Refuses with the same words and at the same cost whether the user exists or not. */
export async function login(
  ctx: Ctx<AnonymousActor>,
  input: z.infer<typeof Login>,
): Promise<{ answer: z.infer<typeof LoggedIn>; limit: RateLimit }> {
  const email = input.email.toLowerCase();
  await ctx.takeTurn();
  const attempt = await beginAttempt(ctx, email);
  const db = database(ctx.env);
  const user = await findUserByEmail(db, email);
  if (!(await isPassword(input.password, user?.passwordHash)) || !user?.active)
    throw new Refusal('auth_login_failed', undefined, { rateLimit: attempt.limit });
  const limit = await attempt.forgive();
  const nowMs = ctx.clock.nowMs();
  const fresh = makeToken(ctx.config.keys, ctx.random);
  const expiresAtMs = nowMs + loginTtlMs;
  const row = { ...tokenRow(user.id, ctx.newId('token'), 'login', fresh, nowMs), expiresAtMs };
  const actor = { kind: 'user', id: user.id, tokenId: row.id } as const;
  const note = { action: 'auth.login', actor, objectId: row.id };
  await putToken(db, audited(ctx, { ...note, chain: await chainOf(ctx, user.domainId) }), row);
  return { answer: { token: fresh.text, expiresAt: new Date(expiresAtMs).toISOString() }, limit };
}

/** Ends the token that asks. */
export async function logout(ctx: UserCtx): Promise<void> {
  const { userId, tokenId, domainId } = ctx.actor;
  await revokeTokenOf(ctx, { id: userId, domainId }, tokenId, 'auth.logout');
}

/** Takes a token out: in D1, and for everybody within 5 s. Idempotent. */
export async function revokeTokenOf(
  ctx: UserCtx,
  user: { id: string; domainId: string },
  tokenId: string,
  action: 'auth.logout' | 'token.revoke' | 'terminal.unshare',
): Promise<void> {
  const chain = await chainOf(ctx, user.domainId);
  const write = audited(ctx, { chain, action, objectId: tokenId, details: { user: user.id } });
  await changeRights(ctx, { userId: user.id, tokenId, outcome: 'revoked' }, () =>
    markTokenRevoked(database(ctx.env), write, tokenId, ctx.clock.nowMs()),
  );
}

export function whoami({ actor, config }: UserCtx): Whoami {
  return {
    userId: actor.userId,
    email: actor.email,
    domainId: actor.domainId,
    ...(actor.role === undefined ? {} : { role: actor.role }),
    projects: actor.projects.map(({ id, name, role }) => ({ id, name, role })),
    tokenId: actor.tokenId,
    ...(actor.tokenExpiresAtMs === undefined ? {} : { tokenExpiresAt: new Date(actor.tokenExpiresAtMs).toISOString() }),
    instance: config.instance,
  };
}

/** Makes the first administrator with domain, project and resource group `default`. Once. */
export async function bootstrap(ctx: Ctx<BootstrapActor>, input: z.infer<typeof Bootstrap>) {
  const fresh = makeToken(ctx.config.keys, ctx.random);
  const nowMs = ctx.clock.nowMs();
  const userId = ctx.newId('user');
  const first = {
    domainId: ctx.newId('domain'),
    projectId: ctx.newId('project'),
    groupId: ctx.newId('resourceGroup'),
    userId,
    email: input.email.toLowerCase(),
    passwordHash: await hashPassword(input.password, ctx.random),
    token: tokenRow(userId, ctx.newId('token'), 'first administrator', fresh, nowMs),
    nowMs,
  };
  const write = audited(ctx, { chain: systemChain, action: 'bootstrap', objectId: userId });
  const made = await durably(ctx.failpoints, 'accounts.bootstrap', () =>
    insertFirstAccount(database(ctx.env), write, first),
  );
  if (!made) throw new Refusal('bootstrap_done', 'Sign in with its email and password.');
  expireCatalogue();
  return { userId, token: fresh.text, domain: 'default', project: 'default', resourceGroup: 'default' };
}

/**
 * The project of a request, with the actor's role checked: the named one (id, or name in the actor's domain), else the
 * token's, else the user's only one. @throws Refusal `project_required`, `project_not_found`, `access_denied`
 */
export async function requireProject(
  ctx: UserCtx,
  verb: ProjectVerb,
  named?: string,
): Promise<{ id: string; name: string; domainId: string }> {
  const { actor } = ctx;
  const wanted = named ?? actor.projectId;
  if (wanted === undefined) {
    const [only, ...others] = actor.projects;
    if (!only || others.length > 0)
      throw new Refusal(
        'project_required',
        `Name one of your projects: ${actor.projects.map(({ name }) => name).join(', ')}`,
      );
    requireRole(actor, only, verb, 'project_not_found');
    return only;
  }
  const project =
    actor.projects.find((each) => each.id === wanted || each.name === wanted) ?? (await findReached(ctx, wanted));
  if (!project) throw new Refusal('project_not_found');
  requireRole(actor, project, verb, 'project_not_found');
  return project;
}

/** Administrators reach projects that they are no member of. */
async function findReached(ctx: UserCtx, wanted: string): Promise<ProjectRow | undefined> {
  if (ctx.actor.role === undefined) return undefined;
  const db = database(ctx.env);
  return wanted.startsWith('prj_') ? findProject(db, wanted) : findProjectNamed(db, ctx.actor.domainId, wanted);
}

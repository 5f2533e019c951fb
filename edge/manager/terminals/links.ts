/** Links by which anybody who has one looks at a terminal: made, listed, revoked, used. @throws Refusal */
import type { z } from 'zod';
import {
  maxTerminalLinks,
  type NewTerminalLink,
  parseViewScope,
  type TerminalLink,
  type TerminalLinkCreated,
  toViewScope,
} from '../../../schema/api/terminal-link.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { dataHubObject } from '../../platform/objects.ts';
import { toHub } from '../../tunnel/rpc.ts';
import { insertTokenFor, listTokensWith, revokeTokenWith } from '../accounts/manage-tokens.ts';
import { getSource } from '../sessions/service.ts';
import { streamTarget } from '../sessions/streams.ts';
import { listTerminals } from './service.ts';

/** Makes a link to a terminal that is there; its token is in this answer alone. */
export async function shareTerminal(
  ctx: UserCtx,
  sessionId: string,
  terminalId: string,
  { ttlSeconds }: z.infer<typeof NewTerminalLink>,
): Promise<z.infer<typeof TerminalLinkCreated>> {
  const { actor } = ctx;
  const { projectId } = await getSource(ctx, sessionId, 'project:write');
  if (!(await listTerminals(ctx, sessionId)).some(({ id }) => id === terminalId))
    throw new Refusal('terminal_not_found');
  if ((await listLinks(ctx, sessionId, terminalId)).length >= maxTerminalLinks)
    throw new Refusal('terminal_link_limit', `A terminal has at most ${maxTerminalLinks}: revoke one.`);
  const made = await insertTokenFor(
    ctx,
    { id: actor.userId, domainId: actor.domainId },
    { name: `view of ${terminalId}`, ttlSeconds },
    { projectId, role: 'viewer', scopes: [toViewScope(sessionId, terminalId)] },
    { action: 'terminal.share', details: { session: sessionId, terminal: terminalId, ttlSeconds } },
  );
  const { id, prefix, token, createdAtMs, expiresAtMs = createdAtMs } = made;
  return { id, prefix, userId: actor.userId, email: actor.email, createdAtMs, expiresAtMs, token };
}

/** The links to a terminal that are good still, whoever made them. */
export async function listLinks(ctx: UserCtx, sessionId: string, terminalId: string): Promise<TerminalLink[]> {
  const { projectId } = await getSource(ctx, sessionId, 'project:write');
  const found = await listTokensWith(ctx, projectId, toViewScope(sessionId, terminalId));
  return found.map(({ token: { id, prefix, createdAtMs, expiresAtMs = createdAtMs }, userId, email }) => {
    return { id, prefix, userId, email, createdAtMs, expiresAtMs };
  });
}

/** Takes a link out, whoever made it. Idempotent. */
export async function revokeLink(ctx: UserCtx, sessionId: string, terminalId: string, linkId: string): Promise<void> {
  await getSource(ctx, sessionId, 'project:write');
  const scope = toViewScope(sessionId, terminalId);
  if (!(await revokeTokenWith(ctx, scope, linkId, 'terminal.unshare'))) throw new Refusal('terminal_link_not_found');
}

/**
 * Hands the socket of whoever has a link to the data hub of the session's agent: for that one terminal, to look. Its maker's
 * rights count as they are now.
 */
export async function openLink(ctx: UserCtx, terminalId: string): Promise<Response> {
  const shared = ctx.actor.scopes.map(parseViewScope).find((each) => each?.terminalId === terminalId);
  if (!shared) throw new Refusal('terminal_not_found', 'The link is of another terminal.');
  const { hub, claim } = await streamTarget(ctx, shared.sessionId, 'project:read', ['terminal']);
  return dataHubObject(ctx.env, hub).fetch(toHub(ctx.request, 'client', { ...claim, terminalId }));
}

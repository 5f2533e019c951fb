/**
 * Links to look at one terminal. A link is a token of whoever made it: with a scope that names the terminal, narrowed to
 * the project of its session and to reading, and short-lived. It opens one socket and nothing else.
 */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { SessionId } from './session.ts';
import { TerminalId } from './terminal-parts.ts';

const count = z.int().nonnegative();
const prefix = 'terminal:view:';

/** What the token of a link is good for. */
export function toViewScope(sessionId: string, terminalId: string): string {
  return `${prefix}${sessionId}/${terminalId}`;
}

/** The terminal that a scope lets be looked at; undefined for another scope. */
export function parseViewScope(scope: string): { sessionId: string; terminalId: string } | undefined {
  if (!scope.startsWith(prefix)) return undefined;
  const [sessionId, terminalId, ...rest] = scope.slice(prefix.length).split('/');
  const session = SessionId.safeParse(sessionId).data;
  const terminal = TerminalId.safeParse(terminalId).data;
  return session === undefined || terminal === undefined || rest.length > 0
    ? undefined
    : { sessionId: session, terminalId: terminal };
}

/** Seconds that a link may live, and does when nobody says otherwise. */
export const linkTtl = { least: 60, most: 7 * 86_400, usual: 3_600 } as const;
/** Of one terminal at a time. */
export const maxTerminalLinks = 16;

export const TerminalLinkId = z.string().regex(idPattern('token'), 'must be the id of a link: tok_ and 26 characters');
export const NewTerminalLink = z
  .strictObject({ ttlSeconds: z.int().min(linkTtl.least).max(linkTtl.most).default(linkTtl.usual) })
  .meta({ id: 'NewTerminalLink' });
export const TerminalLink = z
  .object({
    id: z.string(),
    /** The first characters of its token. */
    prefix: z.string(),
    /** Who made it: it shows no more than that person may see. */
    userId: z.string(),
    email: z.string(),
    createdAtMs: count,
    expiresAtMs: count,
  })
  .meta({ id: 'TerminalLink' });
export type TerminalLink = z.infer<typeof TerminalLink>;
/** `token` is shown here alone. */
export const TerminalLinkCreated = TerminalLink.extend({ token: z.string() }).meta({ id: 'TerminalLinkCreated' });
/** Those that are good still, oldest first. */
export const TerminalLinkList = z.object({ items: z.array(TerminalLink) }).meta({ id: 'TerminalLinkList' });

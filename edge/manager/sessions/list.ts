/** Lists of sessions, from the read model, newest first. */
import { SessionState, terminalStates } from '../../../schema/api/session-parts.ts';
import type { Session, SessionListQuery } from '../../../schema/api/session.ts';
import { idPattern } from '../../../schema/ids.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { parseCursor, toCursor } from '../../http/page.ts';
import { requireProject } from '../accounts/service.ts';
import { groupNames } from './service.ts';
import { type ListFilter, type ListScope, listSessions } from './store.ts';
import { fromRow, toSession } from './view.ts';

/** A page of the sessions that the actor may see. A page may be short, or empty, and still have a next one. */
export async function listReachedSessions(
  ctx: UserCtx,
  query: SessionListQuery,
): Promise<{ items: Session[]; next?: string }> {
  const scope = await toScope(ctx, query.project);
  const filter = toFilter(ctx, query);
  const below = query.cursor === undefined ? undefined : parseBelow(query.cursor);
  const { rows, nextBelow } = await listSessions(ctx.env.DB, scope, filter, below, query.limit);
  const name = await groupNames(ctx);
  return {
    items: rows.map((row) => toSession(fromRow(row), name)),
    ...(nextBelow === undefined ? {} : { next: toCursor(nextBelow) }),
  };
}

/** Ids of the actor's own live sessions whose name begins so, newest first. */
export async function listOwnLive(ctx: UserCtx, namePrefix: string, limit: number): Promise<string[]> {
  const filter: ListFilter = { states: 'live', type: 'interactive', namePrefix, ownerId: ctx.actor.userId };
  const { rows } = await listSessions(ctx.env.DB, await toScope(ctx, undefined), filter, undefined, limit);
  return rows.map(({ id }) => id);
}

async function toScope(ctx: UserCtx, project: string | undefined): Promise<ListScope> {
  const { actor } = ctx;
  if (project !== undefined || actor.projectId !== undefined) {
    const { id } = await requireProject(ctx, 'project:read', project);
    return { kind: 'projects', ids: [id] };
  }
  if (actor.role === 'superadmin') return { kind: 'all' };
  if (actor.role === 'domain-admin') return { kind: 'domain', domainId: actor.domainId };
  return { kind: 'projects', ids: actor.projects.map(({ id }) => id) };
}

function toFilter(ctx: UserCtx, query: SessionListQuery): ListFilter {
  const { state, type, name, owner } = query;
  return {
    states: state === undefined ? undefined : parseStates(state),
    type,
    namePrefix: name,
    ownerId: owner === 'me' ? ctx.actor.userId : owner,
  };
}

/** `live`, or states separated by commas. */
function parseStates(text: string): ListFilter['states'] {
  if (text === 'live') return 'live';
  const names = text.split(',').map((each) => each.trim().toUpperCase());
  const states = new Set(names.map((name) => SessionState.safeParse(name).data));
  if (states.has(undefined) || states.size === 0)
    throw new Refusal('request_query_invalid', undefined, {
      issues: [{ path: 'state', message: `must be live, or one or more of ${SessionState.options.join(', ')}` }],
    });
  const wanted = [...states].filter((each) => each !== undefined);
  const live = SessionState.options.filter((each) => !(terminalStates as readonly string[]).includes(each));
  return live.length === wanted.length && live.every((each) => states.has(each)) ? 'live' : wanted;
}

function parseBelow(cursor: string): string {
  const below = parseCursor(cursor);
  if (idPattern('session').test(below)) return below;
  throw new Refusal('request_query_invalid', 'The cursor is not one of this list.', {
    issues: [{ path: 'cursor', message: 'not a cursor of this list' }],
  });
}

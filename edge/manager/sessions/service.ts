/**
 * The verbs of sessions. Who knows a session is asked in order: its ledger, admission, the read model. A number in an id
 * that the catalogue does not have is 404 before any object is touched; another tenant's session is the same 404.
 */
import { defaultOutputPolicy, isTerminal, type SessionState } from '../../../schema/api/session-parts.ts';
import type { NewSession, Session, SessionHistory } from '../../../schema/api/session.ts';
import { Refusal } from '../../../schema/errors.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import type { UserCtx } from '../../http/context.ts';
import { requireMatch } from '../../http/etag.ts';
import { type ProjectVerb, requireRole } from '../../http/permission.ts';
import { admissionObject, ledgerObject } from '../../platform/objects.ts';
import { findDomain, findGroup, getCatalogue, requireGroup } from '../accounts/catalogue.ts';
import { requireProject } from '../accounts/service.ts';
import { removeArchive } from '../archive/retention.ts';
import { toEntry } from '../audit/record.ts';
import type { Route, ShownSession } from '../scheduler/rpc.ts';
import { parseImageReference } from '../images/reference.ts';
import { checkFits } from './capacity.ts';
import { writeReadModel } from './read-model.ts';
import { toSlots } from './resources.ts';
import { findHistory, findListed } from './store.ts';
import { fromAdmission, fromRow, type SessionSource, toSession, toText, withGroup } from './view.ts';

/** A session's full description: more does not fit in admission's batches. */
const specBytes = 64 * 1024;
const defaultLeaseMs = 600_000;

/** Names of resource groups by number, as far as the catalogue knows. */
export async function groupNames(ctx: UserCtx): Promise<(number: number) => string> {
  const { groups } = await getCatalogue(ctx);
  return (number) => groups.find((each) => each.number === number)?.name ?? String(number);
}

/** Admits a session. Answers it as it is at that moment; `replayed` when the Idempotency-Key made it before. */
export async function createSession(ctx: UserCtx, input: NewSession): Promise<{ session: Session; replayed: boolean }> {
  const project = await requireProject(ctx, 'project:write', input.project);
  const group = await requireGroup(ctx, project, input.resourceGroup);
  const spec = toSpec(ctx, input, project.id);
  await checkFits(ctx, group, spec.slots);
  const { domains } = await getCatalogue(ctx);
  const domain = domains.find(({ id }) => id === project.domainId);
  if (!domain) throw new Refusal('project_not_found');
  const answer = await admissionObject(ctx.env, String(domain.number)).create(
    { id: domain.id, number: domain.number },
    {
      ...(ctx.idempotency ? { key: { actorId: ctx.actor.userId, ...ctx.idempotency } } : {}),
      groupNumber: group.number,
      spec,
      audit: toEntry(ctx, { action: 'session.create' }),
    },
  );
  if (answer.kind === 'refused') throw new Refusal(answer.code, answer.detail);
  if (answer.kind === 'replay') {
    const { source } = await require(ctx, answer.sessionId, 'project:read');
    return { session: toSession(source, await groupNames(ctx)), replayed: true };
  }
  return { session: toSession(fromAdmission(answer.session), await groupNames(ctx)), replayed: false };
}

function toSpec(ctx: UserCtx, input: NewSession, projectId: string): KernelSpec {
  const { digest } = parseImageReference(input.image);
  if (input.restartable && input.type === 'interactive')
    throw new Refusal('request_body_invalid', undefined, {
      issues: [{ path: 'restartable', message: 'only batch sessions may be placed again by themselves' }],
    });
  const spec: KernelSpec = {
    kernel: 'main1',
    projectId,
    ownerId: ctx.actor.userId,
    name: input.name ?? '',
    type: input.type,
    image: input.image,
    // Content that is named is pinned from the first moment; what a tag gives is pinned by the first agent that has it.
    ...(digest === undefined ? {} : { imageDigest: digest }),
    ...(input.command ? { command: input.command } : {}),
    env: input.env ?? {},
    stdin: input.stdin ?? false,
    tty: input.tty ?? false,
    slots: toSlots(input.resources),
    ...(input.timeoutMs === undefined ? {} : { timeoutMs: input.timeoutMs }),
    ...(input.restartable ? { leaseMs: input.restartable.leaseMs ?? defaultLeaseMs } : {}),
    output: toOutput(input.output),
  };
  if (new TextEncoder().encode(JSON.stringify(spec)).byteLength > specBytes)
    throw new Refusal(
      'request_body_too_large',
      `Command, environment and the rest of a session take at most ${specBytes} bytes. Put larger input into a file.`,
    );
  return spec;
}

function toOutput(wanted: NewSession['output']): KernelSpec['output'] {
  const { onFull, blockMs, spoolBytes } = defaultOutputPolicy;
  return {
    onFull: wanted?.onFull ?? onFull,
    blockMs: wanted?.blockMs ?? blockMs,
    spoolBytes: wanted?.spoolBytes ?? spoolBytes,
  };
}

/** Where a session is known. */
interface Found {
  source: SessionSource;
  groupNumber: number;
  domainNumber: number;
}

/** Who may know a session, by its id alone. */
interface Place {
  groupNumber: number;
  groupName: string;
  domainNumber: number;
}

/** Undefined when the catalogue lacks one of the id's numbers. */
async function placeOf(ctx: UserCtx, id: string): Promise<Place | undefined> {
  const numbers = parseSessionId(id);
  if (!numbers) return undefined;
  const { groupNumber, domainNumber } = numbers;
  const group = await findGroup(ctx, groupNumber);
  const domain = group && (await findDomain(ctx, domainNumber));
  return domain && { groupNumber, groupName: group.name, domainNumber };
}

async function find(ctx: UserCtx, id: string): Promise<Found | undefined> {
  const place = await placeOf(ctx, id);
  if (!place) return undefined;
  const { groupNumber, domainNumber } = place;
  const source = (await ledgerObject(ctx.env, groupNumber).get(id)) ?? (await findElsewhere(ctx, domainNumber, id));
  return source && { source, groupNumber, domainNumber };
}

/** A session that its ledger does not know: not yet, or no longer. */
async function findElsewhere(ctx: UserCtx, domainNumber: number, id: string): Promise<SessionSource | undefined> {
  return (await fromAdmissionObject(ctx, domainNumber, id)) ?? (await fromReadModel(ctx, id));
}

async function fromAdmissionObject(ctx: UserCtx, domainNumber: number, id: string): Promise<SessionSource | undefined> {
  const session = await admissionObject(ctx.env, String(domainNumber)).get(id);
  return session && fromAdmission(session);
}

async function fromReadModel(ctx: UserCtx, id: string): Promise<SessionSource | undefined> {
  const row = await findListed(ctx.env.DB, id);
  return row && fromRow(row);
}

/** A session that the actor may see, with its role checked. @throws Refusal `session_not_found`, `access_denied` */
async function require(ctx: UserCtx, id: string, verb: ProjectVerb): Promise<Found> {
  const found = await find(ctx, id);
  if (!found) throw new Refusal('session_not_found');
  const { projectId, domainId, ownerId } = found.source;
  const role = requireRole(ctx.actor, { id: projectId, domainId }, verb, 'session_not_found');
  if (verb !== 'project:read' && role === 'member' && ownerId !== ctx.actor.userId)
    throw new Refusal('access_denied', 'It belongs to somebody else; a project-admin may do this.');
  return found;
}

/** A session with its whole specification, which the API does not show. @throws Refusal as {@link deleteSession} */
export async function getSource(ctx: UserCtx, id: string, verb: ProjectVerb): Promise<SessionSource> {
  return (await require(ctx, id, verb)).source;
}

/**
 * Resolves with true when a session is in none of these states (any more); with false after `withinMs`, or at once where its
 * ledger can not tell: it is to be looked at again after a while.
 */
export async function whenLeft(
  { env }: UserCtx,
  id: string,
  states: readonly SessionState[],
  withinMs: number,
): Promise<boolean> {
  const place = parseSessionId(id);
  if (!place) return false;
  return ledgerObject(env, place.groupNumber)
    .left(id, states, withinMs)
    .catch(() => false);
}

/** A session as it is now, as JSON with its version: one call of an object for all that their ledgers know. */
export async function showSession(ctx: UserCtx, id: string): Promise<{ text: string; version: number }> {
  const place = await placeOf(ctx, id);
  const shown =
    place && ((await ledgerObject(ctx.env, place.groupNumber).show(id)) ?? (await showElsewhere(ctx, place, id)));
  if (!shown) throw new Refusal('session_not_found');
  requireRole(ctx.actor, { id: shown.projectId, domainId: shown.domainId }, 'project:read', 'session_not_found');
  return { text: withGroup(shown.text, place.groupName), version: shown.version };
}

async function showElsewhere(ctx: UserCtx, { domainNumber }: Place, id: string): Promise<ShownSession | undefined> {
  const source = await findElsewhere(ctx, domainNumber, id);
  if (!source) return undefined;
  const { domainId, projectId, version } = source;
  return { domainId, projectId, version, text: toText(source) };
}

/** Orders the end of a session. `ended`: it had ended already. Idempotent; a stronger order replaces a weaker one. */
export async function deleteSession(
  ctx: UserCtx,
  id: string,
  order: { force: boolean; graceMs: number; purge: boolean },
): Promise<{ session: Session; ended: boolean }> {
  const { source, groupNumber, domainNumber } = await require(ctx, id, 'project:write');
  requireMatch(ctx.request, source.version);
  const stop = { ...order, reason: 'stopped' };
  const { force, purge } = order;
  const entry = toEntry(ctx, { action: 'session.delete', objectId: id, details: { force, purge } });
  await admissionObject(ctx.env, String(domainNumber)).audit([entry]);
  let answer = await ledgerObject(ctx.env, groupNumber).terminate(id, stop);
  if (answer === 'unknown') {
    answer = await admissionObject(ctx.env, String(domainNumber)).terminate(id, stop);
    // Whoever has it takes its row away in turn; nobody does for one that is over for long.
    if (order.purge && answer === 'unknown') await writeReadModel(ctx.env.DB, [], [id]);
  }
  if (order.purge) await removeArchive(ctx, id, ctx.clock.nowMs());
  const now = (await find(ctx, id))?.source ?? source;
  return { session: toSession(now, await groupNames(ctx)), ended: answer !== 'accepted' };
}

export async function getHistory(ctx: UserCtx, id: string): Promise<SessionHistory> {
  const { groupNumber, domainNumber } = await require(ctx, id, 'project:read');
  const items =
    (await ledgerObject(ctx.env, groupNumber).history(id)) ??
    (await admissionObject(ctx.env, String(domainNumber)).get(id))?.history ??
    (await findHistory(ctx.env.DB, id));
  return { items: items ?? [] };
}

/** A session that the actor may read, also when there is nowhere to go. @throws Refusal `session_not_found` */
export async function requireReadable(ctx: UserCtx, id: string): Promise<SessionSource> {
  return (await require(ctx, id, 'project:read')).source;
}

/** Where the streams of a session go. @throws Refusal `session_not_found`, `access_denied`, or why there is nowhere to go */
export async function requireRoute(ctx: UserCtx, id: string, verb: ProjectVerb): Promise<Route> {
  const { source, groupNumber } = await require(ctx, id, verb);
  const route = await ledgerObject(ctx.env, groupNumber).route(id);
  if (route) return route;
  if (isTerminal(source.state)) throw new Refusal('session_output_gone', 'The session ended long ago, or never ran.');
  throw new Refusal('session_not_running', 'The session waits to be placed: try again when it runs.');
}

/**
 * Domains and resource groups by number, id and name, kept in the isolate for 5 s: every session and agent id names two of
 * them, and a number that is not here is refused before any object is touched (a guessed number would make an object).
 */
import { Refusal } from '../../../schema/errors.ts';
import type { Ctx, UserCtx } from '../../http/context.ts';
import { database } from '../../platform/database.ts';
import { type DomainRow, type GrantRow, type GroupRow, loadCatalogue } from './store.ts';

const keepMs = 5_000;
/** What is missing is looked for again only after this, so that guesses cost no D1 read each. */
const againMs = 500;

export interface Catalogue {
  domains: readonly DomainRow[];
  groups: readonly GroupRow[];
  grants: readonly GrantRow[];
}
let cached: (Catalogue & { atMs: number; env: Env; renewing: boolean }) | undefined;

/**
 * All domains and groups, at most `maxAgeMs` old. While one request renews what is too old for its own look-up, others go
 * on with it for as long again: they can not wait for each other, and each would read D1.
 */
export async function getCatalogue(ctx: Ctx, maxAgeMs = keepMs): Promise<Catalogue> {
  const known = cached?.env === ctx.env ? cached : undefined;
  const ageMs = known ? ctx.clock.bootMs() - known.atMs : Number.POSITIVE_INFINITY;
  if (known && (ageMs < maxAgeMs || (known.renewing && maxAgeMs === keepMs && ageMs < 2 * keepMs))) return known;
  if (known) known.renewing = true;
  try {
    const atMs = ctx.clock.bootMs();
    cached = { ...(await loadCatalogue(database(ctx.env))), atMs, env: ctx.env, renewing: false };
    return cached;
  } finally {
    if (known) known.renewing = false;
  }
}

/** Makes the next look-up of this isolate read again; for the writer of a domain or group. */
export function expireCatalogue(): void {
  cached = undefined;
}

async function find<Row>(ctx: Ctx, pick: (catalogue: Catalogue) => Row | undefined): Promise<Row | undefined> {
  return pick(await getCatalogue(ctx)) ?? pick(await getCatalogue(ctx, againMs));
}

export function findGroup(ctx: Ctx, number: number): Promise<GroupRow | undefined> {
  return find(ctx, ({ groups }) => groups.find((each) => each.number === number));
}
/** By name or id. */
export function findGroupNamed(ctx: Ctx, name: string): Promise<GroupRow | undefined> {
  return find(ctx, ({ groups }) => groups.find((each) => each.name === name || each.id === name));
}
export function findDomain(ctx: Ctx, number: number): Promise<DomainRow | undefined> {
  return find(ctx, ({ domains }) => domains.find((each) => each.number === number));
}
/** By name or id. */
export function findDomainNamed(ctx: Ctx, name: string): Promise<DomainRow | undefined> {
  return find(ctx, ({ domains }) => domains.find((each) => each.name === name || each.id === name));
}

/** True when sessions of the project may run in the group. */
export function isGranted(
  catalogue: Catalogue,
  groupNumber: number,
  project: { id: string; domainId: string },
): boolean {
  return catalogue.grants.some(
    (grant) =>
      grant.groupNumber === groupNumber &&
      grant.domainId === project.domainId &&
      (grant.projectId === '' || grant.projectId === project.id),
  );
}

/** The group that a project's session runs in: the named one, else `default`, else the only one. 404 when it may not. */
export async function requireGroup(
  ctx: UserCtx,
  project: { id: string; domainId: string },
  named: string | undefined,
): Promise<GroupRow> {
  const pick = (catalogue: Catalogue) => {
    const usable = catalogue.groups.filter(({ number }) => isGranted(catalogue, number, project));
    if (named !== undefined) return usable.find((each) => each.name === named || each.id === named);
    return usable.find((each) => each.name === 'default') ?? (usable.length === 1 ? usable[0] : undefined);
  };
  const group = await find(ctx, pick);
  if (group) return group;
  throw new Refusal(
    'group_not_found',
    named === undefined ? 'Name a resource group that the project may use.' : undefined,
  );
}

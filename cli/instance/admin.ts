/**
 * The first administrator of an instance: made through the edge's bootstrap door, kept in `admin.json` (0600), signed in. What is
 * decided is on disk before it is asked for, so a crash at any point ends with credentials that work.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { z } from 'zod';

import { Bootstrapped, LoggedIn, TokenCreated } from '../../schema/api/account.ts';
import { saveContext } from '../config.ts';
import { CliFailure } from '../exit.ts';
import { type EdgeAddress, EdgeRefused, fetchEdge, postToEdge } from './edge-api.ts';
import { findJson, writeJson } from './files.ts';

export const Admin = z.object({
  url: z.string(),
  /** Pin of the server at `url`, over TLS. */
  pin: z.string().optional(),
  email: z.string(),
  password: z.string(),
  /** Absent until the edge has given one. */
  token: z.string().optional(),
  /** Where agents of this machine go. */
  resourceGroup: z.string().optional(),
});
export type Admin = z.infer<typeof Admin>;

export type AdminOptions = EdgeAddress & { file: string; bootstrapSecret: string };

export type Ensured = {
  admin: Admin;
  /** This call got the token: the CLI is to be signed in with it. */
  isNew: boolean;
  /** Neither token nor password of the file are good any more: somebody changed both. */
  isStale: boolean;
};

/** The administrator, made the first time; a token that was revoked is replaced by means of the password. */
export async function ensureAdmin({ file, url, pin, bootstrapSecret }: AdminOptions): Promise<Ensured> {
  const known = findJson(file, Admin);
  if (known?.token !== undefined) return renew(file, { ...known, url, pin }, known.url !== url || known.pin !== pin);
  const planned = known ?? { url, email: 'admin@causeway.local', password: randomBytes(18).toString('base64url') };
  if (!known) writeJson(file, planned);
  const edge = { url, pin };
  const made = await bootstrap(edge, bootstrapSecret, planned);
  if (!made && !known) {
    rmSync(file); // not its password
    throw new CliFailure(`${file} is gone, and this instance already has an administrator`, {
      hint: 'restore the file from a backup, or start over with: causeway down --purge',
    });
  }
  const token = made ? made.token : await tokenByPassword(edge, planned);
  const admin = { ...planned, ...edge, token, resourceGroup: made?.resourceGroup ?? 'default' };
  writeJson(file, admin);
  return { admin, isNew: true, isStale: false };
}

async function renew(file: string, admin: Admin, hasMoved: boolean): Promise<Ensured> {
  if (await isGood(admin)) {
    if (hasMoved) writeJson(file, admin);
    return { admin, isNew: hasMoved, isStale: false };
  }
  try {
    const renewed = { ...admin, token: await tokenByPassword(admin, admin) };
    writeJson(file, renewed);
    return { admin: renewed, isNew: true, isStale: false };
  } catch (error) {
    if (error instanceof EdgeRefused && error.httpStatus === 401) return { admin, isNew: false, isStale: true };
    throw error;
  }
}

/** False only when the edge says so: an edge that can not say leaves the token alone. */
async function isGood({ token, ...edge }: Admin): Promise<boolean> {
  const answer = await fetchEdge(edge)(new URL('/v1/whoami', edge.url), {
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(10_000),
  });
  await answer.body?.cancel();
  return answer.status !== 401;
}

/** Signs the CLI of this user in. A context of another control plane stays. */
export function signIn({ url, token, email, pin }: Admin): void {
  if (token !== undefined) saveContext({ url, token, email, ...(pin === undefined ? {} : { pin }) });
}

/** Undefined when there is an administrator already: a former run was cut before it wrote its token down. */
async function bootstrap(edge: EdgeAddress, secret: string, { email, password }: Admin) {
  try {
    const body = { email, password };
    const what = 'make the first administrator';
    return await postToEdge({ ...edge, path: '/v1/bootstrap', token: secret, body, answer: Bootstrapped, what });
  } catch (error) {
    if (error instanceof EdgeRefused && error.httpStatus === 409) return undefined;
    throw error;
  }
}

async function tokenByPassword({ url, pin }: EdgeAddress, { email, password }: Admin): Promise<string> {
  const login = await postToEdge({
    url,
    pin,
    path: '/v1/auth/login',
    body: { email, password },
    answer: LoggedIn,
    what: 'sign the administrator in',
  });
  const created = await postToEdge({
    url,
    pin,
    path: '/v1/tokens',
    token: login.token,
    body: { name: 'this machine' },
    answer: TokenCreated,
    what: 'make a token for this machine',
  });
  return created.token;
}

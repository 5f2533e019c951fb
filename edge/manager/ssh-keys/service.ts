/**
 * Public keys that a user uploads. They give no right: a stream to an SSH server is opened by a token, and these are keys
 * that may then sign in on it. So they are added without ceremony; a key that is taken away is a change of its user's rights.
 */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { Words } from '../../../schema/api/account.ts';
import type { NewSshKey, SshKey } from '../../../schema/api/ssh-key.ts';
import type { SshKeyRow } from '../../../schema/db/ssh-keys.ts';
import { Refusal } from '../../../schema/errors.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { UploadedKey } from '../../../schema/protocol/streams.ts';
import type { UserCtx } from '../../http/context.ts';
import { toBase64 } from '../../platform/base64.ts';
import { database } from '../../platform/database.ts';
import { isNarrowed } from '../accounts/manage-tokens.ts';
import { changeRights } from '../accounts/rights.ts';
import { audited, chainOf } from '../audit/record.ts';
import { parsePublicKey } from './public-key.ts';
import { deleteSshKey, insertSshKey, listSshKeyRows } from './store.ts';

function toSshKey({ id, name, publicKey, fingerprint, createdAtMs, expiresAtMs }: SshKeyRow): SshKey {
  const type = publicKey.slice(0, publicKey.indexOf(' '));
  return { id, name, type, fingerprint, createdAtMs, ...(expiresAtMs === null ? {} : { expiresAtMs }) };
}

/** Keys are the user's, so a token that is less than its user has nothing to do with them. */
function requireWhole({ actor }: UserCtx): void {
  if (isNarrowed(actor))
    throw new Refusal('access_denied', 'This token is narrowed to a project or role: use one that is not.');
}

/** Uploads a key of the actor. @throws Refusal `ssh_key_invalid`, `ssh_key_taken`, `ssh_key_limit`, `access_denied` */
export async function addSshKey(ctx: UserCtx, input: z.infer<typeof NewSshKey>): Promise<SshKey> {
  requireWhole(ctx);
  const parsed = parsePublicKey(input.publicKey);
  if (!parsed.ok) throw new Refusal('ssh_key_invalid', parsed.why);
  const { type, text, blob, comment } = parsed.key;
  const { userId, domainId } = ctx.actor;
  const nowMs = ctx.clock.nowMs();
  const row: SshKeyRow = {
    userId,
    fingerprint: `SHA256:${toBase64(createHash('sha256').update(blob).digest()).replace(/=+$/, '')}`,
    id: ctx.newId('sshKey'),
    name: input.name ?? Words.safeParse(comment).data ?? type,
    publicKey: text,
    createdAtMs: nowMs,
    expiresAtMs: input.ttlSeconds === undefined ? null : nowMs + input.ttlSeconds * 1000,
  };
  const details = { user: userId, name: row.name, fingerprint: row.fingerprint };
  const write = audited(ctx, { chain: await chainOf(ctx, domainId), action: 'ssh-key.add', objectId: row.id, details });
  const db = database(ctx.env);
  await insertSshKey(db, write, row);
  const rows = await listSshKeyRows(db, userId, nowMs);
  const made = rows.find(({ fingerprint }) => fingerprint === row.fingerprint);
  if (made?.id === row.id) return toSshKey(made);
  if (made) throw new Refusal('ssh_key_taken', `It is called ${made.name}.`);
  throw new Refusal('ssh_key_limit', `A user has at most ${limits.sshKeysPerUser}.`);
}

/** The actor's keys, oldest first. */
export async function listSshKeys(ctx: UserCtx): Promise<SshKey[]> {
  requireWhole(ctx);
  return (await listSshKeyRows(database(ctx.env), ctx.actor.userId, ctx.clock.nowMs())).map(toSshKey);
}

/**
 * Takes a key of the actor away. Nobody at the edge knows which key an open connection was signed in by, so all sockets of
 * the user are judged anew within 3 s: what can go on goes on, and its SSH connections end.
 * @throws Refusal `ssh_key_not_found`
 */
export async function removeSshKey(ctx: UserCtx, id: string): Promise<void> {
  requireWhole(ctx);
  const { userId, domainId } = ctx.actor;
  const db = database(ctx.env);
  const row = (await listSshKeyRows(db, userId, ctx.clock.nowMs())).find((each) => each.id === id);
  if (!row) throw new Refusal('ssh_key_not_found');
  const details = { user: userId, name: row.name, fingerprint: row.fingerprint };
  const write = audited(ctx, { chain: await chainOf(ctx, domainId), action: 'ssh-key.remove', objectId: id, details });
  await changeRights(ctx, { userId, outcome: 'changed' }, () => deleteSshKey(db, write, row));
}

/** The keys of a user that may sign in now, and for how long. */
export async function uploadedKeys(env: Env, userId: string, nowMs: number): Promise<UploadedKey[]> {
  const rows = await listSshKeyRows(database(env), userId, nowMs);
  return rows.map(({ publicKey, expiresAtMs }) => ({
    publicKey,
    ...(expiresAtMs === null ? {} : { validForMs: expiresAtMs - nowMs }),
  }));
}

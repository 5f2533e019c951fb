/** SQL of uploaded public keys of SSH. */
import { and, asc, eq, gt, isNull, lte, or, sql } from 'drizzle-orm';
import { sshKeys, type SshKeyRow } from '../../../schema/db/ssh-keys.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { Database, Write } from '../../platform/database.ts';

/** Writes the row, unless its user has the key or too many. The same id again changes nothing. */
export async function insertSshKey(db: Database, write: Write, row: SshKeyRow): Promise<void> {
  // What has expired neither counts nor stands in the way of the same key.
  await db.delete(sshKeys).where(and(eq(sshKeys.userId, row.userId), lte(sshKeys.expiresAtMs, row.createdAtMs)));
  const { userId, fingerprint, id, name, publicKey, createdAtMs, expiresAtMs } = row;
  await write([
    sql`INSERT INTO ssh_keys (user_id, fingerprint, id, name, public_key, created_at_ms, expires_at_ms)
      SELECT ${userId}, ${fingerprint}, ${id}, ${name}, ${publicKey}, ${createdAtMs}, ${expiresAtMs}
      WHERE (SELECT count(*) FROM ssh_keys WHERE user_id = ${userId}) < ${limits.sshKeysPerUser}
      ON CONFLICT DO NOTHING`,
  ]);
}

/** Those of a user that have not expired, oldest first. */
export function listSshKeyRows(db: Database, userId: string, nowMs: number): Promise<SshKeyRow[]> {
  return db
    .select()
    .from(sshKeys)
    .where(and(eq(sshKeys.userId, userId), or(isNull(sshKeys.expiresAtMs), gt(sshKeys.expiresAtMs, nowMs))))
    .orderBy(asc(sshKeys.id))
    .limit(limits.sshKeysPerUser);
}

export async function deleteSshKey(db: Database, write: Write, { userId, fingerprint }: SshKeyRow): Promise<void> {
  const gone = db.delete(sshKeys).where(and(eq(sshKeys.userId, userId), eq(sshKeys.fingerprint, fingerprint)));
  await write([gone.getSQL()]);
}

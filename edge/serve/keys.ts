/**
 * The root keys of a control plane on one machine: made once, 0600, never printed. Whoever has this file can make tokens and
 * read sealed secrets; whoever loses it must sign everybody in anew. It belongs in the backup.
 */
import { randomBytes } from 'node:crypto';
import { readOrMake } from './files.ts';

/** The content of the key file, CAUSEWAY_KEYS. */
export function readOrMakeKeys(file: string): string {
  const key = () => randomBytes(32).toString('base64url');
  return readOrMake(file, () => `${JSON.stringify({ hmac: [{ version: 1, key: key() }] })}\n`);
}

/** `keys` as the Worker gets them: with the public key of releases, whose private part it never sees. */
export function withReleaseKey(keys: string, publicKey: string): string {
  return JSON.stringify({ ...(JSON.parse(keys) as object), release: { publicKey } });
}

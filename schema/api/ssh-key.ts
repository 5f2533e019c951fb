/** Public keys of SSH that a user uploads, to sign in to sessions with. */
import { z } from 'zod';
import { Words } from './account.ts';

const count = z.int().nonnegative();

export const NewSshKey = z
  .strictObject({
    /** One line as `ssh-keygen` writes it into `id_ed25519.pub`: type, base64, and a comment. */
    publicKey: z.string().min(1).max(8192),
    /** Default: the comment of the key. */
    name: Words.optional(),
    /** It opens nothing after so many seconds; connections that it opened end then. */
    ttlSeconds: z.int().min(60).max(31_536_000).optional(),
  })
  .meta({ id: 'NewSshKey' });

export const SshKey = z
  .object({
    id: z.string(),
    name: z.string(),
    /** `ssh-ed25519`, `ecdsa-sha2-nistp256` ... */
    type: z.string(),
    /** As OpenSSH shows it: `SHA256:` and 43 characters of base64. */
    fingerprint: z.string(),
    createdAtMs: count,
    expiresAtMs: count.optional(),
  })
  .meta({ id: 'SshKey' });
export type SshKey = z.infer<typeof SshKey>;
export const SshKeyList = z.object({ items: z.array(SshKey) }).meta({ id: 'SshKeyList' });

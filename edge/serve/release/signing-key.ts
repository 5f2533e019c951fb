/**
 * The key that signs releases of the agent: Ed25519, made once for an instance, in a file of mode 0600 beside its other
 * keys. The private part is read by the program that makes a release and by nothing else; the public part goes to the
 * Worker and, at enrolment, to every agent. It belongs in the backup.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { z } from 'zod';
import { readOrMake } from '../files.ts';

const KeyFile = z.object({
  /** Raw, base64url. */
  publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  /** PKCS 8, base64url. */
  privateKey: z.string().min(1),
});
type KeyFile = z.infer<typeof KeyFile>;

/** The public key of the instance; makes the pair when there is none. @throws Error that names the file when it is damaged */
export function releasePublicKey(file: string): string {
  return readKey(file).publicKey;
}

/** Signs `text` for `file`'s key. Base64url. */
export function signRelease(file: string, text: string): string {
  const { privateKey } = readKey(file);
  const key: KeyObject = createPrivateKey({
    key: Buffer.from(privateKey, 'base64url'),
    format: 'der',
    type: 'pkcs8',
  });
  return sign(null, Buffer.from(text), key).toString('base64url');
}

/** @throws Error that names the file when it is damaged */
function readKey(file: string): KeyFile {
  const text = readOrMake(file, () => `${JSON.stringify(makeKey())}\n`);
  try {
    return KeyFile.parse(JSON.parse(text));
  } catch {
    throw new Error(`${file} is damaged. Take it from a backup: agents trust what this key signed, and no other.`);
  }
}

function makeKey(): KeyFile {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return {
    publicKey: publicKey.export({ format: 'jwk' }).x ?? '',
    privateKey: privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
  };
}

/** Ids of processes that follow from what they are, so that each is started only once. Pure but for hashing. */
import { createHash } from 'node:crypto';

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

/** Always the same for the same text. */
export function derivedProcessId(text: string): string {
  const digest = createHash('sha256').update(text).digest();
  return `prc_${Array.from(digest.subarray(0, 26), (byte) => alphabet[byte & 31]).join('')}`;
}

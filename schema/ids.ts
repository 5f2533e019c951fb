/**
 * Ids: prefixed, sortable by birth, safe in URLs, container names and file names.
 * `<prefix>_<26 characters of Crockford base32>`: 48 bits of Unix milliseconds, then 80 random bits (as in ULID).
 * A session's id ends in the numbers of its ledger (resource group) and its domain, an agent's in its ledger's, so that
 * their owner is found without a database.
 */

/** The only table of prefixes. */
export const idPrefixes = {
  agent: 'agt',
  attempt: 'att',
  audit: 'aud',
  call: 'cal',
  domain: 'dom',
  event: 'evt',
  intent: 'int',
  joinToken: 'jtk',
  journal: 'jrn',
  kernel: 'krn',
  process: 'prc',
  project: 'prj',
  request: 'req',
  resourceGroup: 'rgp',
  session: 'ses',
  sshKey: 'key',
  terminal: 'trm',
  token: 'tok',
  user: 'usr',
  /** Of a container that an agent starts in advance. */
  warm: 'wrm',
} as const;
export type IdKind = keyof typeof idPrefixes;

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

/** The low `characters` x 5 bits of an integer below 2^31. */
function encodeInt(value: number, characters: number): string {
  let text = '';
  for (let shift = (characters - 1) * 5; shift >= 0; shift -= 5) text += alphabet[(value >> shift) & 31];
  return text;
}

/** Encodes `nowMs` (48 bits) and 10 random bytes as 26 characters. */
function encodeBody(nowMs: number, random: Uint8Array): string {
  // Halves: integers of more than 31 bits are slow to shift.
  let text = encodeInt(Math.floor(nowMs / 2 ** 25), 5) + encodeInt(nowMs % 2 ** 25, 5);
  let bits = 0;
  let held = 0;
  for (let at = 0; at < 10; at += 1) {
    held = (held << 8) | random[at]!;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(held >> bits) & 31];
    }
    held &= (1 << bits) - 1;
  }
  return text;
}

/** Makes an id of `kind`. `random` holds at least 10 unpredictable bytes. */
export function newId(kind: IdKind, nowMs: number, random: Uint8Array): string {
  return `${idPrefixes[kind]}_${encodeBody(nowMs, random)}`;
}

/** Makes a session id that ends in its ledger's and its domain's numbers. */
export function newSessionId(nowMs: number, random: Uint8Array, groupNumber: number, domainNumber: number): string {
  return `${newId('session', nowMs, random)}_${groupNumber}_${domainNumber}`;
}

/** Makes an agent id that ends in its ledger's number. */
export function newAgentId(nowMs: number, random: Uint8Array, groupNumber: number): string {
  return `${newId('agent', nowMs, random)}_${groupNumber}`;
}

const patterns = new Map<IdKind, RegExp>();

/** A pattern for ids of `kind`, to be used by zod schemas. */
export function idPattern(kind: IdKind): RegExp {
  const known = patterns.get(kind);
  if (known) return known;
  const tail = kind === 'session' ? '_[1-9][0-9]{0,8}_[1-9][0-9]{0,8}' : kind === 'agent' ? '_[1-9][0-9]{0,8}' : '';
  const pattern = new RegExp(`^${idPrefixes[kind]}_[0-9a-hjkmnp-tv-z]{26}${tail}$`);
  patterns.set(kind, pattern);
  return pattern;
}

/** The ledger's and the domain's numbers of a session id, or undefined when `id` is not one. */
export function parseSessionId(id: string): { groupNumber: number; domainNumber: number } | undefined {
  if (!idPattern('session').test(id)) return undefined;
  const [, , group, domain] = id.split('_');
  return { groupNumber: Number(group), domainNumber: Number(domain) };
}

/** The ledger's number of an agent id, or undefined when `id` is not one. */
export function parseAgentId(id: string): { groupNumber: number } | undefined {
  return idPattern('agent').test(id) ? { groupNumber: Number(id.split('_')[2]) } : undefined;
}

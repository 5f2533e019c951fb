/** Putting a control plane right after its storage was put back, on the wire. */
import { z } from 'zod';

const count = z.int().nonnegative();
const id = z.string().max(64);
/** Of each kind: as many as a body of 16 MiB holds. */
const mostRevoked = 270_000;

/** What was shut out after a snapshot, known from elsewhere than the storage that was put back. */
export const Revocations = z.strictObject({
  tokens: z.array(z.strictObject({ id, atMs: count })).max(mostRevoked),
  /** Switched off. */
  users: z.array(id).max(mostRevoked),
  agents: z.array(z.strictObject({ id, atMs: count })).max(mostRevoked),
});
export type Revocations = z.infer<typeof Revocations>;

export const Restored = z
  .strictObject({
    /** The moment that the storage is of, Unix ms. */
    snapshotAtMs: count,
    revocations: Revocations,
  })
  .meta({ id: 'Restored' });
export type Restored = z.infer<typeof Restored>;

export const Rebuild = z
  .strictObject({
    /** Says what would change, and changes nothing. */
    dryRun: z.boolean().default(false),
  })
  .meta({ id: 'Rebuild' });

const change = z.object({ before: count, after: count });

/** What was put right. With `dryRun`: what would be. */
export const RebuildReport = z
  .object({
    dryRun: z.boolean(),
    revoked: z.object({ tokens: count, users: count, agents: count }),
    readModel: z.object({
      /** Rows of sessions that were behind their ledger. */
      written: count,
      /** Rows of sessions that nobody knows any more: shown as ended. */
      closed: count,
    }),
    ledgers: z.object({
      /** Ledgers that had lost everything and began anew. */
      begun: z.array(z.string()),
      /** Agents that they were told of. */
      agents: count,
      /** Sessions that they had lost, or knew an older state of, taken from the read model. */
      recalled: count,
    }),
    admission: z.object({
      /** Live sessions whose name and quota nobody held. */
      claimed: count,
      /** Names and quota held for sessions that are over. */
      released: count,
      /** Projects whose count of sessions was wrong. */
      projects: z.array(z.object({ projectId: z.string(), live: change, waiting: change })),
    }),
  })
  .meta({ id: 'RebuildReport' });
export type RebuildReport = z.infer<typeof RebuildReport>;

/** What a machine holds of a session that nobody knows any more. */
export const Orphan = z
  .object({
    agentId: z.string(),
    agentName: z.string(),
    sessionId: z.string(),
    generation: count,
    state: z.enum(['present', 'running', 'ended']),
  })
  .meta({ id: 'Orphan' });
export const OrphanList = z.object({ items: z.array(Orphan) }).meta({ id: 'OrphanList' });
export type OrphanList = z.infer<typeof OrphanList>;

/** Sessions on the wire. */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { pageOf, PageQuery } from './page.ts';
import { Argument, EnvName, OutputPolicy, SessionState, SessionType } from './session-parts.ts';

export const SessionName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be 1 to 63 of a-z, 0-9 and -, no - at either end: train-7');
export const SessionId = z
  .string()
  .regex(idPattern('session'), 'must be the id of a session, as lists show it: ses_, 26 characters, _1_1');
const count = z.int().nonnegative();

const anAmount = 'must be an amount: 0.5 or 4 of cpu, 512m or 4g of mem, a whole number of anything else';

/**
 * What a session asks for. `cpu` in cores ("0.5" or 0.5), `mem` in bytes or with a binary suffix ("512m", "2g"); other
 * slot names are integers. Turned into integer base units once, at the wall.
 */
export const ResourceRequest = z
  .record(
    z.string().regex(/^[a-z][a-z0-9.-]{0,62}$/, 'must be the name of a resource: cpu, mem, cuda.device'),
    z.union(
      [
        z.number().nonnegative().max(Number.MAX_SAFE_INTEGER),
        z.string().regex(/^[0-9]{1,15}(\.[0-9]{1,6})?[kmgtKMGT]?[iI]?[bB]?$/, anAmount),
      ],
      anAmount,
    ),
  )
  .meta({ id: 'ResourceRequest' });
export type ResourceRequest = z.infer<typeof ResourceRequest>;

export const NewSession = z
  .strictObject({
    name: SessionName.optional(),
    project: z.string().max(64).optional(),
    type: SessionType,
    image: z.string().min(1, 'must name an image: causeway/python').max(512),
    command: z.array(Argument).min(1).max(1024).optional(),
    env: z.record(EnvName, Argument.max(32_768)).optional(),
    /** The main process has a standard input that clients write to. */
    stdin: z.boolean().optional(),
    /** The main process has a terminal. */
    tty: z.boolean().optional(),
    resources: ResourceRequest.optional(),
    resourceGroup: z.string().max(64).optional(),
    timeoutMs: z.int().min(1000).max(31_536_000_000).optional(),
    restartable: z.strictObject({ leaseMs: z.int().min(60_000).max(86_400_000).optional() }).optional(),
    output: OutputPolicy.partial().optional(),
  })
  .meta({ id: 'NewSession' });
export type NewSession = z.infer<typeof NewSession>;

/** Why a session is in its state. `code` is stable; `detail` is for people (the blocking resource, the nearest fit ...). */
export const StateReason = z.strictObject({ code: z.string(), detail: z.string().optional() });
export type StateReason = z.infer<typeof StateReason>;

export const SessionResult = z.strictObject({
  exitCode: z.int().optional(),
  signal: z.string().optional(),
  reason: z.string(),
});

export const Session = z
  .object({
    id: SessionId,
    name: z.string(),
    type: SessionType,
    domainId: z.string(),
    projectId: z.string(),
    ownerId: z.string(),
    resourceGroup: z.string(),
    image: z.string(),
    imageDigest: z.string().optional(),
    command: z.array(z.string()).optional(),
    stdin: z.boolean(),
    tty: z.boolean(),
    resources: z.record(z.string(), count),
    state: SessionState,
    reason: StateReason.optional(),
    /** Of a running session whose agent starts containers in advance: whether it got one, and why not. */
    start: z.object({ warm: z.boolean(), reason: StateReason.optional() }).optional(),
    generation: count,
    version: count,
    agentId: z.string().optional(),
    agentName: z.string().optional(),
    /** Live progress of a wait (pull, create), never stored. */
    progress: z
      .object({ phase: z.string(), detail: z.string(), doneBytes: count.optional(), totalBytes: count.optional() })
      .optional(),
    result: SessionResult.optional(),
    createdAtMs: count,
    startedAtMs: count.optional(),
    endedAtMs: count.optional(),
    restartable: z.object({ leaseMs: count }).optional(),
    timeoutMs: count.optional(),
    output: OutputPolicy,
  })
  .meta({ id: 'Session' });
export type Session = z.infer<typeof Session>;

export const SessionPage = pageOf(Session).meta({ id: 'SessionPage' });
export const SessionListQuery = PageQuery.extend({
  /** Comma-separated states; `live` stands for all that are not terminal. */
  state: z.string().max(256).optional(),
  type: SessionType.optional(),
  name: z.string().max(63).optional(),
  owner: z.string().max(64).optional(),
  project: z.string().max(64).optional(),
});
export type SessionListQuery = z.infer<typeof SessionListQuery>;

export const SessionHistory = z
  .object({
    items: z.array(
      z.object({
        version: count,
        state: SessionState,
        generation: count,
        reason: StateReason.optional(),
        agentId: z.string().optional(),
        atMs: count,
      }),
    ),
  })
  .meta({ id: 'SessionHistory' });
export type SessionHistory = z.infer<typeof SessionHistory>;

export const SessionDeleteQuery = z.strictObject({
  force: z.enum(['true', 'false']).default('false'),
  /** Remove the session's home and kept output too, and leave it out of lists. */
  purge: z.enum(['true', 'false']).default('false'),
  graceMs: z.coerce.number().int().min(0).max(3_600_000).default(10_000).meta({ type: 'integer' }),
});

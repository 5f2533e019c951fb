/** A session as the API shows it, whoever knows it: its ledger, admission, or the read model. Pure. */
import { Start } from '../../../schema/api/session-parts.ts';
import type { Session } from '../../../schema/api/session.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import type { AdmissionSession } from '../admission/rpc.ts';
import type { LedgerSession } from '../scheduler/rpc.ts';

/** What all sources have in common. */
export type SessionSource = Omit<LedgerSession, 'state'> & { state: Session['state'] };

export function fromAdmission(session: AdmissionSession): SessionSource {
  const { groupNumber: _, history: __, ...source } = session;
  const { imageDigest } = source.spec;
  return imageDigest === undefined ? source : { ...source, imageDigest };
}

/** A row of D1 without its history. */
export function fromRow(row: Omit<SessionRow, 'history'>): SessionSource {
  const { id, domainId, projectId, ownerId, state, generation, version, createdAtMs, spec } = row;
  return {
    sessionId: id,
    domainId,
    projectId,
    ownerId,
    state,
    generation,
    version,
    createdAtMs,
    spec,
    ...(row.reason === null ? {} : { reason: row.reason }),
    ...(row.agentId === null ? {} : { agentId: row.agentId }),
    ...(row.agentName === null ? {} : { agentName: row.agentName }),
    ...(row.imageDigest === null ? {} : { imageDigest: row.imageDigest }),
    ...(row.startedAtMs === null ? {} : { startedAtMs: row.startedAtMs }),
    ...(row.endedAtMs === null ? {} : { endedAtMs: row.endedAtMs }),
    ...(row.result === null ? {} : { result: row.result as NonNullable<SessionSource['result']> }),
  };
}

/** `groupName` tells the name of a resource group by its number. */
export function toSession(source: SessionSource, groupName: (number: number) => string): Session {
  return { ...describe(source), resourceGroup: groupName(parseSessionId(source.sessionId)?.groupNumber ?? 0) };
}

/** The same as text, of all but the resource group: {@link withGroup} completes it. */
export function toText(source: SessionSource): string {
  return JSON.stringify(describe(source));
}

/** Adds the name of the resource group to what {@link toText} made. */
export function withGroup(text: string, groupName: string): string {
  return `${text.slice(0, -1)},"resourceGroup":${JSON.stringify(groupName)}}`;
}

function describe(source: SessionSource): Omit<Session, 'resourceGroup'> {
  const { sessionId, spec, domainId, projectId, ownerId, state, generation, version, createdAtMs } = source;
  return {
    id: sessionId,
    name: spec.name,
    type: spec.type,
    domainId,
    projectId,
    ownerId,
    image: spec.image,
    stdin: spec.stdin,
    tty: spec.tty,
    resources: spec.slots,
    state,
    generation,
    version,
    createdAtMs,
    output: spec.output,
    ...lifeOf(source),
    ...wishesOf(spec),
  };
}

function lifeOf(source: SessionSource): Partial<Session> {
  const { reason, agentId, agentName, imageDigest, progress, result, startedAtMs, endedAtMs } = source;
  const start = startOf(reason);
  return {
    ...(start ? { start } : reason ? { reason } : {}),
    ...(agentId === undefined ? {} : { agentId }),
    ...(agentName === undefined ? {} : { agentName }),
    ...(imageDigest === undefined ? {} : { imageDigest }),
    ...(progress ? { progress } : {}),
    ...(result ? { result } : {}),
    ...(startedAtMs === undefined ? {} : { startedAtMs }),
    ...(endedAtMs === undefined ? {} : { endedAtMs }),
  };
}

/** Of a reason that says how it was started, and nothing that anybody has to know. */
function startOf(reason: Session['reason']): Session['start'] {
  if (reason === undefined || !Start.safeParse(reason.code).success) return undefined;
  return reason.code === ('started-warm' satisfies Start) ? { warm: true } : { warm: false, reason };
}

function wishesOf({ command, leaseMs, timeoutMs }: KernelSpec): Partial<Session> {
  return {
    ...(command ? { command } : {}),
    ...(leaseMs === undefined ? {} : { restartable: { leaseMs } }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
}

/** From what a ledger keeps to what it answers. Pure. */
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { AgentEntry } from './heap.ts';
import type { LedgerAgent, LedgerSession } from './rpc.ts';

/** What stands beside a session's row. */
export interface Beside {
  spec: KernelSpec;
  agentName: string | undefined;
  /** Of a session that waits: what the ledger thinks now, not what it once noted. */
  why: LedgerSession['reason'];
  progress: LedgerSession['progress'];
}

export function toLedgerSession(row: SessionRow, { spec, agentName, why, progress }: Beside): LedgerSession {
  const { sessionId, domainId, projectId, ownerId, state, generation, version, createdAtMs } = row;
  const reason = why ?? row.reason;
  return {
    sessionId,
    domainId,
    projectId,
    ownerId,
    state,
    generation,
    version,
    createdAtMs,
    spec,
    ...(reason ? { reason } : {}),
    ...(row.agentId === null ? {} : { agentId: row.agentId }),
    ...(agentName === undefined ? {} : { agentName }),
    ...(row.imageDigest === null ? {} : { imageDigest: row.imageDigest }),
    ...(progress && state !== 'RUNNING' ? { progress } : {}),
    ...(row.result === null ? {} : { result: toResult(row.result) }),
    ...(row.startedAtMs === null ? {} : { startedAtMs: row.startedAtMs }),
    ...(row.endedAtMs === null ? {} : { endedAtMs: row.endedAtMs }),
  };
}

function toResult(result: NonNullable<SessionRow['result']>): NonNullable<LedgerSession['result']> {
  const { reason, exitCode, signal } = result;
  return {
    reason,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
  };
}

export function toLedgerAgent({ row, used, held, seenAtMs }: AgentEntry): LedgerAgent {
  const { agentId, name, controlHub, approved, state, draining, approval, reachable } = row;
  const lastSeenAtMs = seenAtMs ?? row.lastSeenAtMs;
  return {
    agentId,
    name,
    controlHub,
    approved,
    state,
    draining,
    approval,
    reachable,
    offered: row.offered ?? {},
    reserved: Object.fromEntries(Object.entries(used).filter(([, amount]) => amount > 0)),
    sessions: held,
    ...(row.epoch === null ? {} : { epoch: row.epoch }),
    ...(row.agentVersion === null ? {} : { agentVersion: row.agentVersion }),
    ...(row.connectedAtMs === null ? {} : { connectedAtMs: row.connectedAtMs }),
    ...(lastSeenAtMs === null ? {} : { lastSeenAtMs }),
    ...(row.reason === null ? {} : { reason: row.reason }),
  };
}

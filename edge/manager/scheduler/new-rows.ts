/** Rows of what a ledger has just learned of. Pure. */
import type { AgentRow } from '../../../schema/ledger/agents.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { AdmittedSession, EnrolledAgent } from './rpc.ts';
import { toShape } from './slots.ts';

/** An agent that never said hello. */
export function newAgentRow(agent: EnrolledAgent): AgentRow {
  const { agentId, name, controlHub, approved, state, draining, approval } = agent;
  return {
    agentId,
    name,
    controlHub,
    approved,
    state,
    draining,
    approval,
    offered: null,
    reason: null,
    epoch: null,
    joinCounter: 0,
    attemptId: null,
    joinIncarnation: 0,
    journalId: null,
    ackedIndex: 0,
    reachable: false,
    silentSinceMs: null,
    fencedAtMs: null,
    fencing: false,
    connectedAtMs: null,
    agentVersion: null,
    lastSeenAtMs: null,
  };
}

/** A session that waits. */
export function newSessionRow(session: AdmittedSession): SessionRow {
  const { sessionId, domainId, domainNumber, projectId, ownerId, createdAtMs, trail, spec } = session;
  const last = trail.at(-1);
  return {
    sessionId,
    domainId,
    domainNumber,
    projectId,
    ownerId,
    createdAtMs,
    state: 'PENDING',
    cameFrom: null,
    reason: null,
    generation: 1,
    version: last?.version ?? 0,
    seq: 1,
    shape: toShape(spec.slots),
    agentId: null,
    imageDigest: spec.imageDigest ?? null,
    attempts: 0,
    avoid: [],
    again: null,
    stop: null,
    purge: false,
    deadlineMs: null,
    moving: 0,
    leaseMs: spec.leaseMs ?? null,
    result: null,
    startedAtMs: null,
    endedAtMs: null,
    endSeq: null,
    holds: [],
    trail: [...trail],
  };
}

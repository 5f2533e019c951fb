/**
 * The invariants as pure rules over what was seen, without any I/O: the same for the real stack (`invariants.ts`), for
 * chaos and for the simulator. Each returns what does not hold, one sentence each; empty is good.
 */
import type { Session } from '../../schema/api/session.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';

/** What an engine did with one container, from its birth to its removal. */
export interface ContainerLife {
  containerId: string;
  name: string;
  sessionId: string;
  generation: number;
  createdMs?: number;
  /** Once for each start; an end is missing while it runs. */
  runs: { startMs: number; endMs?: number }[];
  removedMs?: number;
}

/** A container on an engine right now; those of nobody's session have no `sessionId`. */
export interface Container {
  sessionId: string | undefined;
  name: string;
  running: boolean;
}

export interface Network {
  sessionId: string | undefined;
  name: string;
}

/** What the ledger holds reserved on an agent. */
export interface AgentOnLedger {
  id: string;
  reserved: Record<string, number>;
}

type Sessions = ReadonlyMap<string, Pick<Session, 'id' | 'state' | 'agentId' | 'resources'>>;

/** [I1] and [I6]: overlapping runs, older generations after newer ones, and a generation that was started twice. */
export function runFaults(lives: readonly ContainerLife[]): string[] {
  const faults: string[] = [];
  for (const [sessionId, ofSession] of Map.groupBy(lives, ({ sessionId: id }) => id)) {
    const runs = ofSession
      .flatMap(({ name, generation, runs: each }) => each.map((run) => ({ name, generation, ...run })))
      .toSorted((a, b) => a.startMs - b.startMs);
    for (const [at, run] of runs.entries()) {
      const next = runs[at + 1];
      if (next === undefined) continue;
      if (run.endMs === undefined || run.endMs > next.startMs)
        faults.push(`[I1] ${run.name} and ${next.name} of ${sessionId} ran at once`);
      if (next.generation < run.generation) faults.push(`[I1] ${next.name} started after the newer ${run.name}`);
      if (next.generation === run.generation)
        faults.push(`[I6] generation ${run.generation} of ${sessionId} was started twice`);
    }
  }
  return faults;
}

/** [I5] and [I6]: lines of a counter that are missing, doubled or out of order; a begin that is not the only one. */
export function counterFaults(output: string): string[] {
  const lines = output.split('\n');
  lines.pop(); // not whole yet, or empty
  if (lines.length === 0) return ['[I5] no output'];
  const begins = lines.filter((line) => line === 'begin').length;
  if (begins > 1) return [`[I6] the command began ${begins} times`];
  if (lines[0] !== 'begin') return [`[I5] output begins with ${JSON.stringify(lines[0])}`];
  const wrong = lines.slice(1).findIndex((line, at) => line !== String(at + 1));
  return wrong < 0 ? [] : [`[I5] line ${wrong + 2} is ${JSON.stringify(lines[wrong + 1])} instead of ${wrong + 1}`];
}

/** Where what runs differs from what should: a running session has one container, one that is over has none. */
export function containerFaults(sessions: Sessions, containers: readonly Container[]): string[] {
  const faults: string[] = [];
  const running = new Map<string, string[]>();
  for (const { sessionId, name, running: runs } of containers) {
    if (sessionId === undefined) continue;
    if (!runs) faults.push(`${name} is left over, not running`);
    else running.set(sessionId, [...(running.get(sessionId) ?? []), name]);
  }
  for (const { id, state } of sessions.values()) {
    const names = running.get(id) ?? [];
    if (state === 'RUNNING' && names.length !== 1) faults.push(`${id} is RUNNING with ${names.length} containers`);
    if (isTerminal(state) && names.length > 0) faults.push(`${id} is ${state} and ${names.join()} runs`);
  }
  for (const id of running.keys()) if (!sessions.has(id)) faults.push(`a container of the unknown session ${id} runs`);
  return faults;
}

/** Networks that belong to a session which is over. */
export function networkFaults(sessions: Sessions, networks: readonly Network[]): string[] {
  return networks.flatMap(({ sessionId, name }) => {
    if (sessionId === undefined) return [];
    const session = sessions.get(sessionId);
    return session === undefined || isTerminal(session.state)
      ? [`the network ${name} of ${sessionId} is left over`]
      : [];
  });
}

/** Where the ledger holds another amount reserved than its live sessions have. */
export function reservationFaults(sessions: Sessions, agents: readonly AgentOnLedger[]): string[] {
  return agents.flatMap(({ id, reserved }) => {
    const live = [...sessions.values()].filter((session) => session.agentId === id && !isTerminal(session.state));
    return Object.entries(reserved).flatMap(([slot, amount]) => {
      const expected = live.reduce((sum, session) => sum + (session.resources[slot] ?? 0), 0);
      return amount === expected ? [] : [`${id} has ${amount} ${slot} reserved and sessions for ${expected}`];
    });
  });
}

/** An agent's own list of its sessions against the ledger's: both ways. */
export function inventoryFaults(
  agentId: string,
  sessions: Sessions,
  inventory: readonly { sessionId: string; state: string }[],
): string[] {
  const faults: string[] = [];
  const held = new Map(inventory.map((item) => [item.sessionId, item.state]));
  for (const [sessionId, state] of held) {
    const session = sessions.get(sessionId);
    if (session === undefined) faults.push(`${agentId} holds ${sessionId}, of which the ledger knows nothing`);
    else if (state === 'running' && (session.state !== 'RUNNING' || session.agentId !== agentId))
      faults.push(`${agentId} runs ${sessionId}, which is ${session.state} on ${session.agentId ?? 'no agent'}`);
  }
  for (const { id, state, agentId: placed } of sessions.values())
    if (state === 'RUNNING' && placed === agentId && held.get(id) !== 'running')
      faults.push(`${id} is RUNNING on ${agentId}, which says ${held.get(id) ?? 'nothing'} of it`);
  return faults;
}

/** Rows as a ledger makes them, for tests that care about few of their columns. */
import { newAgentRow, newSessionRow } from '../../../edge/manager/scheduler/new-rows.ts';
import type { AgentRow } from '../../../schema/ledger/agents.ts';
import type { SessionRow } from '../../../schema/ledger/sessions.ts';
import type { KernelSpec } from '../../../schema/protocol/intents.ts';

export const anySpec: KernelSpec = {
  kernel: 'main1',
  projectId: 'prj_00000000000000000000000001',
  ownerId: 'usr_00000000000000000000000001',
  name: 'any',
  type: 'batch',
  image: 'busybox',
  command: ['true'],
  env: {},
  stdin: false,
  tty: false,
  slots: { cpu: 1000, mem: 1024 ** 3 },
  output: { onFull: 'block', blockMs: 600_000, spoolBytes: 64 * 1024 ** 2 },
};

export function anySession(sessionId: string): SessionRow {
  return newSessionRow({
    sessionId,
    domainId: 'dom_00000000000000000000000001',
    domainNumber: 1,
    projectId: anySpec.projectId,
    ownerId: anySpec.ownerId,
    createdAtMs: 1,
    trail: [],
    spec: anySpec,
  });
}

export function anyAgentRow(agentId: string): AgentRow {
  return newAgentRow({
    agentId,
    name: agentId,
    controlHub: '0',
    approved: anySpec.slots,
    state: 'active',
    draining: false,
    approval: 1,
  });
}

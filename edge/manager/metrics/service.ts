/**
 * Numbers for Prometheus, read from the objects that own them: an isolate counts only what it saw itself. A group whose
 * ledger does not answer is missing from this scrape, and said so by `causeway_ledger_up`.
 */
import type { UserCtx } from '../../http/context.ts';
import { dataHubObject, ledgerObject } from '../../platform/objects.ts';
import { dataHubName } from '../../tunnel/tickets.ts';
import { getCatalogue } from '../accounts/catalogue.ts';
import type { LedgerAgent, LedgerStats } from '../scheduler/rpc.ts';
import { type Family, type Sample, toExposition } from './exposition.ts';
import { describeError } from '../../platform/log.ts';

interface Group {
  group: string;
  stats: LedgerStats | undefined;
  agents: LedgerAgent[];
}

async function readGroup(ctx: UserCtx, number: number, group: string): Promise<Group> {
  const ledger = ledgerObject(ctx.env, number);
  try {
    const [stats, agents] = await Promise.all([ledger.stats(), ledger.agents()]);
    return { group, stats, agents };
  } catch (error) {
    ctx.log.warn('a ledger does not answer', { group: number, error: describeError(error).cause });
    return { group, stats: undefined, agents: [] };
  }
}

/** The whole answer of `/metrics`. */
export async function scrape(ctx: UserCtx): Promise<string> {
  const { groups } = await getCatalogue(ctx);
  const read = await Promise.all(groups.map(({ number, name }) => readGroup(ctx, number, name)));
  return toExposition([...ledgerFamilies(read), ...agentFamilies(read), ...(await hubFamilies(ctx, read))]);
}

function ledgerFamilies(groups: readonly Group[]): Family[] {
  const up = groups.flatMap(({ group, stats }) => (stats ? [{ group, stats }] : []));
  const gauge = (name: string, help: string, pick: (stats: LedgerStats) => number): Family => ({
    name,
    help,
    type: 'gauge',
    samples: up.map(({ group, stats }) => ({ labels: { group }, value: pick(stats) })),
  });
  return [
    {
      name: 'causeway_ledger_up',
      help: 'Whether the ledger of a resource group answered.',
      type: 'gauge',
      samples: groups.map(({ group, stats }) => ({ labels: { group }, value: stats ? 1 : 0 })),
    },
    gauge('causeway_sessions_pending', 'Sessions that wait for room.', ({ pending }) => pending),
    gauge('causeway_sessions_placed', 'Sessions that hold a reservation on an agent.', ({ placed }) => placed),
    gauge('causeway_intents_unacknowledged', 'Intents that agents have not acknowledged.', ({ intents }) => intents),
    {
      name: 'causeway_outbox_rows',
      help: 'Rows of the outbox that a sink has yet to take.',
      type: 'gauge',
      samples: up.flatMap(({ group, stats }) =>
        Object.entries(stats.outbox).map(([sink, value]) => ({ labels: { group, sink }, value })),
      ),
    },
  ];
}

function stateOf({ state, reachable, draining }: LedgerAgent): string {
  if (state !== 'active') return state;
  if (!reachable) return 'unreachable';
  return draining ? 'draining' : 'connected';
}

function agentFamilies(groups: readonly Group[]): Family[] {
  const counted = groups.flatMap(({ group, agents }) =>
    Object.entries(Object.groupBy(agents, stateOf)).map(([state, some]) => ({
      labels: { group, state },
      value: some?.length ?? 0,
    })),
  );
  return [
    { name: 'causeway_agents', help: 'Agents by state.', type: 'gauge', samples: counted },
    ...slotFamilies(groups),
  ];
}

/** How slots are named and counted for Prometheus: in its base units, one unit a name. The rest are devices. */
const slotUnits: Record<string, { name: string; help: string; per: number }> = {
  cpu: { name: 'causeway_cpu_cores', help: 'Processor cores of the active agents.', per: 1000 },
  mem: { name: 'causeway_memory_bytes', help: 'Memory of the active agents.', per: 1 },
  disk: { name: 'causeway_disk_bytes', help: 'Disk of the active agents.', per: 1 },
};
/** Kinds of devices that a group is shown with; an agent may name any. */
const mostDevices = 16;

function slotFamilies(groups: readonly Group[]): Family[] {
  const sums = groups.flatMap(slotSums);
  const named = Object.entries(slotUnits).map(([slot, { name, help, per }]): Family => {
    const samples = sums.filter((each) => each.slot === slot);
    return { name, help, type: 'gauge', samples: samples.map((each) => toSample(each, per)) };
  });
  const devices = sums.filter(({ slot }) => !(slot in slotUnits));
  return [
    ...named,
    {
      name: 'causeway_devices',
      help: 'Devices of the active agents by slot; those counted in shares as whole devices.',
      type: 'gauge',
      samples: devices.map((each) => {
        const { labels, value } = toSample(each, each.slot.endsWith('.shares') ? 1_000_000 : 1);
        return { labels: { ...labels, slot: each.slot }, value };
      }),
    },
  ];
}

interface SlotSum {
  group: string;
  kind: 'approved' | 'offered' | 'reserved';
  slot: string;
  amount: number;
}

function toSample({ group, kind, amount }: SlotSum, per: number): Required<Sample> {
  return { labels: { group, kind }, value: amount / per };
}

/** Sums over the agents of a group, of the slots that were approved there. */
function slotSums({ group, agents }: Group): SlotSum[] {
  const active = agents.filter(({ state }) => state === 'active');
  const approved = [...new Set(active.flatMap((agent) => Object.keys(agent.approved)))].toSorted((a, b) =>
    a < b ? -1 : 1,
  );
  const devices = approved.filter((slot) => !(slot in slotUnits)).slice(0, mostDevices);
  const shown = [...approved.filter((slot) => slot in slotUnits), ...devices];
  return shown.flatMap((slot) =>
    (['approved', 'offered', 'reserved'] as const).map((kind) => ({
      group,
      kind,
      slot,
      amount: active.reduce((sum, agent) => sum + (agent[kind][slot] ?? 0), 0),
    })),
  );
}

/** Data hubs of one machine. In production each agent has its own, which a scrape would wake. */
async function hubFamilies(ctx: UserCtx, groups: readonly Group[]): Promise<Family[]> {
  if (ctx.config.layout !== 'machine') return [];
  const connected = groups.flatMap(({ agents }) => agents.filter(({ reachable }) => reachable));
  const hubs = [...new Set(connected.map(({ agentId }) => dataHubName('machine', agentId)))];
  const read = await Promise.all(
    hubs.map(async (hub) => ({ hub, status: await dataHubObject(ctx.env, hub).status() })),
  );
  const gauge = (name: string, help: string, pick: (status: (typeof read)[number]['status']) => number): Family => ({
    name,
    help,
    type: 'gauge',
    samples: read.map(({ hub, status }) => ({ labels: { hub }, value: pick(status) })),
  });
  return [
    gauge('causeway_data_hub_streams', 'Open streams.', ({ streams }) => streams),
    gauge('causeway_data_hub_agent_sockets', 'Interactive and bulk sockets.', ({ agentSockets }) => agentSockets),
    gauge('causeway_data_hub_client_sockets', 'Sockets of clients.', ({ clientSockets }) => clientSockets),
    gauge('causeway_data_hub_unproven_bytes', 'Sent and not proven to be read.', ({ unprovenBytes }) => unprovenBytes),
  ];
}

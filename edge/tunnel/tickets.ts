/**
 * Data tickets: the only key to an interactive or bulk socket. An HMAC over agent, epoch and hub; made by the ledger at
 * attach, checked by the Worker before the upgrade and by the data hub at `rebind`. Holds no secret of the agent.
 */
import type { Keys } from '../platform/config.ts';
import { isKeyedHash, keyedHash } from '../platform/keys.ts';

export interface DataTicketFor {
  agentId: string;
  epoch: number;
  /** Name of the data hub. */
  hub: string;
}

function text({ agentId, epoch, hub }: DataTicketFor): string {
  return `${agentId}\n${epoch}\n${hub}`;
}

/** `<epoch>.<key version>.<hmac>` */
export function makeDataTicket(keys: Keys, claim: DataTicketFor): string {
  return `${claim.epoch}.${keyedHash(keys, 'data-ticket', text(claim))}`;
}

/** The epoch that `ticket` was made for, if it was made for this agent and hub; else undefined. */
export function verifyDataTicket(
  keys: Keys,
  ticket: string,
  { agentId, hub }: Omit<DataTicketFor, 'epoch'>,
): number | undefined {
  const [, epochText, hash] = /^(0|[1-9][0-9]{0,15})\.([0-9]{1,9}\.[A-Za-z0-9_-]{43})$/.exec(ticket) ?? [];
  if (epochText === undefined || hash === undefined) return undefined;
  const epoch = Number(epochText);
  return isKeyedHash(keys, 'data-ticket', text({ agentId, epoch, hub }), hash) ? epoch : undefined;
}

/** Data hubs of a machine: a workerd process fails beyond about 3,500 live objects. */
const machineDataHubs = 64;

/** The data hub of an agent: its own in production, one of a few on one machine. */
export function dataHubName(layout: 'production' | 'machine', agentId: string): string {
  if (layout === 'production') return agentId;
  let hash = 0;
  for (const letter of agentId) hash = (Math.imul(hash, 31) + letter.charCodeAt(0)) >>> 0;
  return String(hash % machineDataHubs);
}

/** Builds the hello of one attempt and keeps it within the size of a JSON message (SPEC rules M1, F6). */
import { limits } from '../../schema/protocol/limits.ts';
import type { Intent } from '../../schema/protocol/intents.ts';
import type { InventoryItem, ToEdgeHello } from '../../schema/protocol/messages.ts';
import type { Workload } from '../dispatch.ts';
import { agentVersion } from '../version.ts';
import type { Attempt } from './identity.ts';
import type { Journal } from './journal.ts';

const maxImages = 512;
const maxNames = 64;
/** What is left for the list of images after inventory (4,096 of about 100 bytes) and the rest. */
const imagesBytes = limits.jsonBytes / 2;

/** The newest images whose JSON fits. */
export function fitImages(images: ToEdgeHello['images']): ToEdgeHello['images'] {
  const fitting: ToEdgeHello['images'] = [];
  let total = 0;
  for (const image of images.slice(0, maxImages)) {
    const short = { ...image, names: image.names.slice(0, maxNames) };
    total += Buffer.byteLength(JSON.stringify(short)) + 1;
    if (total > imagesBytes) break;
    fitting.push(short);
  }
  return fitting;
}

/** What is known of sessions, and what was promised of others: a `create` that waits, for the engine say, is a placement. */
function withPromised(known: readonly InventoryItem[], pending: readonly Intent[]): InventoryItem[] {
  const placements = new Set(known.map(({ sessionId, generation }) => `${sessionId} ${generation}`));
  const promised = pending.filter(
    ({ sessionId, generation, order }) => order.kind === 'create' && !placements.has(`${sessionId} ${generation}`),
  );
  return [
    ...known,
    ...promised.map(({ sessionId, generation }) => ({ sessionId, generation, state: 'present' as const })),
  ];
}

export async function buildHello(workload: Workload, attempt: Attempt, journal: Journal): Promise<ToEdgeHello> {
  const [capacity, host, inventory, images] = await Promise.all([
    workload.capacity(),
    workload.host(),
    workload.inventory(),
    workload.images(),
  ]);
  return {
    type: 'hello',
    version: limits.version,
    minVersion: limits.minVersion,
    agentVersion,
    counter: attempt.counter,
    attemptId: attempt.attemptId,
    journalId: journal.journalId,
    capacity,
    host,
    inventory: withPromised(inventory, journal.pendingIntents()),
    images: fitImages(images),
  };
}

/**
 * What is said must be true on the medium at the very moment at which it is said, whatever dies next. An agent acknowledges
 * only orders that its journal has on the disk (SPEC M4), tells only events that are there (M7), greets only with a counter
 * that is kept (M2), and lets an init forget only bytes that its spool has. A hub sends only orders that the ledger has
 * stored, confirms only events that it has committed (M7), and no epoch is given twice. To wait for the loss that makes a
 * broken promise visible would take many more worlds.
 */
import { decodeRecords } from '../../agent-daemon/tunnel/record-file.ts';
import { checkedPayload, headerBytes, parseHeader, toGap } from '../../agent-daemon/output/record.ts';
import type { AgentRow, IntentRow } from '../../schema/ledger/agents.ts';
import { decodeFrames, frameTypes } from '../../schema/protocol/frame.ts';
import { JsonJoiner } from '../../schema/protocol/json.ts';
import type { ToAgent, ToEdge } from '../../schema/protocol/messages.ts';

type Said<Message extends { type: string }, Kind extends Message['type']> = Extract<Message, { type: Kind }>;

/** A host's disk as a checker reads it. */
export interface Medium {
  /** What survives any loss of power. */
  synced(path: string): Buffer | undefined;
  /** What a process reads. */
  peek(path: string): Buffer | undefined;
  tree(path: string): string[];
}

/** The bytes of a process that an init was told to forget. */
export interface Forgotten {
  sessionId: string;
  generation: number;
  processId: string;
  stream: 'stdout' | 'stderr';
  offset: number;
}

const stateDir = '/var/lib/causeway';
/** A message says within its first bytes what it is. */
const kindBytes = 48;
/** Of a record in a journal: its length and its sum. */
const recordHeaderBytes = 8;

export class Promises {
  readonly #violated: (what: string) => void;
  readonly #orders = new Map<string, { sessionId: string; seq: number }>();
  readonly #placed = new Set<string>();
  readonly #agents = new Map<string, Pick<AgentRow, 'epoch' | 'journalId' | 'ackedIndex'>>();
  readonly #epochs = new Set<string>();

  constructor(violated: (what: string) => void) {
    this.#violated = violated;
  }

  /** A ledger has committed an order. A generation is of one placement. */
  ordered({ intentId, sessionId, generation, seq, order }: IntentRow): void {
    this.#orders.set(intentId, { sessionId, seq });
    if (order.kind !== 'create') return;
    const placement = `${sessionId} g${generation}`;
    if (this.#placed.has(placement)) this.#violated(`[R2] ${placement} was ordered twice`);
    this.#placed.add(placement);
  }

  /** A ledger has committed an agent's row. */
  committed({ agentId, epoch, journalId, ackedIndex }: AgentRow): void {
    this.#agents.set(agentId, { epoch, journalId, ackedIndex });
  }

  /** An object has answered a call. What comes of an epoch that is over has no effect, and is told so. */
  answered(method: string, args: readonly unknown[], answer: unknown): void {
    if (method !== 'events' || answer === 'stale') return;
    const [agentId, epoch] = args as [string, number];
    const known = this.#agents.get(agentId)?.epoch ?? 0;
    if (known > epoch) this.#violated(`[R2] ${agentId} was heard in epoch ${epoch}, it has ${known}`);
  }

  agentSays(host: string, disk: Medium, bytes: Uint8Array): void {
    const message = messageOf<Said<ToEdge, 'hello' | 'intentAck' | 'events'>>(bytes, ['hello', 'intentAck', 'events']);
    if (message === undefined) return;
    if (message.type === 'hello') {
      if (disk.synced(`${stateDir}/counter.json`)?.includes(message.attemptId) !== true)
        this.#violated(`[M2] ${host} greets with a counter that it has not kept`);
      return;
    }
    const journal = readable(disk.synced(`${stateDir}/journal.log`) ?? Buffer.alloc(0));
    if (message.type === 'events') {
      for (const { index } of message.events)
        if (!journal.includes(`"kind":"event","index":${index},`))
          this.#violated(`[M7] ${host} tells event ${index}, which is not on its disk`);
      return;
    }
    for (const intentId of message.intentIds)
      if (!journal.includes(intentId) && !this.#isBehind(journal, intentId))
        this.#violated(`[M4] ${host} acknowledges ${intentId}, which is not on its disk`);
  }

  /** Also what came behind a later order of its session is acknowledged. */
  #isBehind(journal: Buffer, intentId: string): boolean {
    const order = this.#orders.get(intentId);
    if (order === undefined) return false;
    return decodeRecords(journal).records.some((record) => {
      const { mark, intent = mark } = record as { mark?: typeof order; intent?: typeof order };
      return intent?.sessionId === order.sessionId && intent.seq >= order.seq;
    });
  }

  hubSays(agentId: string, groupNumber: number, bytes: Uint8Array): void {
    const kinds = ['welcome', 'intents', 'eventAck'] as const;
    const message = messageOf<Said<ToAgent, (typeof kinds)[number]>>(bytes, kinds);
    if (message === undefined) return;
    switch (message.type) {
      case 'welcome': {
        const epoch = `${groupNumber} ${message.epoch}`;
        if (this.#epochs.has(epoch)) this.#violated(`[R2] epoch ${message.epoch} of ${agentId} was given before`);
        this.#epochs.add(epoch);
        return;
      }
      case 'intents':
        for (const { intentId, sessionId } of message.intents)
          if (!this.#orders.has(intentId))
            this.#violated(`[R3] ${agentId} is sent ${intentId} of ${sessionId}, which no ledger has stored`);
        return;
      case 'eventAck': {
        const known = this.#agents.get(agentId);
        if (known?.journalId === message.journalId && known.ackedIndex < message.index)
          this.#violated(`[M7] ${agentId} hears that event ${message.index} is committed, ${known.ackedIndex} is`);
      }
    }
  }

  /** An init forgets what it is told is safe. */
  initForgets(host: string, disk: Medium, { sessionId, generation, processId, stream, offset }: Forgotten): void {
    const dir = `${stateDir}/output/${sessionId}/g${generation}/${processId}`;
    const last = disk.tree(dir).findLast((path) => path.startsWith(`${dir}/${stream}-`));
    // Of an ended process nothing may be kept any more.
    const bytes = last === undefined ? undefined : disk.peek(last);
    if (last === undefined || bytes === undefined) return;
    const end = endOfSegment(bytes, Number(last.slice(-16)));
    if (end < offset)
      this.#violated(`[I5] ${host} lets ${sessionId} g${generation} forget ${offset} bytes and has ${end}`);
  }
}

/** What the next start of an agent reads of its journal: the records before one that is torn. */
function readable(journal: Buffer): Buffer {
  let end = 0;
  while (end + recordHeaderBytes <= journal.byteLength) {
    const next = end + recordHeaderBytes + journal.readUInt32BE(end);
    if (next > journal.byteLength) break;
    end = next;
  }
  return journal.subarray(0, end);
}

/** The offset behind the last whole record of a spool's file that begins at `from`. */
function endOfSegment(bytes: Buffer, from: number): number {
  let end = from;
  for (let at = 0; ;) {
    const header = parseHeader(bytes, at);
    const payload = header && checkedPayload(bytes, at, header);
    if (header === undefined || payload === undefined) return end;
    end = header.isGap ? toGap(header, payload).to : end + header.length;
    at += headerBytes + header.length;
  }
}

/** The message that these bytes hold, when it is one of these kinds. */
export function messageOf<Message extends { type: string }>(
  bytes: Uint8Array,
  kinds: readonly Message['type'][],
): Message | undefined {
  const beginning = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(kindBytes, bytes.byteLength));
  if (!kinds.some((kind) => beginning.includes(`"type":"${kind}"`))) return undefined;
  const joiner = new JsonJoiner();
  for (const frame of decodeFrames(bytes)) {
    const joined = frame.type === frameTypes.message ? joiner.join(frame) : undefined;
    if (joined) return joined.value as Message;
  }
  return undefined;
}

/**
 * What the agent must not forget: intents that it acknowledged and has not carried out, the newest placement and order of
 * each session, and events that the ledger has not confirmed. Recorded (fsync) before it acts or answers. It holds no
 * secret, and no state of containers: those have names and labels.
 */
import { z } from 'zod';
import { idPattern } from '../../schema/ids.ts';
import type { Log, Timers } from '../../schema/ports.ts';
import { AgentEvent } from '../../schema/protocol/events.ts';
import { Intent } from '../../schema/protocol/intents.ts';
import type { Disk } from '../disk.ts';
import { RecordFile } from './record-file.ts';

const count = z.int().nonnegative();
const SessionMark = z.strictObject({
  sessionId: z.string(),
  /** Newest generation that an intent named. */
  generation: count,
  /** Highest `seq` accepted; what is not above it was seen. */
  seq: count,
});
type SessionMark = z.infer<typeof SessionMark>;

/** One line of the file. Kinds are never renamed: an older agent's journal is read by a newer one. */
const JournalRecord = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('journal'),
    journalId: z.string().regex(idPattern('journal')),
    lastIndex: count,
    acked: count,
  }),
  z.object({ kind: z.literal('session'), mark: SessionMark }),
  z.object({ kind: z.literal('intent'), intent: Intent }),
  z.object({ kind: z.literal('done'), intentId: z.string() }),
  z.object({ kind: z.literal('event'), index: count, event: AgentEvent }),
  z.object({ kind: z.literal('acked'), index: count }),
]);
type JournalRecord = z.infer<typeof JournalRecord>;

/** Sessions whose last order is remembered; the oldest go first. */
const maxSessions = 20_000;
const compactAboveBytes = 1024 * 1024;

export interface NumberedEvent {
  index: number;
  event: AgentEvent;
}

export interface JournalPorts {
  disk: Disk;
  log: Log;
  timers: Timers;
  /** Called for a new or lost journal, whose numbers must not be taken for duplicates. */
  freshJournalId(): string;
}

export class Journal {
  readonly #ports: JournalPorts;
  #file!: RecordFile;
  #journalId = '';
  #lastIndex = 0;
  /** The highest number that a ledger can have heard of, unless the file has lost some. */
  #toldIndex = 0;
  #recordedIndex = 0;
  #acked = 0;
  readonly #sessions = new Map<string, SessionMark>();
  readonly #pending = new Map<string, Intent>();
  #events: NumberedEvent[] = [];
  #compactAboveBytes = compactAboveBytes;
  #failing = false;

  private constructor(ports: JournalPorts) {
    this.#ports = ports;
  }

  static async open(path: string, ports: JournalPorts): Promise<Journal> {
    const journal = new Journal(ports);
    const { file, records, cutBytes } = await RecordFile.open(path, ports.disk, {
      live: () => journal.#live(),
      failing: (error) => {
        journal.#failing = true;
        ports.log.error('the journal can not be written; nothing is acknowledged until it can', {
          error: String(error),
        });
      },
      pause: (delayMs) => new Promise((resolve) => void ports.timers.after(delayMs, resolve)),
    });
    journal.#file = file;
    if (cutBytes > 0) ports.log.warn('cut a torn tail of the journal', { cutBytes });
    for (const record of records) {
      const parsed = JournalRecord.safeParse(record);
      if (parsed.success) journal.#apply(parsed.data);
      else ports.log.error('skipped a record of the journal that this version does not know');
    }
    journal.#toldIndex = journal.#lastIndex;
    // After a loss of power more than the last record may be gone, also what the ledger has confirmed.
    if (journal.#journalId === '' || cutBytes > 0) await journal.renew();
    journal.#recordedIndex = journal.#lastIndex;
    return journal;
  }

  get journalId(): string {
    return this.#journalId;
  }

  /** Highest event index that the ledger confirmed. */
  get ackedIndex(): number {
    return this.#acked;
  }

  /** True while the disk refuses the journal. */
  get failing(): boolean {
    return this.#failing;
  }

  /** True when this order was taken before, or came after a later one of its session: acknowledge it, do nothing. */
  isSeen(intent: Intent): boolean {
    return intent.seq <= (this.#sessions.get(intent.sessionId)?.seq ?? -1);
  }

  /** Newest generation of a session that an intent named. */
  generationOf(sessionId: string): number | undefined {
    return this.#sessions.get(sessionId)?.generation;
  }

  /** Intents that were taken and not carried out, in the order in which they came. */
  pendingIntents(): Intent[] {
    return [...this.#pending.values()];
  }

  /** Resolves when these, and all that was recorded before, are on the disk. */
  async recordIntents(intents: readonly Intent[]): Promise<void> {
    const writes = intents.map((intent) => this.#record({ kind: 'intent', intent }));
    await (writes.length === 0 ? this.#file.settled() : Promise.all(writes));
    this.#failing = false;
  }

  async recordDone(intentId: string): Promise<void> {
    await this.#record({ kind: 'done', intentId });
    this.#compactIfLarge();
  }

  /** Numbers the event; resolves with its index when it is on the disk. Only then it may be sent. */
  async recordEvent(event: AgentEvent): Promise<number> {
    const index = this.#lastIndex + 1;
    const journalId = this.#journalId;
    await this.#record({ kind: 'event', index, event });
    this.#failing = false;
    if (journalId === this.#journalId) this.#recordedIndex = Math.max(this.#recordedIndex, index);
    return index;
  }

  /** Recorded events above `index`, in order, at most `limit`. */
  eventsAfter(index: number, limit: number): NumberedEvent[] {
    const from = this.#events.findIndex((each) => each.index > index);
    if (from < 0) return [];
    const events = this.#events.slice(from, from + limit).filter((each) => each.index <= this.#recordedIndex);
    this.#toldIndex = Math.max(this.#toldIndex, events.at(-1)?.index ?? 0);
    return events;
  }

  /**
   * False when a ledger says that it has events which this file does not know: it has lost some, and the numbers that it
   * gives out would be taken for duplicates. `renew` it then.
   */
  canHaveTold(index: number): boolean {
    return index <= this.#toldIndex;
  }

  /** Goes on as another journal, with the same orders and the unconfirmed events numbered anew from 1. */
  async renew(): Promise<void> {
    this.#journalId = this.#ports.freshJournalId();
    this.#events = this.#events.map(({ event }, at) => ({ index: at + 1, event }));
    this.#lastIndex = this.#events.length;
    this.#toldIndex = this.#lastIndex;
    this.#acked = 0;
    // Nothing of it may be sent before the file has it, nor with it what is recorded meanwhile and comes behind.
    const lastIndex = this.#lastIndex;
    this.#recordedIndex = 0;
    await this.#file.compact();
    this.#recordedIndex = Math.max(this.#recordedIndex, lastIndex);
  }

  /** The ledger has everything up to `index`. Not waited for: a lost record only makes the agent send again. */
  acknowledge(index: number): void {
    if (index <= this.#acked || index > this.#lastIndex) return;
    this.#record({ kind: 'acked', index }).catch((error: unknown) =>
      this.#ports.log.warn('an acknowledgement was not recorded', { error: String(error) }),
    );
    this.#compactIfLarge();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Memory first: it is what a rewritten file is made of. */
  #record(record: JournalRecord): Promise<void> {
    this.#apply(record);
    return this.#file.append(record);
  }

  #apply(record: JournalRecord): void {
    switch (record.kind) {
      case 'journal':
        this.#journalId = record.journalId;
        this.#lastIndex = Math.max(this.#lastIndex, record.lastIndex);
        this.#acked = Math.max(this.#acked, record.acked);
        break;
      case 'session':
        this.#mark(record.mark);
        break;
      case 'intent':
        this.#pending.set(record.intent.intentId, record.intent);
        this.#mark(record.intent);
        break;
      case 'done':
        this.#pending.delete(record.intentId);
        break;
      case 'event':
        this.#lastIndex = Math.max(this.#lastIndex, record.index);
        this.#events.push({ index: record.index, event: record.event });
        break;
      case 'acked':
        this.#acked = Math.max(this.#acked, record.index);
        this.#events = this.#events.filter((each) => each.index > this.#acked);
        break;
    }
  }

  #mark({ sessionId, generation, seq }: SessionMark): void {
    const known = this.#sessions.get(sessionId);
    this.#sessions.delete(sessionId);
    this.#sessions.set(sessionId, {
      sessionId,
      generation: Math.max(generation, known?.generation ?? 0),
      seq: Math.max(seq, known?.seq ?? 0),
    });
    for (const oldest of this.#sessions.keys()) {
      if (this.#sessions.size <= maxSessions) break;
      this.#sessions.delete(oldest);
    }
  }

  #compactIfLarge(): void {
    if (this.#file.sizeBytes < this.#compactAboveBytes) return;
    this.#compactAboveBytes = Number.POSITIVE_INFINITY;
    this.#file.compact().then(
      () => {
        this.#compactAboveBytes = Math.max(compactAboveBytes, this.#file.sizeBytes * 4);
      },
      (error: unknown) => this.#ports.log.warn('the journal was not compacted', { error: String(error) }),
    );
  }

  /** Everything that still matters, as records. */
  #live(): JournalRecord[] {
    return [
      { kind: 'journal', journalId: this.#journalId, lastIndex: this.#lastIndex, acked: this.#acked },
      ...[...this.#sessions.values()].map((mark): JournalRecord => ({ kind: 'session', mark })),
      ...[...this.#pending.values()].map((intent): JournalRecord => ({ kind: 'intent', intent })),
      ...this.#events.map(({ index, event }): JournalRecord => ({ kind: 'event', index, event })),
    ];
  }
}

/** A client of one kernel's channels: what it heard, read by records, and what it said, which it sends again after a cut. */
import { randomUUID } from 'node:crypto';
import type { channelsStream } from '../../../agent-daemon/kernels/channels.ts';
import { ChannelsEvent } from '../../../schema/protocol/channels.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import { executeRequest, isDone, type JupyterMessage, MessageReader } from '../../support/jupyter-messages.ts';
import { until } from '../../support/wait.ts';
import { TestStream } from '../processes/test-stream.ts';
import { sessionId } from '../support.ts';

export type ChannelsAsk = Omit<Extract<StreamOpen, { op: 'channels' }>, 'op'>;
type Of<Kind extends ChannelsEvent['kind']> = Extract<ChannelsEvent, { kind: Kind }>;

export class ChannelsReader {
  readonly stream = new TestStream<ChannelsEvent>((message) => ChannelsEvent.parse(message));
  readonly done: Promise<void>;
  readonly messages: JupyterMessage[] = [];
  error: unknown;
  isDone = false;
  #records = new MessageReader();
  #taken = 0;
  #position = 0;

  constructor(ask: ChannelsAsk, serve: ReturnType<typeof channelsStream>) {
    const open = { op: 'channels' as const, ...ask };
    this.done = serve({ sessionId, generation: 1, actorId: 'usr_test', open }, this.stream).then(
      () => void (this.isDone = true),
      (error: unknown) => {
        this.error = error;
        throw error;
      },
    );
    this.done.catch(() => undefined);
  }

  get events(): ChannelsEvent[] {
    return this.stream.events;
  }

  all<Kind extends ChannelsEvent['kind']>(kind: Kind): Of<Kind>[] {
    return this.events.filter((event): event is Of<Kind> => event.kind === kind);
  }

  event<Kind extends ChannelsEvent['kind']>(kind: Kind): Promise<Of<Kind>> {
    return until(() => this.all(kind)[0], {
      what: `${kind} (so far ${JSON.stringify(this.events)})`,
      everyMs: 5,
      giveUp: () => (this.error === undefined ? undefined : String(this.error)),
    });
  }

  /** Behind the last whole record. */
  read(): { messages: JupyterMessage[]; after: { starts: number; offset: number } } {
    const writes = this.stream.writes.filter(({ channel }) => channel === channels.stdout);
    for (; this.#taken < writes.length; this.#taken++) {
      const { offset } = writes[this.#taken]!;
      // Behind a gap a record begins; what was begun before it is cut.
      if (offset !== this.#position + this.#records.rest) this.#records = new MessageReader();
      const before = this.#records.rest;
      const bytes = this.stream.received.stdout[this.#taken]!;
      this.#records.push(bytes);
      this.#position = offset + bytes.byteLength - this.#records.rest;
      if (before === 0 && this.#records.rest === bytes.byteLength) this.#position = offset;
      this.messages.push(...this.#records.messages.splice(0));
    }
    const [begun] = this.all('begun');
    return {
      messages: this.messages,
      after: { starts: begun?.starts ?? 0, offset: writes.length === 0 ? (begun?.from ?? 0) : this.#position },
    };
  }

  say(record: Uint8Array): void {
    this.stream.input(record);
  }

  async whenOpen(): Promise<this> {
    await this.event('begun');
    return this;
  }

  /** Runs code and returns the id of the request. */
  ask(code: string, id: string = randomUUID()): string {
    this.say(executeRequest(code, { id }).record);
    return id;
  }

  async whenDone(id: string): Promise<void> {
    await until(() => isDone(this.read().messages, id), {
      what: `the end of a cell (${JSON.stringify(this.events.slice(-5))})`,
      everyMs: 5,
      timeoutMs: 60_000,
      giveUp: () => (this.error === undefined ? undefined : String(this.error)),
    });
  }

  /** The client, its socket or the hub is gone. Returns where it goes on. */
  cut(): { starts: number; offset: number } {
    this.stream.cut();
    return this.read().after;
  }
}

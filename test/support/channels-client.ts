/**
 * A client of one Jupyter kernel over the real stack, as a good one is: after any cut it dials again, goes on behind the last
 * whole record that it has, and sends again what was not taken.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChannelsEvent } from '../../schema/protocol/channels.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { ClientSocket, type ClientStream } from './client-socket.ts';
import { executeRequest, isDone, type JupyterMessage, MessageReader, printed } from './jupyter-messages.ts';
import { until } from './wait.ts';

export class ChannelsClient {
  readonly messages: JupyterMessage[] = [];
  readonly events: ChannelsEvent[] = [];
  /** Of the first time that it was cut, and so on. */
  reconnects = -1;
  last = 'never connected';
  readonly #dial: () => Promise<ClientSocket>;
  readonly #kernelId: string;
  readonly #writer: string;
  /** Behind the last whole record. */
  #after: { starts: number; offset: number } | undefined;
  #input = Buffer.alloc(0);
  /** Offset of the first byte of `#input`. */
  #inputAt = 0;
  #stream: ClientStream | undefined;
  #socket: ClientSocket | undefined;
  #isStopped = false;
  readonly #running: Promise<void>;

  constructor(
    dial: () => Promise<ClientSocket>,
    { kernelId, writer, after }: { kernelId: string; writer: string; after?: { starts: number; offset: number } },
  ) {
    this.#dial = dial;
    this.#kernelId = kernelId;
    this.#writer = writer;
    this.#after = after;
    this.#running = this.#run();
  }

  /** Runs code; resolves with its id, which answers name. */
  ask(code: string): string {
    const { id, record } = executeRequest(code);
    this.say(record);
    return id;
  }

  say(record: Uint8Array): void {
    this.#input = Buffer.concat([this.#input, record]);
    // The copy that a broken stream still sends is not taken twice: the next one begins where the agent says.
    if (this.#stream !== undefined) void this.#stream.send(record);
  }

  async whenDone(id: string, timeoutMs = 60_000): Promise<string> {
    await until(() => isDone(this.messages, id), {
      what: `the end of a cell (${this.last}; ${JSON.stringify(this.events.slice(-4))})`,
      timeoutMs,
    });
    return printed(this.messages, id);
  }

  all<Kind extends ChannelsEvent['kind']>(kind: Kind): Extract<ChannelsEvent, { kind: Kind }>[] {
    return this.events.filter((event): event is Extract<ChannelsEvent, { kind: Kind }> => event.kind === kind);
  }

  cut(): void {
    this.#socket?.cut();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.cut();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      try {
        await this.#connect();
      } catch (error) {
        this.last = String(error);
      }
      this.#stream = undefined;
      this.#socket?.cut();
      if (!this.#isStopped) await sleep(100);
    }
  }

  async #connect(): Promise<void> {
    const socket = await this.#dial();
    this.#socket = socket;
    let records = new MessageReader();
    let position = this.#after?.offset ?? 0;
    const onData = (channel: number, payload: Uint8Array, offset: number) => {
      if (channel === channels.control) {
        const event = ChannelsEvent.parse(JSON.parse(Buffer.from(payload).toString()));
        this.events.push(event);
        if (event.kind === 'begun') {
          this.#after = { starts: event.starts, offset: event.from };
          position = event.from;
        } else if (event.kind === 'taken') this.#drop(event.offset);
        else if (event.kind === 'ended') {
          this.#isStopped ||= !event.restarts;
          this.#after = { starts: (this.#after?.starts ?? 0) + 1, offset: 0 };
        }
      } else if (channel === channels.stdout) {
        if (offset !== position) records = new MessageReader();
        records.push(payload);
        position = offset + payload.byteLength;
        this.messages.push(...records.messages.splice(0));
        if (this.#after !== undefined) this.#after.offset = position - records.rest;
      }
    };
    const after = this.#after;
    const stream = socket.open(
      { op: 'channels', kernelId: this.#kernelId, writer: this.#writer, ...(after === undefined ? {} : { after }) },
      { onData },
    );
    const { inputOffset = 0 } = await stream.opened;
    this.reconnects++;
    this.#drop(inputOffset);
    stream.continueInputFrom(inputOffset);
    this.#stream = stream;
    if (this.#input.byteLength > 0) void stream.send(this.#input);
    const over = await Promise.race([stream.done, socket.closed, stream.untilEnded(channels.stdout)]);
    this.last = JSON.stringify(over) ?? 'ended';
  }

  #drop(taken: number): void {
    if (taken <= this.#inputAt) return;
    this.#input = this.#input.subarray(taken - this.#inputAt);
    this.#inputAt = taken;
  }
}

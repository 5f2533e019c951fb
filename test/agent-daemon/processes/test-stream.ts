/** A client's stream as a handler sees it, driven and read by a test; it reads as slowly as the test wants. */
import { type ErrorCode, Refusal } from '../../../schema/errors.ts';
import { type Channel, channels } from '../../../schema/protocol/frame.ts';
import { ProcessEvent, type StreamOpened } from '../../../schema/protocol/streams.ts';
import type { AgentStream, ChannelBytes } from '../../../agent-daemon/dispatch.ts';
import { until } from '../../support/wait.ts';

interface Waiting {
  resolve: (item: IteratorResult<ChannelBytes>) => void;
  reject: (error: Error) => void;
}

export class TestStream<Event extends object = ProcessEvent> implements AgentStream {
  readonly #parse: (message: object) => Event;
  readonly #closed = new AbortController();
  readonly closed = this.#closed.signal;
  readonly received: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  readonly events: Event[] = [];
  /** Where each write was, in order: to see which stream came when, and that offsets have no holes. */
  readonly writes: { channel: Channel; offset: number; bytes: number }[] = [];
  info: StreamOpened | undefined;
  /** Bytes that the handler may have written and this end has not read; above, writes wait. */
  windowBytes = Number.POSITIVE_INFINITY;
  readonly #offsets: Record<number, number> = {};
  #unread = 0;
  readonly #writers: (() => void)[] = [];
  readonly #inbox: ChannelBytes[] = [];
  #waiting: Waiting | undefined;
  #inputOffset = 0;

  /** Of another operation than `process`: how its events are read. */
  constructor(parse: (message: object) => Event = (message) => ProcessEvent.parse(message) as unknown as Event) {
    this.#parse = parse;
  }

  opened(info: StreamOpened): void {
    this.info = info;
    this.#inputOffset = info.inputOffset ?? 0;
  }

  seek(channel: Channel, offset: number): void {
    this.#offsets[channel] = offset;
  }

  async write(channel: Channel, bytes: Uint8Array): Promise<void> {
    if (this.closed.aborted) throw new Refusal('tunnel_closed');
    const offset = this.#offsets[channel] ?? 0;
    this.writes.push({ channel, offset, bytes: bytes.byteLength });
    this.#offsets[channel] = offset + bytes.byteLength;
    if (channel === channels.stdout) this.received.stdout.push(Buffer.from(bytes));
    if (channel === channels.stderr) this.received.stderr.push(Buffer.from(bytes));
    this.#unread += bytes.byteLength;
    while (this.#unread > this.windowBytes && !this.closed.aborted) {
      await new Promise<void>((resolve) => void this.#writers.push(resolve));
    }
    if (this.closed.aborted) throw new Refusal('tunnel_closed');
  }

  lend(channel: Channel, bytes: Uint8Array): Promise<void> {
    return this.write(channel, bytes);
  }

  async writeControl(message: object): Promise<void> {
    this.events.push(this.#parse(message));
  }

  async *read(): AsyncIterable<ChannelBytes> {
    for (;;) {
      const next = this.#inbox.shift() ?? (await this.#nextItem());
      if (next === undefined) return;
      yield next;
    }
  }

  end(): void {
    // Handlers end a stream by resolving.
  }

  reset(code: ErrorCode, detail?: string): void {
    this.#closed.abort(new Refusal(code, detail));
  }

  /** Reads so many bytes: a waiting writer goes on when it is enough. */
  take(bytes: number): void {
    this.#unread = Math.max(0, this.#unread - bytes);
    for (const writer of this.#writers.splice(0)) writer();
  }

  input(text: string | Uint8Array): void {
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    this.#deliver({ channel: channels.input, offset: this.#inputOffset, bytes, end: false });
    this.#inputOffset += bytes.byteLength;
  }

  /** Input as a client sends it that continues at an offset of its own choice. */
  inputAt(offset: number, text: string): void {
    this.#inputOffset = offset;
    this.input(text);
  }

  endInput(): void {
    this.#deliver({ channel: channels.input, offset: this.#inputOffset, bytes: new Uint8Array(0), end: true });
  }

  control(message: object): void {
    const bytes = Buffer.from(JSON.stringify(message));
    this.#deliver({ channel: channels.control, offset: 0, bytes, end: false });
  }

  /** The client, its socket or the hub is gone. */
  cut(): void {
    this.reset('tunnel_closed');
    this.take(Number.POSITIVE_INFINITY);
    this.#waiting?.reject(new Refusal('tunnel_closed'));
  }

  text(stream: 'stdout' | 'stderr' = 'stdout'): string {
    return Buffer.concat(this.received[stream]).toString();
  }

  get exit(): Extract<ProcessEvent, { kind: 'exit' }> | undefined {
    const events = this.events as unknown as ProcessEvent[];
    return events.find((event) => event.kind === 'exit');
  }

  async whenText(wanted: string, stream: 'stdout' | 'stderr' = 'stdout'): Promise<void> {
    await until(() => this.text(stream).includes(wanted), {
      what: `"${wanted}" in "${this.text(stream).slice(-300)}"`,
    });
  }

  #deliver(item: ChannelBytes): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#inbox.push(item);
    else waiting.resolve({ value: item, done: false });
  }

  #nextItem(): Promise<ChannelBytes | undefined> {
    return new Promise((resolve, reject) => {
      if (this.closed.aborted) return reject(new Refusal('tunnel_closed'));
      this.#waiting = { resolve: (item) => resolve(item.done === true ? undefined : item.value), reject };
    });
  }
}

/**
 * A client of `causeway.client.v1` for tests and benches: the tunnel's own codec and nothing of the product's clients,
 * so that a test can also behave badly (grant for ever, never read, answer no mark). It resumes nothing by itself.
 */
import { type ClientOptions, WebSocket } from 'ws';
import {
  type Channel,
  type Frame,
  type FrameType,
  channelFlags,
  channelOf,
  channels,
  decodeFrames,
  encodeFrame,
  frameTypes,
} from '../../schema/protocol/frame.ts';
import { clientProtocol, limits } from '../../schema/protocol/limits.ts';
import type { Reset } from '../../schema/protocol/messages.ts';
import type { ProcessControl, ProcessEvent, StreamOpen, StreamOpened } from '../../schema/protocol/streams.ts';

export interface DialOptions {
  /** Leaves MARK frames unanswered. */
  ignoreMarks?: boolean;
  ws?: ClientOptions;
}

export interface OpenOptions {
  /** `auto` (default) grants what was received; `none` grants nothing; a number grants that much at once, then as `auto`. */
  grant?: 'auto' | 'none' | number;
  /** Sees every DATA frame. The payload is only valid during the call. */
  onData?: (channel: Channel, payload: Uint8Array, offset: number) => void;
}

/** How a socket or stream ended. */
export interface Closed {
  code: number;
  reason: string;
}

const noBytes = new Uint8Array(0);

export class ClientSocket {
  readonly ws: WebSocket;
  readonly closed: Promise<Closed>;
  readonly #streams = new Map<number, ClientStream>();
  readonly #ping: NodeJS.Timeout;
  #nextId = 1;

  /** Dials `path` of the API. Rejects with the HTTP answer when it is refused. */
  static async dial(base: string, path: string, token: string, options: DialOptions = {}): Promise<ClientSocket> {
    const url = new URL(path, base.replace(/^http/, 'ws'));
    const ws = new WebSocket(url, clientProtocol, {
      perMessageDeflate: false,
      generateMask: (mask) => void mask.fill(0),
      headers: { authorization: `Bearer ${token}` },
      maxPayload: 32 * 1024 * 1024,
      ...options.ws,
    });
    const socket = new ClientSocket(ws, options);
    await new Promise<void>((resolve, reject) => {
      ws.once('open', resolve);
      ws.once('error', reject);
      ws.once('unexpected-response', (_, response) => reject(new Error(`${path} answered ${response.statusCode}`)));
    });
    return socket;
  }

  private constructor(ws: WebSocket, { ignoreMarks = false }: DialOptions) {
    this.ws = ws;
    let heardAtMs = performance.now();
    this.#ping = setInterval(() => {
      if (performance.now() - heardAtMs > limits.silentMs && !ws.isPaused) ws.terminate();
      else if (ws.readyState === WebSocket.OPEN) ws.send('ping');
    }, limits.pingEveryMs).unref();
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => {
        clearInterval(this.#ping);
        for (const stream of this.#streams.values()) stream.over({ code: 'socket_closed', detail: String(code) });
        resolve({ code, reason: reason.toString() });
      });
    });
    ws.on('error', () => {}); // a close follows
    ws.on('message', (data: Buffer, isBinary) => {
      heardAtMs = performance.now();
      if (!isBinary) return;
      for (const frame of decodeFrames(data)) {
        if (frame.type !== frameTypes.mark) this.#streams.get(frame.stream)?.take(frame);
        else if (!ignoreMarks) this.send(frameTypes.marked, 0, frame.payload.slice());
      }
    });
  }

  open(request: StreamOpen, options: OpenOptions = {}): ClientStream {
    const stream = new ClientStream(this, this.#nextId++, options);
    this.#streams.set(stream.id, stream);
    this.send(frameTypes.open, stream.id, json(request));
    if (typeof options.grant === 'number') stream.grant(options.grant);
    return stream;
  }

  send(type: FrameType, stream: number, payload: Uint8Array = noBytes, flags = 0, offset = 0): void {
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(encodeFrame({ type, flags, stream, offset, payload }));
  }

  close(): void {
    this.ws.close();
  }

  /** Cuts the connection without a close frame. */
  cut(): void {
    this.ws.terminate();
  }
}

export class ClientStream {
  readonly id: number;
  readonly opened: Promise<StreamOpened>;
  /** Settles when the stream is over: with the reset, or undefined when every output channel that was used has ended. */
  readonly done: Promise<Reset | undefined>;
  readonly events: ProcessEvent[] = [];
  /** Bytes received per channel. */
  readonly received: Record<Channel, number> = { 0: 0, 1: 0, 2: 0, 3: 0 };
  readonly ended = new Set<Channel>();
  readonly #socket: ClientSocket;
  readonly #options: OpenOptions;
  readonly #sent: Record<Channel, number> = { 0: 0, 1: 0, 2: 0, 3: 0 };
  #open: (opened: StreamOpened) => void = () => {};
  #refuse: (reset: Error) => void = () => {};
  #finish: (reset: Reset | undefined) => void = () => {};
  #credit: number = limits.initialWindowBytes;
  #onCredit: () => void = () => {};
  #ungranted = 0;
  #watchers = new Set<() => void>();

  constructor(socket: ClientSocket, id: number, options: OpenOptions) {
    this.id = id;
    this.#socket = socket;
    this.#options = options;
    this.opened = new Promise((resolve, reject) => {
      this.#open = resolve;
      this.#refuse = reject;
    });
    this.opened.catch(() => {}); // who waits for it sees it
    this.done = new Promise((resolve) => (this.#finish = resolve));
  }

  /** The exit event; rejects when the stream is over without one. */
  async exit(): Promise<Extract<ProcessEvent, { kind: 'exit' }>> {
    for (;;) {
      const event = this.events.find(({ kind }) => kind === 'exit');
      if (event?.kind === 'exit') return event;
      const reset = await Promise.race([this.done.then((over) => over ?? 'over'), this.#nextEvent()]);
      if (reset !== undefined && !this.events.some(({ kind }) => kind === 'exit')) {
        throw new Error(`the stream ended without an exit: ${JSON.stringify(reset)}`);
      }
    }
  }

  /** Sends bytes on a channel, waiting for credit. */
  async send(data: Uint8Array, channel: Channel = channels.input): Promise<void> {
    for (let at = 0; at < data.length;) {
      while (this.#credit <= 0) await new Promise<void>((resolve) => (this.#onCredit = resolve));
      const size = Math.min(data.length - at, limits.payloadBytes, this.#credit);
      const piece = data.subarray(at, at + size);
      this.#socket.send(frameTypes.data, this.id, piece, channelFlags(channel), this.#sent[channel]);
      this.#sent[channel] += size;
      this.#credit -= size;
      at += size;
    }
  }

  async control(message: ProcessControl): Promise<void> {
    await this.send(json(message), channels.control);
  }

  /** Sets the offset from which input continues (OPENED.inputOffset). */
  continueInputFrom(offset: number): void {
    this.#sent[channels.input] = offset;
  }

  end(channel: Channel = channels.input): void {
    this.#socket.send(frameTypes.end, this.id, undefined, channelFlags(channel), this.#sent[channel]);
  }

  reset(code = 'client_done'): void {
    this.#socket.send(frameTypes.reset, this.id, json({ code }));
    this.over({ code });
  }

  grant(bytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(bytes);
    this.#socket.send(frameTypes.window, this.id, payload);
  }

  /** A frame from the hub. */
  take(frame: Frame): void {
    switch (frame.type) {
      case frameTypes.opened:
        return this.#open(parsed(frame.payload) as StreamOpened);
      case frameTypes.data:
        return this.#takeData(frame);
      case frameTypes.window:
        this.#credit += Buffer.from(frame.payload).readUInt32BE();
        return this.#onCredit();
      case frameTypes.end:
        this.ended.add(channelOf(frame));
        return this.#notice();
      case frameTypes.reset:
        return this.over(parsed(frame.payload) as Reset);
      default:
    }
  }

  over(reset: Reset | undefined): void {
    this.#refuse(new Error(`the stream was reset: ${JSON.stringify(reset)}`));
    this.#finish(reset);
    this.#notice();
  }

  /** Waits until the other end has ended a channel, or the stream is over. */
  async untilEnded(channel: Channel): Promise<void> {
    while (!this.ended.has(channel)) {
      const reset = await Promise.race([this.done.then((over) => over ?? { code: 'over' }), this.#nextEvent()]);
      if (reset !== undefined) throw new Error(`the stream ended early: ${JSON.stringify(reset)}`);
    }
  }

  #takeData(frame: Frame): void {
    const channel = channelOf(frame);
    this.received[channel] += frame.payload.length;
    this.#options.onData?.(channel, frame.payload, frame.offset);
    if (channel === channels.control) {
      this.events.push(parsed(frame.payload) as ProcessEvent);
      this.#notice();
    }
    if (this.#options.grant === 'none') return;
    this.#ungranted += frame.payload.length;
    if (this.#ungranted < limits.initialWindowBytes / 2) return;
    this.grant(this.#ungranted);
    this.#ungranted = 0;
  }

  async #nextEvent(): Promise<undefined> {
    await new Promise<void>((resolve) => void this.#watchers.add(resolve));
    return undefined;
  }

  #notice(): void {
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const watcher of watchers) watcher();
  }
}

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

function parsed(payload: Uint8Array): unknown {
  return payload.length === 0 ? {} : JSON.parse(Buffer.from(payload).toString());
}

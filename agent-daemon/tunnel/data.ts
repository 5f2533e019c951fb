/**
 * Interactive and bulk sockets (SPEC rules K2, S13): dialled when the edge asks, moved to a new epoch by `rebind`, closed
 * when nobody needs them. Streams that the edge opens on them go to the handlers' table.
 */
import type { Clock, Log, Timers } from '../../schema/ports.ts';
import { Endpoint } from '../../schema/protocol/endpoint.ts';
import { FrameError } from '../../schema/protocol/frame.ts';
import { closeCodes, limits } from '../../schema/protocol/limits.ts';
import type { ToAgent } from '../../schema/protocol/messages.ts';
import type { Stream } from '../../schema/protocol/stream.ts';
import { AgentOpen } from '../../schema/protocol/streams.ts';
import type { AgentStream, Handlers } from '../dispatch.ts';
import { toAgentStream } from './agent-stream.ts';
import { GiveWay } from './give-way.ts';
import { asRefusal } from './refusal.ts';
import type { Dial, Socket, SocketEvents } from './socket.ts';

export type DialOrder = Omit<Extract<ToAgent, { type: 'dial' }>, 'type'>;

export interface DataPorts {
  clock: Clock;
  timers: Timers;
  log: Log;
  dial: Dial;
  url(): string;
  /** Runs a task after the I/O of this turn. */
  soon(task: () => void): void;
  /** Fine-grained, never goes back; for windows. */
  nowMs(): number;
}

const dialMs = 20_000;
/** From the loss of a socket to the dial of another; one that is lost again soon after its dial waits for the longer. */
const againMs = 1_000;
const lostAgainMs = 10_000;
/** So often in a row; five minutes. */
const maxAgain = 30;
/** A small share of a socket may wait in front of a key press. */
const interactiveBytes = 128 * 1024;
/** Four whole frames: a hub does nothing else while it forwards one message, and a key press waits for that. */
const bulkMessageBytes = 4 * (limits.headerBytes + limits.payloadBytes);

/** What data sockets need to know of the agent. */
export interface TunnelState {
  liveSessions(): number;
  /** The control socket was accepted, and is open. */
  isConnected(): boolean;
}

/** One data socket, from its dial to its end. */
class DataSocket implements SocketEvents {
  readonly order: DialOrder;
  readonly endpoint: Endpoint;
  /** How it ended. `isLost`: the hub may not know of it. */
  readonly ended: Promise<{ isLost: boolean }>;
  readonly #socket: Socket;
  readonly #ports: DataPorts;
  readonly #giveWay: GiveWay;
  #end!: (how: { isLost: boolean }) => void;
  #over = false;
  /** Something came since the last ping; reading the clock for each message would cost more than the message. */
  #heard = false;
  #heardAtMs: number;
  #cancelPing: () => void = () => {};
  /** Since when it carries no stream; undefined while it does. */
  #idleSinceMs: number | undefined;

  constructor(
    order: DialOrder,
    socket: Socket,
    giveWay: GiveWay,
    ports: DataPorts,
    serve: (stream: Stream, open: unknown) => void,
  ) {
    this.order = order;
    this.#socket = socket;
    this.#ports = ports;
    this.#giveWay = giveWay;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#heardAtMs = ports.clock.bootMs();
    this.#idleSinceMs = this.#heardAtMs;
    const bulk = order.purpose === 'bulk';
    const small = { messageBytes: interactiveBytes, inFlightBytes: interactiveBytes };
    this.endpoint = new Endpoint(
      {
        send: (message, sent) => this.#send(message, sent),
        // An idle socket sends at once; a busy one gathers what one turn of the loop brings.
        soon: (task) => (socket.bufferedBytes() === 0 ? queueMicrotask(task) : ports.soon(task)),
        nowMs: () => ports.nowMs(),
      },
      {
        maxWindowBytes: bulk ? limits.maxWindowBytes : limits.initialWindowBytes,
        maxStreams: limits.streamsPerAgent,
        accept: (stream, open) => {
          this.#idleSinceMs = undefined;
          serve(stream, open);
        },
        ...(bulk ? { messageBytes: bulkMessageBytes } : small),
      },
    );
  }

  start(needed: () => boolean): void {
    if (!this.#over) this.#ping(needed);
  }

  message(bytes: Uint8Array): void {
    this.#heard = true;
    if (this.order.purpose === 'interactive') this.#giveWay.interactive(this.#ports.nowMs());
    try {
      this.endpoint.receive(bytes);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#ports.log.error('the edge broke the protocol', { error: error.message });
      this.close(error.rule === 'F4' ? closeCodes.tooBig : closeCodes.protocolError, error.rule);
    }
  }

  text(): void {
    this.#heard = true;
  }

  closed(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelPing();
    this.endpoint.close('tunnel_closed', `The data socket closed (${code} ${reason}).`);
    this.#end({ isLost: code === closeCodes.abnormal });
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
    this.closed(code, reason);
  }

  /** A bulk message that must give way counts as under way for longer than it takes. */
  #send(message: Uint8Array, sent: () => void): void {
    const nowMs = this.#ports.nowMs();
    if (this.order.purpose === 'interactive') this.#giveWay.interactive(nowMs);
    const underWayMs = this.order.purpose === 'bulk' ? this.#giveWay.bulk(message.byteLength, nowMs) : 0;
    this.#socket.send(message, () => {
      const leftMs = underWayMs === 0 ? 0 : nowMs + underWayMs - this.#ports.nowMs();
      if (leftMs > 0) this.#ports.timers.after(leftMs, sent);
      else sent();
    });
  }

  #ping(needed: () => boolean): void {
    const nowMs = this.#ports.clock.bootMs();
    if (this.#heard) this.#heardAtMs = nowMs;
    this.#heard = false;
    if (nowMs - this.#heardAtMs >= limits.silentMs) {
      this.#socket.destroy();
      return;
    }
    if (this.endpoint.streams > 0 || needed()) this.#idleSinceMs = undefined;
    else this.#idleSinceMs ??= nowMs;
    if (this.#idleSinceMs !== undefined && nowMs - this.#idleSinceMs >= limits.bulkIdleMs) {
      this.close(closeCodes.normal, 'idle');
      return;
    }
    this.#socket.sendText('ping');
    this.#cancelPing = this.#ports.timers.after(limits.pingEveryMs, () => this.#ping(needed));
  }
}

export class DataSockets {
  readonly #ports: DataPorts;
  readonly #handlers: Handlers['streams'];
  readonly #agentId: string;
  readonly #tunnel: TunnelState;
  readonly #sockets = new Set<DataSocket>();
  readonly #giveWay = new GiveWay();
  /** Dials under way, by purpose and hub: an order that is repeated meanwhile changes nothing. */
  readonly #dialling = new Set<string>();
  /** Epochs that this agent was given so far: what belongs to an earlier one is the edge's to close. */
  #epochs = 0;
  readonly #stopping = new AbortController();

  constructor(agentId: string, handlers: Handlers['streams'], tunnel: TunnelState, ports: DataPorts) {
    this.#agentId = agentId;
    this.#handlers = handlers;
    this.#tunnel = tunnel;
    this.#ports = ports;
  }

  /** Open data sockets and what they hold, for the local status and for tests of memory. */
  status(): { purpose: string; streams: number; heldBytes: number }[] {
    return Array.from(this.#sockets, ({ order, endpoint }) => ({
      purpose: order.purpose,
      streams: endpoint.streams,
      heldBytes: endpoint.heldBytes,
    }));
  }

  /** Never throws: the edge asks again when somebody still needs the socket. */
  dial(order: DialOrder): void {
    void this.#dial(order);
  }

  /** The ledger gave this agent a new epoch: open sockets go on under it (S13). */
  rebind(epoch: number, dataTicket: string): void {
    this.#epochs += 1;
    for (const socket of this.#sockets) socket.endpoint.sendMessage({ type: 'rebind', epoch, dataTicket });
  }

  stop(): void {
    this.#stopping.abort(new Error('the agent stops'));
    for (const socket of this.#sockets) socket.close(closeCodes.goingAway, 'the agent stops');
  }

  /** Never rejects. False when there is no socket. */
  async #dial(order: DialOrder): Promise<boolean> {
    const key = `${order.purpose} ${order.dataHub} ${order.dataTicket}`;
    if (this.#dialling.has(key)) return true;
    this.#dialling.add(key);
    try {
      await this.#open(order);
      return true;
    } catch (error) {
      this.#ports.log.warn('a data socket was not opened', { purpose: order.purpose, error: String(error) });
      return false;
    } finally {
      this.#dialling.delete(key);
    }
  }

  async #open(order: DialOrder): Promise<void> {
    const address = new URL('/agent/v1/tunnel', this.#ports.url());
    address.searchParams.set('purpose', order.purpose);
    address.searchParams.set('hub', order.dataHub);
    const headers = { 'x-causeway-agent': this.#agentId, 'x-causeway-ticket': order.dataTicket };
    const late = new AbortController();
    const cancel = this.#ports.timers.after(dialMs, () => late.abort(new Error(`no answer within ${dialMs} ms`)));
    let data!: DataSocket;
    const signal = AbortSignal.any([late.signal, this.#stopping.signal]);
    try {
      await this.#ports.dial({ url: address.href, headers, signal }, (socket) => {
        data = new DataSocket(
          order,
          socket,
          this.#giveWay,
          this.#ports,
          (stream, open) => void this.#serve(stream, open),
        );
        return data;
      });
    } finally {
      cancel();
    }
    this.#sockets.add(data);
    if (this.#stopping.signal.aborted) data.close(closeCodes.goingAway, 'the agent stops');
    // Behind the line above: a socket that ended meanwhile is taken out again.
    data.start(() => order.purpose === 'interactive' && this.#tunnel.liveSessions() > 0);
    const openedMs = this.#ports.clock.bootMs();
    void data.ended.then(({ isLost }) => {
      this.#sockets.delete(data);
      if (isLost) void this.#dialAgain(order, this.#ports.clock.bootMs() - openedMs);
    });
  }

  /** A way that forgot the socket tells its hub nothing, where clients wait on it: another one does (S12). Never rejects. */
  async #dialAgain(order: DialOrder, livedMs: number): Promise<void> {
    const epochs = this.#epochs;
    for (let tries = 0; tries < maxAgain; tries += 1) {
      const pauseMs = Math.max(againMs, tries === 0 ? lostAgainMs - livedMs : lostAgainMs);
      await new Promise<void>((resolve) => void this.#ports.timers.after(pauseMs, resolve));
      const isOurs = this.#epochs === epochs && this.#tunnel.isConnected();
      if (!isOurs || this.#stopping.signal.aborted || this.#has(order) || (await this.#dial(order))) return;
    }
  }

  /** The edge, which had heard of the loss, ordered another one meanwhile. */
  #has({ purpose, dataHub }: DialOrder): boolean {
    return [...this.#sockets].some(({ order }) => order.purpose === purpose && order.dataHub === dataHub);
  }

  /** Runs the handler of one stream and makes sure that the stream ends with it. Never rejects. */
  async #serve(stream: Stream, value: unknown): Promise<void> {
    const parsed = AgentOpen.safeParse(value);
    if (!parsed.success) {
      stream.reset('tunnel_op_unknown', 'This agent knows no such operation.');
      return;
    }
    const { op } = parsed.data.open;
    try {
      // The table ties each handler to the OPEN of its own operation; TypeScript can not follow that through `op`.
      const handler = this.#handlers[op] as (open: AgentOpen, stream: AgentStream) => Promise<void>;
      await handler(parsed.data, toAgentStream(stream));
      stream.finish();
    } catch (error) {
      if (stream.over) return;
      const refusal = asRefusal(error);
      if (refusal) stream.reset(refusal.code, refusal.detail);
      else {
        this.#ports.log.error('a stream failed', { op, error: String(error) });
        stream.reset('internal');
      }
    }
  }
}

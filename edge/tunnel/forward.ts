/**
 * The path of the bytes through a data hub: headers are read and ids rewritten in place, and what goes to the same socket
 * goes as one view of the buffer it came in. Credit is passed on only as far as marks prove that its receiver reads
 * (SPEC rules S3, S5, S6). Whoever breaks a rule is closed; the others do not notice (K6).
 */
import { encodeFrame, FrameError, frameTypes } from '../../schema/protocol/frame.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { Random } from '../../schema/ports.ts';
import { Cursor, Run } from './cursor.ts';
import {
  type AgentLink,
  agentChannels,
  clientChannels,
  type ClientLink,
  type Flow,
  keepStreams,
  type Lane,
} from './links.ts';
import type { Allowance } from './marks.ts';

/** What the forwarder leaves to the hub. */
export interface ForwardHost {
  random: Random;
  /** True when bytes may pass on this client's socket now; else the caller puts them into `stalled`. */
  mayPass(client: ClientLink): boolean;
  /** A frame of JSON from a client: OPEN or RESET, with the cursor on it. */
  clientJson(client: ClientLink, cursor: Cursor): void;
  /** Counts an agent's frame that moves nothing. False: it was one too many. */
  mayIdle(agent: AgentLink): boolean;
  /** A frame of a message on stream 0 of an agent's socket. */
  agentMessage(agent: AgentLink, cursor: Cursor): void;
  /** Ends a stream at both ends. */
  reset(flow: Flow, code: string, detail?: string): void;
  /** Both ends ended it: forget it. */
  over(flow: Flow): void;
  /** The socket takes bytes and proves nothing. */
  stuck(link: AgentLink | ClientLink): void;
}

/** Sent to a socket and not proven to be read: above this it is given up, whatever the bookkeeping says. */
export const unprovenCapBytes = 32 * 1024 * 1024;
const maxHeld = 2 ** 48;
const { data, window, end, reset, opened, open, message, mark, marked } = frameTypes;

export class Forwarder {
  readonly #host: ForwardHost;

  constructor(host: ForwardHost) {
    this.#host = host;
  }

  /** @throws FrameError when the agent broke a rule */
  fromAgent(agent: AgentLink, buffer: ArrayBuffer): void {
    const cursor = new Cursor(buffer);
    const run = new Run<ClientLink>(buffer, (client, bytes) => this.deliver(client, bytes));
    while (cursor.next()) {
      const flow = agent.flows.get(cursor.stream);
      const moves = cursor.type === marked ? this.#proven(agent, cursor) : flow !== undefined && movesBytes(cursor);
      if (!moves && !this.#host.mayIdle(agent)) throw new FrameError('K6', 'too much that moves nothing');
      if (cursor.type === marked) continue;
      if (cursor.type === message) this.#host.agentMessage(agent, cursor);
      else this.#agentFrame(agent, flow, cursor, run);
    }
    run.cut();
  }

  #agentFrame(agent: AgentLink, flow: Flow | undefined, cursor: Cursor, run: Run<ClientLink>): void {
    if (!flow) {
      // It crossed a RESET, or the hub lost it: the agent stops when it is told.
      if (cursor.type === data) this.#unknown(agent, cursor.stream);
      return;
    }
    const { client } = flow;
    switch (cursor.type) {
      case data:
        if (!use(flow.toClient, client.out, cursor.length)) {
          this.#host.reset(flow, 'tunnel_window_exceeded', 'The agent sent beyond the window.');
          return;
        }
        break;
      case window:
        if (!this.#passGrant(flow, flow.toAgent, agent, cursor)) return;
        break;
      case end:
        flow.endedByAgent |= cursor.channelBit & agentChannels;
        break;
      case reset:
      case opened:
        break;
      default:
        throw new FrameError('F5', `type ${cursor.type} is not an agent's to send`);
    }
    cursor.rename(flow.clientId);
    run.add(client, cursor);
    if (cursor.type === reset && !cursor.more) {
      run.cut();
      this.#host.over(flow);
    } else if (cursor.type === end) this.#ended(flow, run);
  }

  /** @throws FrameError when the client broke a rule */
  fromClient(client: ClientLink, buffer: ArrayBuffer): void {
    const cursor = new Cursor(buffer);
    const run = new Run<AgentLink>(buffer, (agent, bytes) => this.send(agent, bytes));
    while (cursor.next() && !client.state.closing) {
      switch (cursor.type) {
        case marked:
          this.#proven(client, cursor);
          break;
        case open:
        case reset:
          // What came before must not be overtaken.
          run.cut();
          this.#host.clientJson(client, cursor);
          break;
        case data:
        case window:
        case end:
          this.#clientFrame(client, cursor, run);
          break;
        case message:
        case opened:
        case mark:
          throw new FrameError('F5', `type ${cursor.type} is not a client's to send`);
      }
    }
    run.cut();
  }

  #clientFrame(client: ClientLink, cursor: Cursor, run: Run<AgentLink>): void {
    // The agent's socket is shared: what would make the agent close it must not get there.
    if (cursor.type === data) checkClientData(cursor);
    const flow = client.flows.get(cursor.stream);
    if (!flow) {
      if (cursor.type === window) void cursor.grant;
      if (cursor.type === data) this.#unknown(client, cursor.stream);
      return;
    }
    const { agent } = flow;
    if (cursor.type === data) {
      if ((flow.endedByClient & cursor.channelBit) !== 0) throw new FrameError('S7', 'DATA behind END');
      const used = agent ? use(flow.toAgent, agent.out, cursor.length) : spend(flow.toAgent, cursor.length);
      if (!used) {
        this.#host.reset(flow, 'tunnel_window_exceeded', 'The client sent beyond the window.');
        return;
      }
    } else if (cursor.type === end) {
      const bit = cursor.channelBit & clientChannels;
      if (bit === 0 || cursor.length !== 0 || (flow.endedByClient & bit) !== 0)
        throw new FrameError('S7', 'a channel that is not open');
      flow.endedByClient |= bit;
    } else if (!this.#passGrant(flow, flow.toClient, client, cursor)) return;
    if (!agent) {
      flow.queue.push(cursor.copy());
      return;
    }
    cursor.rename(flow.agentId);
    run.add(agent, cursor);
    if (cursor.type === end) this.#ended(flow, run);
  }

  /** Gives bytes to a client as soon as its access is known to hold. */
  deliver(client: ClientLink, bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#host.mayPass(client)) this.send(client, bytes);
    else client.stalled.push(() => this.send(client, bytes));
  }

  /** Gives bytes to a socket, with a mark behind each 256 KiB. */
  send(link: AgentLink | ClientLink, bytes: Uint8Array<ArrayBuffer>): void {
    link.socket.send(bytes);
    if (link.out.send(bytes.byteLength)) this.#mark(link);
    if (link.out.unprovenBytes > unprovenCapBytes) this.#host.stuck(link);
  }

  /** Passes on what of the held grants the marks allow now, in turn: a stream that gets none must not stop the others. */
  release(link: AgentLink | ClientLink): void {
    // Once each: those with something left go to the end of the set that is walked.
    const turn = [...link.waiting];
    for (const flow of turn) {
      const lane = link === flow.client ? flow.toClient : flow.toAgent;
      const grant = take(lane, link.out);
      if (grant === 0) continue;
      // Behind the others, when something is left.
      link.waiting.delete(flow);
      if (lane.held > 0) link.waiting.add(flow);
      this.#sendGrant(flow, link === flow.client, grant);
    }
  }

  #sendGrant(flow: Flow, toAgent: boolean, grant: number): void {
    for (let left = grant; left > 0; left -= 0xff_ff_ff_ff) {
      const payload = new Uint8Array(4);
      new DataView(payload.buffer).setUint32(0, Math.min(left, 0xff_ff_ff_ff));
      const frame = { type: window, flags: 0, offset: 0, payload };
      if (toAgent && flow.agent) this.send(flow.agent, encodeFrame({ ...frame, stream: flow.agentId }));
      else if (!toAgent) this.deliver(flow.client, encodeFrame({ ...frame, stream: flow.clientId }));
    }
  }

  /** Adds the cursor's grant to what is held. True when some of it may pass now, in the very frame. */
  #passGrant(flow: Flow, lane: Lane, receiver: AgentLink | ClientLink, cursor: Cursor): boolean {
    lane.held = Math.min(maxHeld, lane.held + cursor.grant);
    if (receiver.out.wantsMark) this.#mark(receiver);
    const grant = Math.min(take(lane, receiver.out), 0xff_ff_ff_ff);
    if (lane.held > 0) receiver.waiting.add(flow);
    if (grant > 0) cursor.setGrant(grant);
    return grant > 0;
  }

  /** False for a mark that we do not know. */
  #proven(link: AgentLink | ClientLink, cursor: Cursor): boolean {
    if (cursor.stream !== 0 || cursor.length !== 8) throw new FrameError('S5', 'a malformed MARKED');
    const isKnown = link.out.marked(cursor.view, cursor.payloadAt);
    if (isKnown) this.release(link);
    return isKnown;
  }

  #mark(link: AgentLink | ClientLink): void {
    const payload = this.#host.random.bytes(8);
    link.out.mark(payload);
    link.socket.send(encodeFrame({ type: mark, flags: 0, stream: 0, offset: 0, payload }));
  }

  #ended(flow: Flow, run: { cut(): void }): void {
    if (flow.endedByClient === clientChannels && flow.endedByAgent === agentChannels) {
      run.cut();
      this.#host.over(flow);
    } else keepStreams(flow.client);
  }

  /** DATA of a stream that the hub does not know is answered, so that its sender stops (S8). */
  #unknown(link: AgentLink | ClientLink, stream: number): void {
    const payload = new TextEncoder().encode('{"code":"tunnel_stream_unknown"}');
    this.send(link, encodeFrame({ type: reset, flags: 0, stream, offset: 0, payload }));
  }
}

/** Bytes of a stream, or a grant worth a frame. */
function movesBytes(cursor: Cursor): boolean {
  if (cursor.type === window) return cursor.grant >= limits.idleGrantBytes;
  return cursor.type === data && cursor.length > 0;
}

function checkClientData(cursor: Cursor): void {
  if (cursor.more) throw new FrameError('F6', 'MORE on DATA');
  if (cursor.length === 0) throw new FrameError('S2', 'DATA without a byte');
  if ((cursor.channelBit & clientChannels) === 0) throw new FrameError('S7', 'not a channel that a client sends on');
}

/** Takes `bytes` of the sender's credit. False when it has not that much. */
function spend(lane: Lane, bytes: number): boolean {
  lane.unused -= bytes;
  if (lane.unused >= 0) return true;
  // From before a wake: more may have been granted than we remember, never less.
  if (lane.exact) return false;
  lane.unused = 0;
  return true;
}

function use(lane: Lane, receiver: Allowance, bytes: number): boolean {
  const before = lane.unused;
  const good = spend(lane, bytes);
  receiver.creditChanged(before, Math.max(0, lane.unused));
  return good;
}

/** Takes from the held grant what the receiver's marks allow. */
function take(lane: Lane, receiver: Allowance): number {
  const grant = receiver.grantable(lane.held, lane.unused);
  receiver.creditChanged(lane.unused, lane.unused + grant);
  lane.held -= grant;
  lane.unused += grant;
  return grant;
}

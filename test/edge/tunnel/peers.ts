/**
 * Peers of hubs in tests: the far ends of real WebSockets into real objects, speaking raw frames, so that they can also
 * behave badly. What comes is kept and can be waited for.
 */
import { env } from 'cloudflare:workers';
import {
  channelFlags,
  type Channel,
  decodeFrames,
  encodeFrames,
  type Frame,
  type FrameType,
  frameTypes,
} from '../../../schema/protocol/frame.ts';
import { JsonJoiner, jsonFrames, parseJson } from '../../../schema/protocol/json.ts';
import { clientProtocol, tunnelProtocol } from '../../../schema/protocol/limits.ts';
import { systemRandom } from '../../../edge/platform/random.ts';
import { newAgentId, newId, newSessionId } from '../../../schema/ids.ts';
import { type AgentSocketClaim, type ClientSocketClaim, hubHeaders } from '../../../edge/tunnel/rpc.ts';

export const ids = {
  agent: () => newAgentId(1_700_000_000_000, systemRandom.bytes(10), 1),
  session: () => newSessionId(1_700_000_000_000, systemRandom.bytes(10), 1, 1),
  fresh: (kind: Parameters<typeof newId>[0]) => newId(kind, 1_700_000_000_000, systemRandom.bytes(10)),
};

const noBytes = new Uint8Array(0);

export class Peer {
  readonly socket: WebSocket;
  readonly frames: Frame[] = [];
  readonly closed: Promise<{ code: number; reason: string }>;
  /** Answers marks by itself. */
  answersMarks = true;
  readonly #joiner = new JsonJoiner();
  readonly messages: Record<string, unknown>[] = [];
  /** By stream and channel: where what was sent ends. */
  readonly #reached = new Map<string, number>();
  #waiters: (() => void)[] = [];

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    this.closed = new Promise((resolve) => {
      socket.addEventListener('close', ({ code, reason }) => resolve({ code, reason }));
    });
    socket.addEventListener('message', ({ data }) => {
      if (typeof data === 'string') return;
      for (const frame of decodeFrames(new Uint8Array(data as ArrayBuffer))) this.#take(frame);
      for (const waiter of this.#waiters.splice(0)) waiter();
    });
    socket.accept();
  }

  #take(frame: Frame): void {
    this.frames.push(frame);
    if (frame.type === frameTypes.mark && this.answersMarks)
      this.send({ type: frameTypes.marked, payload: frame.payload });
    if (frame.type !== frameTypes.message) return;
    const joined = this.#joiner.join(frame);
    if (joined) this.messages.push(joined.value as Record<string, unknown>);
  }

  send(...frames: (Partial<Frame> & { type: FrameType })[]): void {
    this.socket.send(
      encodeFrames(frames.map((frame) => ({ flags: 0, stream: 0, offset: 0, payload: noBytes, ...frame }))),
    );
  }

  json(type: FrameType, stream: number, value: unknown): void {
    this.socket.send(encodeFrames(jsonFrames(type, stream, value)));
  }

  data(stream: number, channel: Channel, payload: Uint8Array, offset = 0): void {
    this.#reached.set(`${stream}/${channel}`, offset + payload.byteLength);
    this.send({ type: frameTypes.data, flags: channelFlags(channel), stream, offset, payload });
  }

  /** Behind what was sent, unless told otherwise. */
  end(stream: number, channel: Channel, offset = this.#reached.get(`${stream}/${channel}`) ?? 0): void {
    this.send({ type: frameTypes.end, flags: channelFlags(channel), stream, offset });
  }

  grant(stream: number, bytes: number): void {
    const payload = new Uint8Array(4);
    new DataView(payload.buffer).setUint32(0, bytes);
    this.send({ type: frameTypes.window, stream, payload });
  }

  /** Bytes of DATA received. */
  get dataBytes(): number {
    return this.#of(frameTypes.data).reduce((sum, { payload }) => sum + payload.byteLength, 0);
  }

  /** Bytes of credit received. */
  get granted(): number {
    return this.grantedTo();
  }

  /** Bytes of credit received for one stream, or for all. */
  grantedTo(stream?: number): number {
    const grants = this.#of(frameTypes.window).filter((frame) => stream === undefined || frame.stream === stream);
    return grants.reduce(
      (sum, { payload }) => sum + new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0),
      0,
    );
  }

  /** JSON of the frames of a type, whole ones only. */
  jsonOf(type: FrameType): { stream: number; value: Record<string, unknown> }[] {
    return this.#of(type).map(({ stream, payload }) => ({
      stream,
      value: parseJson(payload) as Record<string, unknown>,
    }));
  }

  #of(type: FrameType): Frame[] {
    return this.frames.filter((frame) => frame.type === type);
  }

  /** Waits for a condition on what came. */
  async until<Result>(what: string, find: () => Result | undefined | false): Promise<Result> {
    const deadline = Date.now() + 10_000;
    for (;;) {
      const found = find();
      if (found !== undefined && found !== false) return found;
      if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
      await new Promise<void>((resolve) => {
        this.#waiters.push(resolve);
        setTimeout(resolve, 20);
      });
    }
  }
}

async function dial(
  stub: { fetch(request: Request): Promise<Response> },
  headers: Record<string, string>,
): Promise<Peer> {
  const response = await stub.fetch(new Request('https://hub/', { headers: { upgrade: 'websocket', ...headers } }));
  if (!response.webSocket) throw new Error(`the hub answered ${response.status}`);
  return new Peer(response.webSocket);
}

export function dialData(hub: string, claim: Omit<AgentSocketClaim, 'groupNumber'>): Promise<Peer> {
  return dial(env.DATA_HUB.getByName(hub), {
    'sec-websocket-protocol': tunnelProtocol,
    [hubHeaders.agent]: JSON.stringify({ groupNumber: 1, ...claim }),
  });
}

export function dialControl(hub: string, agentId: string): Promise<Peer> {
  const claim: AgentSocketClaim = { agentId, groupNumber: 1, purpose: 'control' };
  return dial(env.CONTROL_HUB.getByName(hub), {
    'sec-websocket-protocol': tunnelProtocol,
    [hubHeaders.agent]: JSON.stringify(claim),
  });
}

export function clientClaim(claim: Partial<ClientSocketClaim> & { agentId: string }): ClientSocketClaim {
  return {
    sessionId: ids.session(),
    generation: 1,
    epoch: 1,
    controlHub: 'control',
    dataTicket: 'none',
    actorId: ids.fresh('user'),
    principal: {
      userId: ids.fresh('user'),
      tokenId: ids.fresh('token'),
      projectId: ids.fresh('project'),
      accessVersion: 0,
    },
    checkedAtMs: Date.now(),
    ops: ['process', 'logs', 'get', 'put', 'echo'],
    write: true,
    ...claim,
  };
}

export function dialClient(hub: string, claim: Partial<ClientSocketClaim> & { agentId: string }): Promise<Peer> {
  return dial(env.DATA_HUB.getByName(hub), {
    'sec-websocket-protocol': clientProtocol,
    [hubHeaders.client]: JSON.stringify(clientClaim(claim)),
  });
}

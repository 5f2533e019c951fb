/**
 * An agent made of test code: a real key, a real enrolment, real sockets into a real edge, and no container. By default it
 * does what an agent has to (acknowledges, runs everything at once, echoes streams); its sockets are open to whoever
 * wants it to misbehave. Frames that it is sent are kept.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { WebSocket } from 'ws';

import { type Challenged, type Enrolled, tunnelSigningText } from '../../schema/api/agent.ts';
import { type IdKind, newId } from '../../schema/ids.ts';
import { Endpoint } from '../../schema/protocol/endpoint.ts';
import type { AgentEvent } from '../../schema/protocol/events.ts';
import { decodeFrames, encodeFrames, type Frame, frameTypes } from '../../schema/protocol/frame.ts';
import type { Intent } from '../../schema/protocol/intents.ts';
import { JsonJoiner, jsonFrames } from '../../schema/protocol/json.ts';
import { limits, tunnelProtocol } from '../../schema/protocol/limits.ts';
import type { Slots, ToAgent, ToAgentWelcome, ToEdge, ToEdgeHello } from '../../schema/protocol/messages.ts';
import type { StackClient } from '../support/stack-client.ts';
import { until } from '../support/wait.ts';

export const freshId = (kind: IdKind): string => newId(kind, Date.now(), randomBytes(10));

type Dial = Extract<ToAgent, { type: 'dial' }>;

/** One WebSocket, with what came on it. */
export class RawSocket {
  readonly ws: WebSocket;
  readonly frames: Frame[] = [];
  readonly messages: ToAgent[] = [];
  readonly closed: Promise<{ code: number; reason: string }>;
  end: { code: number; reason: string } | undefined;
  /** Messages sent by all of them. */
  static sent = 0;
  readonly #joiner = new JsonJoiner();

  private constructor(ws: WebSocket, take: (socket: RawSocket, frame: Frame, bytes: Uint8Array) => void) {
    this.ws = ws;
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => resolve((this.end = { code, reason: reason.toString() })));
    });
    ws.on('error', () => {}); // a close follows
    ws.on('message', (data: Buffer, isBinary) => {
      if (!isBinary) return;
      for (const frame of decodeFrames(data)) {
        this.frames.push({ ...frame, payload: frame.payload.slice() });
        const joined = frame.type === frameTypes.message ? this.#joiner.join(frame) : undefined;
        if (joined) this.messages.push(joined.value as ToAgent);
        take(this, frame, data);
      }
    });
  }

  /** Rejects with `status code` when the upgrade is refused. */
  static async dial(
    url: string,
    headers: Record<string, string>,
    take: (socket: RawSocket, frame: Frame, bytes: Uint8Array) => void = () => {},
  ): Promise<RawSocket> {
    const ws = new WebSocket(url.replace(/^http/, 'ws'), tunnelProtocol, { headers, perMessageDeflate: false });
    const socket = new RawSocket(ws, take);
    await new Promise<void>((resolve, reject) => {
      ws.once('open', resolve);
      ws.once('error', reject);
      ws.once('unexpected-response', (_, response) => {
        let body = '';
        response.on('data', (part: Buffer) => (body += part.toString()));
        response.on('end', () => {
          reject(new Error(`${response.statusCode} ${(JSON.parse(body) as { code: string }).code}`));
          ws.terminate();
        });
      });
    });
    return socket;
  }

  raw(bytes: Uint8Array | string): void {
    RawSocket.sent += 1;
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(bytes);
  }

  send(...frames: (Partial<Frame> & { type: Frame['type'] })[]): void {
    const whole = frames.map((frame) => ({ flags: 0, stream: 0, offset: 0, payload: new Uint8Array(0), ...frame }));
    this.raw(encodeFrames(whole));
  }

  /** Any JSON, well-formed or not by the schema. */
  say(value: unknown): void {
    for (const frame of jsonFrames(frameTypes.message, 0, value)) this.raw(encodeFrames([frame]));
  }

  /** Pings as an agent does, until the end. */
  keepAlive(): void {
    const timer = setInterval(() => this.raw('ping'), limits.pingEveryMs).unref();
    void this.closed.then(() => clearInterval(timer));
  }

  /** Waits until the other end has read everything so far: it answers a ping of the protocol below ours. */
  async settled(): Promise<void> {
    await Promise.race([
      this.closed,
      new Promise<void>((resolve) => {
        this.ws.once('message', (data: Buffer) => {
          if (data.toString() === 'pong') resolve();
          else void this.settled().then(resolve);
        });
        this.raw('ping');
      }),
    ]);
  }
}

export class ScriptedAgent {
  readonly #url: string;
  readonly #key: KeyObject;
  readonly publicKey: string;
  readonly capacity: Slots;
  enrolled!: Enrolled;
  /** Of the newest accepted hello. */
  counter = 0;
  attemptId = freshId('attempt');
  journalId = freshId('journal');
  control!: RawSocket;
  welcome!: ToAgentWelcome;
  /** The header of the newest control dial. */
  authorization = '';
  /** Placements that it holds, by session. */
  readonly placements = new Map<string, number>();
  readonly data = new Map<string, RawSocket>();
  /** Events so far, for a replay. */
  readonly told: { index: number; event: AgentEvent }[] = [];
  /** Takes intents, dials and calls as an agent does. */
  honest = true;

  constructor(url: string, capacity: Slots) {
    this.#url = url;
    this.capacity = capacity;
    const pair = generateKeyPairSync('ed25519');
    this.#key = pair.privateKey;
    this.publicKey = pair.publicKey.export({ format: 'jwk' }).x ?? '';
  }

  static async join(client: StackClient, name: string, capacity: Slots): Promise<ScriptedAgent> {
    const agent = new ScriptedAgent(client.url, capacity);
    await agent.enrol(await client.newJoinToken(), name);
    await agent.connect();
    return agent;
  }

  get id(): string {
    return this.enrolled.agentId;
  }

  async enrol(token: string, name: string): Promise<void> {
    const { publicKey, capacity } = this;
    this.enrolled = (await this.post('/agent/v1/enrol', {
      token,
      publicKey,
      name,
      capacity,
      host: this.#host(),
      agentVersion: '0.1.0',
    })) as Enrolled;
  }

  async post(path: string, body: unknown): Promise<unknown> {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(new URL(path, this.#url), { method: 'POST', headers, body: JSON.stringify(body) });
    const read = (await answer.json()) as { code?: string };
    if (!answer.ok) throw new Error(`${answer.status} ${read.code}`);
    return read;
  }

  /** The header of a control dial; `change` is what is signed instead of the truth. */
  async credential(change: Partial<Parameters<typeof tunnelSigningText>[0]> = {}, agentId = this.id): Promise<string> {
    const { nonce } = (await this.post('/agent/v1/challenge', { agentId })) as Challenged;
    const truth = { instance: this.enrolled.instance, agentId, nonce, host: new URL(this.#url).host };
    const signature = sign(null, Buffer.from(tunnelSigningText({ ...truth, ...change })), this.#key);
    return `Causeway-Agent id=${agentId},nonce=${nonce},signature=${signature.toString('base64url')}`;
  }

  dialControl(authorization: string): Promise<RawSocket> {
    return RawSocket.dial(`${this.#url}/agent/v1/tunnel?purpose=control`, { authorization }, (socket) => {
      if (this.honest) this.#serve(socket);
    });
  }

  dialData(
    purpose: string,
    hub: string,
    ticket: string,
    agentId = this.id,
    take?: (socket: RawSocket, frame: Frame, bytes: Uint8Array) => void,
  ): Promise<RawSocket> {
    const headers = { 'x-causeway-agent': agentId, 'x-causeway-ticket': ticket };
    return RawSocket.dial(`${this.#url}/agent/v1/tunnel?purpose=${purpose}&hub=${hub}`, headers, take);
  }

  hello(change: Partial<Record<keyof ToEdgeHello, unknown>> = {}): ToEdgeHello {
    const inventory = [...this.placements].map(([sessionId, generation]) => ({
      sessionId,
      generation,
      state: 'running' as const,
    }));
    const { attemptId, journalId, capacity } = this;
    return {
      type: 'hello',
      version: limits.version,
      minVersion: limits.minVersion,
      agentVersion: '0.1.0',
      counter: this.counter + 1,
      attemptId,
      journalId,
      capacity,
      host: this.#host(),
      inventory,
      images: [],
      ...change,
    } as ToEdgeHello;
  }

  /** Dials and greets; resolves with the welcome. Rejects with the code of a refusal. */
  async connect(change: Partial<Record<keyof ToEdgeHello, unknown>> = {}): Promise<ToAgentWelcome> {
    this.authorization = await this.credential();
    this.control = await this.dialControl(this.authorization);
    const hello = this.hello({ attemptId: freshId('attempt'), ...change });
    this.control.keepAlive();
    this.control.say(hello);
    const { messages } = this.control;
    const first = await until(() => messages[0] ?? this.control.end, { what: 'an answer to the hello' });
    if (!('type' in first)) throw new Error(`closed ${first.code}`);
    if (first.type !== 'welcome') throw new Error(first.type === 'refused' ? first.code : first.type);
    this.welcome = first;
    this.counter = hello.counter;
    this.attemptId = hello.attemptId;
    return first;
  }

  get connected(): boolean {
    return this.control.end === undefined;
  }

  /** Tells events of its own, numbered on. */
  tell(...events: AgentEvent[]): void {
    const numbered = events.map((event, at) => ({ index: this.told.length + 1 + at, event }));
    this.told.push(...numbered);
    this.control.say({ type: 'events', journalId: this.journalId, events: numbered } satisfies ToEdge);
  }

  stop(): void {
    for (const socket of [this.control, ...this.data.values()]) socket.ws.terminate();
  }

  #host() {
    return { hostname: 'scripted', os: 'none', kernel: 'none', arch: 'x86_64' as const, engine: 'none' };
  }

  #served = new WeakMap<RawSocket, number>();

  #serve(socket: RawSocket): void {
    const from = this.#served.get(socket) ?? 0;
    this.#served.set(socket, socket.messages.length);
    for (const message of socket.messages.slice(from)) {
      if (message.type === 'intents') {
        socket.say({ type: 'intentAck', intentIds: message.intents.map(({ intentId }) => intentId) });
        for (const intent of message.intents) this.#carryOut(intent);
      } else if (message.type === 'dial') void this.#dialled(message);
    }
  }

  #carryOut({ sessionId, generation, order }: Intent): void {
    const event = (body: AgentEvent['body']): AgentEvent => ({ sessionId, generation, atMs: Date.now(), body });
    if (order.kind === 'create') {
      this.placements.set(sessionId, generation);
      this.tell(event({ kind: 'creating' }), event({ kind: 'running', containerId: 'none' }));
    } else if (order.kind === 'stop') this.tell(event({ kind: 'ended', reason: 'stopped' }));
    else {
      this.placements.delete(sessionId);
      this.tell(event({ kind: 'removed' }));
    }
  }

  /** A data socket whose streams send back what comes. */
  async #dialled({ purpose, dataHub, dataTicket }: Dial): Promise<void> {
    let ws: WebSocket | undefined;
    let seen: Uint8Array | undefined;
    const endpoint = new Endpoint(
      {
        send: (message, sent) => ws?.send(message, () => sent()),
        soon: (task) => queueMicrotask(task),
        nowMs: () => performance.now(),
      },
      { maxWindowBytes: limits.maxWindowBytes, maxStreams: limits.streamsPerAgent, accept: echo },
    );
    // The first OPEN may come with the answer to the upgrade.
    const socket = await this.dialData(purpose, dataHub, dataTicket, this.id, (from, _, bytes) => {
      ws = from.ws;
      if (bytes !== seen) endpoint.receive((seen = bytes));
    });
    socket.keepAlive();
    void socket.closed.then(() => endpoint.close('tunnel_closed'));
    this.data.set(purpose, socket);
  }
}

/** Opens at once, sends input back on stdout, and ends when the input does. */
function echo(stream: Parameters<NonNullable<ConstructorParameters<typeof Endpoint>[1]['accept']>>[0]): void {
  stream.opened();
  void (async () => {
    for await (const item of stream.read())
      if (item.bytes.length > 0 && item.channel === 0) await stream.write(1, item.bytes);
    stream.finish();
  })().catch(() => {}); // it was reset
}

/**
 * A fake edge for tests of the agent: HTTP for enrolment and challenge, and real WebSockets on which a test plays the hub
 * frame by frame. It checks what an edge checks (signature, ticket, subprotocol) and decides nothing.
 */
import { createPublicKey, verify } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { Enrol, tunnelSigningText } from '../../schema/api/agent.ts';
import { decodeFrames, encodeFrames, type Frame, frameTypes } from '../../schema/protocol/frame.ts';
import { JsonJoiner, jsonFrames } from '../../schema/protocol/json.ts';
import { badgeHeader, spreadHeader, tunnelProtocol } from '../../schema/protocol/limits.ts';
import { type ToAgent, ToEdge } from '../../schema/protocol/messages.ts';

export const fakeAgentId = `agt_${'0'.repeat(26)}_1`;

type Answer = { status: number; body: unknown; headers?: Record<string, string> };

/** One socket of the agent, as the hub sees it. */
export class FakeHubSocket {
  readonly purpose: string;
  readonly headers: IncomingMessage['headers'];
  readonly ws: WebSocket;
  /** Messages of a control socket, parsed as strictly as the hub does. */
  readonly messages: ToEdge[] = [];
  /** JSON messages of a data socket. */
  readonly values: unknown[] = [];
  readonly frames: Frame[] = [];
  /** False leaves pings unanswered. */
  answersPings = true;
  pings = 0;
  closed: { code: number; reason: string } | undefined;
  readonly #joiner = new JsonJoiner();

  constructor(ws: WebSocket, purpose: string, headers: IncomingMessage['headers']) {
    this.ws = ws;
    this.purpose = purpose;
    this.headers = headers;
    ws.on('message', (data: Buffer, isBinary) => {
      if (isBinary) for (const frame of decodeFrames(data)) this.#take(frame);
      else if (data.toString() === 'ping') {
        this.pings++;
        if (this.answersPings) ws.send('pong');
      }
    });
    ws.on('close', (code, reason) => (this.closed = { code, reason: reason.toString() }));
    ws.on('error', () => {});
  }

  send(message: ToAgent): void {
    this.sendJson(frameTypes.message, 0, message);
  }

  sendJson(type: Frame['type'], stream: number, value: unknown): void {
    this.ws.send(encodeFrames(jsonFrames(type, stream, value)));
  }

  sendFrames(...frames: Frame[]): void {
    this.ws.send(encodeFrames(frames));
  }

  of<Type extends ToEdge['type']>(type: Type): Extract<ToEdge, { type: Type }>[] {
    return this.messages.filter((message): message is Extract<ToEdge, { type: Type }> => message.type === type);
  }

  #take(frame: Frame): void {
    this.frames.push({ ...frame, payload: frame.payload.slice() });
    if (frame.type !== frameTypes.message) return;
    const joined = this.#joiner.join(frame);
    if (!joined) return;
    if (this.purpose === 'control') this.messages.push(ToEdge.parse(joined.value));
    else this.values.push(joined.value);
  }
}

export class FakeEdge {
  readonly url: string;
  readonly sockets: FakeHubSocket[] = [];
  readonly enrolments: Enrol[] = [];
  challenges = 0;
  /** What each challenge was asked for with. */
  readonly shownForChallenges: unknown[] = [];
  /** Over how long a time its agents should come back, ms (SPEC M12). */
  spreadMs = 0;
  /** What its agents are to show at their next dial (SPEC K1). */
  badge: string | undefined;
  /** Set to answer enrolments, challenges or upgrades otherwise. */
  enrolAnswer: (() => Answer) | undefined;
  challengeAnswer: (() => Answer) | undefined;
  upgradeAnswer: ((purpose: string) => Answer | undefined) | undefined;
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => tunnelProtocol });

  static async start(port = 0): Promise<FakeEdge> {
    const server = createServer();
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return new FakeEdge(server);
  }

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('request', (request, response) => void this.#answer(request, response));
    server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.#sockets.on('headers', (headers) => {
      headers.push(`${spreadHeader}: ${this.spreadMs}`);
      if (this.badge !== undefined) headers.push(`${badgeHeader}: ${this.badge}`);
    });
  }

  /** Sockets of a purpose, oldest first. */
  of(purpose: string): FakeHubSocket[] {
    return this.sockets.filter((socket) => socket.purpose === purpose);
  }

  async stop(): Promise<void> {
    for (const { ws } of this.sockets) ws.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => void this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body: unknown = JSON.parse(Buffer.concat(parts).toString());
    const answer = request.url === '/agent/v1/enrol' ? this.#enrol(body) : this.#challenge(request);
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers });
    response.end(JSON.stringify(answer.body));
  }

  #enrol(body: unknown): Answer {
    this.enrolments.push(Enrol.parse(body));
    const enrolled = {
      agentId: fakeAgentId,
      name: 'fake',
      instance: 'test',
      controlHub: '0',
      resourceGroup: 'default',
      approved: true,
    };
    return this.enrolAnswer?.() ?? { status: 200, body: enrolled };
  }

  #challenge({ headers }: IncomingMessage): Answer {
    this.challenges++;
    this.shownForChallenges.push(headers[badgeHeader]);
    return this.challengeAnswer?.() ?? { status: 200, body: { nonce: `nonce-${this.challenges}`, expiresAtMs: 1 } };
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const purpose = new URL(request.url ?? '/', this.url).searchParams.get('purpose') ?? '';
    const refused = this.upgradeAnswer?.(purpose) ?? this.#check(purpose, request);
    if (refused) {
      const text = JSON.stringify(refused.body);
      const headers = Object.entries({ 'content-length': String(text.length), ...refused.headers });
      socket.end(
        [`HTTP/1.1 ${refused.status} x`, ...headers.map(([name, value]) => `${name}: ${value}`), '', text].join('\r\n'),
      );
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (ws) => {
      this.sockets.push(new FakeHubSocket(ws, purpose, request.headers));
    });
  }

  #check(purpose: string, { headers }: IncomingMessage): Answer | undefined {
    const refuse = (code: string): Answer => ({ status: 401, body: { code } });
    if (headers['sec-websocket-protocol'] !== tunnelProtocol) return { status: 426, body: { code: 'protocol' } };
    if (purpose !== 'control') return headers['x-causeway-ticket'] === undefined ? refuse('auth_missing') : undefined;
    const signed = /^Causeway-Agent id=([^,]+),nonce=([^,]+),signature=(.+)$/.exec(headers.authorization ?? '');
    const x = this.enrolments.at(-1)?.publicKey;
    if (!signed || x === undefined || signed[2] !== `nonce-${this.challenges}`)
      return refuse('agent_signature_invalid');
    const text = tunnelSigningText({
      instance: 'test',
      agentId: fakeAgentId,
      nonce: signed[2],
      host: new URL(this.url).host,
    });
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
    const isGood = verify(null, Buffer.from(text), key, Buffer.from(signed[3] ?? '', 'base64url'));
    return isGood ? undefined : refuse('agent_signature_invalid');
  }
}

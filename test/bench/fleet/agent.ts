/**
 * One agent without containers: the real enrolment, challenge, signature, hello, codec, pings and back-off, and nothing
 * behind them, so that ten thousand fit into one process. It counts what it sends, for the budget of an idle agent.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { badgeShown } from '../../../agent-daemon/tunnel/edge-api.ts';
import { type Enrolled, tunnelSigningText } from '../../../schema/api/agent.ts';
import { newId } from '../../../schema/ids.ts';
import { Redial } from '../../../schema/protocol/backoff.ts';
import { decodeFrames, encodeFrames, frameTypes } from '../../../schema/protocol/frame.ts';
import { JsonJoiner, jsonFrames } from '../../../schema/protocol/json.ts';
import { badgeHeader, closeCodes, limits, spreadHeader, tunnelProtocol } from '../../../schema/protocol/limits.ts';
import type { ToAgent, ToEdge } from '../../../schema/protocol/messages.ts';
import { brieflyKept, type WayAgent } from '../../../wire/http.ts';
import { Way } from '../../../wire/way.ts';
import { reachedNobody } from '../../../wire/way-error.ts';

/** What a fleet keeps of an agent between two of its lives. */
export interface AgentRecord {
  /** PKCS8, PEM. */
  key: string;
  agentId: string;
  instance: string;
  counter: number;
}

/** Of all agents of a process. */
export interface FleetCounters {
  /** Agents whose hello was accepted on a socket that is open now. */
  connected: number;
  /** Sockets that were lost. */
  drops: number;
  dials: number;
  /** Answers to challenges and upgrades, by status; `none` where there was no answer. */
  answers: Record<string, number>;
  /** Messages that wake a hub: all but pings. */
  sent: number;
  received: number;
  /** When the last one was connected, Unix ms. */
  lastConnectedMs: number;
  /** When an answer of 500 and above last came, Unix ms. */
  last5xxMs: number;
}

const capacity = { cpu: 8000, mem: 32 * 1024 ** 3 };
const host = { hostname: 'fleet', os: 'Debian', kernel: '6.0', arch: 'x86_64' as const, engine: 'none' };
const version = '0.1.0';
const handshakeMs = 15_000;

export class FleetAgent {
  readonly record: AgentRecord;
  readonly #url: string;
  readonly #counters: FleetCounters;
  readonly #journalId = newId('journal', Date.now(), randomBytes(10));
  #attemptId = '';
  #accepted = true;
  #stopped = false;
  #socket: WebSocket | undefined;
  readonly #redial = new Redial();
  /** It was told to stay away for so long. */
  #leastMs = 0;
  /** What it shows at its next dial. */
  #badge: string | undefined;
  /** The last socket was ended by the other end, without a word. */
  #wasReset = false;
  readonly #kept = brieflyKept(new Way({}));

  constructor(url: string, record: AgentRecord, counters: FleetCounters) {
    this.#url = url;
    this.record = record;
    this.#counters = counters;
  }

  /** Connects again and again until it is stopped. */
  async run(): Promise<void> {
    const redial = this.#redial;
    while (!this.#stopped) {
      let isNobodyThere = false;
      this.#leastMs = 0;
      const acceptedMs = await this.#connectOnce().catch((error: unknown) => {
        isNobodyThere = reachedNobody(error);
        return 0;
      });
      if (acceptedMs > 0) redial.lost(acceptedMs, performance.now(), this.#wasReset);
      // One that the edge sent away keeps the moment that it was told.
      const waitMs = this.#leastMs > 0 ? 0 : redial.waitMs(performance.now(), Math.random(), isNobodyThere);
      if (!this.#stopped) await sleep(Math.max(this.#leastMs, waitMs));
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#socket?.terminate();
  }

  /** One socket, to its end; how long it was accepted, ms. */
  async #connectOnce(): Promise<number> {
    const { agentId, instance, key } = this.record;
    this.#counters.dials++;
    const badge = badgeShown(this.#badge);
    const asked = await post(
      this.#url,
      '/agent/v1/challenge',
      { agentId },
      { agent: this.#kept, shown: { 'x-causeway-agent': agentId, ...badge } },
      this.#answered,
    );
    const { nonce } = asked as { nonce: string };
    if (this.#accepted) {
      this.record.counter++;
      this.#attemptId = newId('attempt', Date.now(), randomBytes(10));
      this.#accepted = false;
    }
    const text = tunnelSigningText({ instance, agentId, nonce, host: new URL(this.#url).host });
    const signature = sign(null, Buffer.from(text), createPrivateKey(key)).toString('base64url');
    const socket = new WebSocket(`${this.#url.replace('http', 'ws')}/agent/v1/tunnel?purpose=control`, tunnelProtocol, {
      headers: {
        authorization: `Causeway-Agent id=${agentId},nonce=${nonce},signature=${signature}`,
        ...badge,
      },
      perMessageDeflate: false,
      handshakeTimeout: handshakeMs,
      ...(this.#kept.to(new URL(this.#url)) as object),
      generateMask: (mask) => void mask.fill(0),
    });
    this.#socket = socket;
    socket.on('upgrade', ({ headers }) => {
      this.#redial.spread(Number(headers[spreadHeader] ?? 0));
      this.#badge = headers[badgeHeader] as string | undefined;
    });
    return this.#live(socket);
  }

  readonly #answered = (status: number | 'none', retryAfter?: string): void => {
    const { answers } = this.#counters;
    this.#leastMs = Number(retryAfter ?? 0) * 1000;
    answers[status] = (answers[status] ?? 0) + 1;
    if (status !== 'none' && status >= 500) this.#counters.last5xxMs = Date.now();
  };

  #live(socket: WebSocket): Promise<number> {
    const joiner = new JsonJoiner();
    let acceptedAtMs: number | undefined;
    let heardAtMs = Date.now();
    let isGivenUp = false;
    const ping = setInterval(() => {
      if (Date.now() - heardAtMs > limits.silentMs) {
        isGivenUp = true;
        socket.terminate();
      } else if (socket.readyState === WebSocket.OPEN) socket.send('ping');
    }, limits.pingEveryMs);
    return new Promise((resolve) => {
      socket.on('open', () => {
        this.#answered(101);
        this.#send(socket, this.#hello());
      });
      socket.on('unexpected-response', (_, response) => {
        this.#answered(response.statusCode ?? 0, response.headers['retry-after']);
        socket.terminate();
      });
      socket.on('error', () => {}); // a close follows
      socket.on('message', (data: Buffer, isBinary) => {
        heardAtMs = Date.now();
        if (!isBinary) return;
        this.#counters.received++;
        for (const frame of decodeFrames(data)) {
          const message = joiner.join(frame)?.value as ToAgent | undefined;
          if (message?.type !== 'welcome') continue;
          this.#accepted = true;
          acceptedAtMs = Date.now();
          this.#counters.connected++;
          this.#counters.lastConnectedMs = acceptedAtMs;
          this.#send(socket, report());
        }
      });
      socket.on('close', (code) => {
        clearInterval(ping);
        this.#wasReset = code === closeCodes.abnormal && !isGivenUp;
        if (acceptedAtMs !== undefined) {
          this.#counters.connected--;
          this.#counters.drops++;
        }
        resolve(acceptedAtMs === undefined ? 0 : Date.now() - acceptedAtMs);
      });
    });
  }

  #hello(): ToEdge {
    return {
      type: 'hello',
      version: limits.version,
      minVersion: limits.minVersion,
      agentVersion: version,
      counter: this.record.counter,
      attemptId: this.#attemptId,
      journalId: this.#journalId,
      capacity,
      host,
      inventory: [],
      images: [],
    };
  }

  #send(socket: WebSocket, message: ToEdge): void {
    this.#counters.sent++;
    socket.send(encodeFrames(jsonFrames(frameTypes.message, 0, message)));
  }
}

/** Makes a key and enrols it with a token of the group. */
export async function enrolOne(url: string, adminToken: string, group: string, name: string): Promise<AgentRecord> {
  const pair = generateKeyPairSync('ed25519');
  const publicKey = createPublicKey(pair.privateKey).export({ format: 'jwk' }).x ?? '';
  const wanted = { resourceGroup: group };
  const made = (await post(url, '/v1/agents/join-tokens', wanted, { token: adminToken })) as { token: string };
  const body = { token: made.token, publicKey, name, capacity, host, agentVersion: version };
  const { agentId, instance } = (await post(url, '/agent/v1/enrol', body)) as Enrolled;
  const key = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  return { key, agentId, instance, counter: 0 };
}

function report(): ToEdge {
  const used = { cpu: 0, mem: 1024 ** 3 };
  return { type: 'report', report: { used, health: 'ok', problems: [], sessions: 0, atMs: Date.now() } };
}

/** A POST, on a connection of its own where no other is given; any status but 2xx is an error. */
async function post(
  url: string,
  path: string,
  body: unknown,
  { token, shown, agent }: { token?: string; shown?: Record<string, string>; agent?: WayAgent } = {},
  answered: (status: number | 'none', retryAfter?: string) => void = () => {},
): Promise<unknown> {
  const target = new URL(path, url);
  const text = JSON.stringify(body);
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...shown,
    ...(token === undefined
      ? {}
      : { authorization: `Bearer ${token}`, 'idempotency-key': randomBytes(12).toString('hex') }),
  };
  return new Promise((resolve, reject) => {
    const sending = request(target, {
      ...(agent?.to(target) ?? { agent: false }),
      method: 'POST',
      headers,
      timeout: handshakeMs,
    });
    sending.on('timeout', () => sending.destroy(new Error('no answer')));
    sending.on('error', (error) => {
      answered('none');
      reject(error);
    });
    sending.on('response', (response: IncomingMessage) => {
      let said = '';
      response.setEncoding('utf8').on('data', (part: string) => (said += part));
      response.on('error', reject);
      response.on('end', () => {
        const status = response.statusCode ?? 0;
        answered(status, response.headers['retry-after']);
        if (status >= 200 && status < 300) resolve(JSON.parse(said));
        else reject(new Error(`${path} answered ${status}: ${said.slice(0, 300)}`));
      });
    });
    sending.end(text);
  });
}

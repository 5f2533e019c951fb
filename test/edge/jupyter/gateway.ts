/** Both ends of the gateway, played by a test: a client of Jupyter, and the agent with a kernel. */
import { exports } from 'cloudflare:workers';
import { vi } from 'vitest';
import { ControlHub } from '../../../edge/tunnel/control-hub-object.ts';
import type { CallOutcome } from '../../../edge/tunnel/rpc.ts';
import { joinMessage, joinRecord, type Message, splitMessage } from '../../../schema/protocol/jupyter-framing.ts';
import type { Kernel, Kernelspec } from '../../../schema/api/kernel-parts.ts';
import type { BridgeNote, ChannelsEvent } from '../../../schema/protocol/channels.ts';
import { channels, frameTypes } from '../../../schema/protocol/frame.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, origin } from '../client.ts';
import { BenchAgent, haveHubSayAlive } from '../scheduler/bench-agent.ts';
import { dialData, type Peer } from '../tunnel/peers.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
export const textOf = (part: Uint8Array | undefined) => new TextDecoder().decode(part);
export const jsonOf = (part: Uint8Array | undefined) => JSON.parse(textOf(part)) as Record<string, unknown>;

/** A message of Jupyter by what matters of it. */
export function message(
  channel: string,
  type: string,
  content: object = {},
  more: { id?: string; parent?: object; buffers?: Uint8Array[]; session?: string } = {},
): Message {
  const { id = `m-${type}`, parent = {}, buffers = [], session = 'kernel-session' } = more;
  const header = { msg_id: id, msg_type: type, session, username: 'u', date: '2026-01-01T00:00:00Z', version: '5.3' };
  return { channel, parts: [...[header, parent, {}, content].map((part) => bytes(JSON.stringify(part))), ...buffers] };
}
/** Header of a request, as its answers repeat it. */
export const request = (id: string, session = 'client') => ({ msg_id: id, msg_type: 'execute_request', session });
export const status = (state: string, id: string, session?: string) =>
  message('iopub', 'status', { execution_state: state }, { parent: request(id, session), id: `${state}-${id}` });
export const stream = (text: string, id: string) =>
  message('iopub', 'stream', { name: 'stdout', text }, { parent: request(id) });

/** What a client has seen, in words: `channel type content`. */
export function summary({ channel, parts }: Message): string {
  const type = String(jsonOf(parts[0])['msg_type']);
  const content = jsonOf(parts[3]);
  const parent = jsonOf(parts[1])['msg_id'];
  const replay = 'causeway' in jsonOf(parts[2]) ? ' (replay)' : '';
  const said = type === 'status' ? content['execution_state'] : (content['text'] ?? '');
  return [channel, type, parent, said].filter((each) => each !== undefined && each !== '').join(' ') + replay;
}

/** A client on a WebSocket. */
export class Client {
  readonly socket: WebSocket;
  readonly received: Message[] = [];
  readonly raw: (string | Uint8Array)[] = [];
  closed: { code: number; reason: string } | undefined;

  constructor(socket: WebSocket, dialect: 'v1' | 'text') {
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('message', ({ data }) => {
      const said = typeof data === 'string' ? data : new Uint8Array(data as ArrayBuffer);
      this.raw.push(said);
      if (dialect === 'v1') this.received.push(splitMessage(said as Uint8Array));
    });
    socket.addEventListener('close', ({ code, reason }) => {
      this.closed = { code, reason };
    });
    socket.accept();
  }

  get seen(): string[] {
    return this.received.map(summary);
  }

  say(said: Message): void {
    this.socket.send(joinMessage(said));
  }
}

export interface Dial {
  token?: string;
  session?: string;
  protocol?: string;
  query?: string;
  headers?: Record<string, string>;
}

export async function dial(path: string, { token, session, protocol, query, headers }: Dial): Promise<Client> {
  const response = await tryDial(path, { token, session, protocol, query, headers } as Dial);
  if (!response.webSocket) throw new Error(`${response.status}: ${await response.text()}`);
  const isV1 = response.headers.get('sec-websocket-protocol') === protocol && protocol !== undefined;
  return new Client(response.webSocket, isV1 ? 'v1' : 'text');
}

export function tryDial(path: string, { token, session, protocol, query, headers }: Dial): Promise<Response> {
  const parameters = [session === undefined ? '' : `session_id=${session}`, query ?? ''].filter((each) => each !== '');
  return exports.default.fetch(
    new Request(`${origin}${path}?${parameters.join('&')}`, {
      headers: {
        upgrade: 'websocket',
        ...(token === undefined ? {} : { authorization: `token ${token}` }),
        ...(protocol === undefined ? {} : { 'sec-websocket-protocol': protocol }),
        ...headers,
      },
    }),
  );
}

/** One stream that the gateway opened to the kernel. */
export class KernelStream {
  readonly #agent: Peer;
  readonly stream: number;
  readonly open: { after?: { starts: number; offset: number }; writer?: string; kernelId: string };
  #told = 0;
  /** Where the log goes on. */
  offset = 0;

  constructor(agent: Peer, stream: number, open: KernelStream['open']) {
    this.#agent = agent;
    this.stream = stream;
    this.open = open;
  }

  accept(inputOffset = 0): this {
    this.#agent.json(frameTypes.opened, this.stream, { inputOffset });
    return this;
  }

  refuse(code: string, detail?: string): void {
    this.#agent.json(frameTypes.reset, this.stream, { code, ...(detail === undefined ? {} : { detail }) });
  }

  tell(event: ChannelsEvent): this {
    const said = bytes(JSON.stringify(event));
    this.#agent.data(this.stream, channels.control, said, this.#told);
    this.#told += said.byteLength;
    return this;
  }

  /** Of a kernel that answers. */
  begin(starts: number, from: number): this {
    this.offset = from;
    return this.tell({ kind: 'begun', starts, from }).tell({ kind: 'state', state: 'idle' });
  }

  /** Says messages: one record each, in frames of 64 KiB. */
  say(...messages: Message[]): this {
    for (const each of messages) this.write(joinRecord(each));
    return this;
  }

  note(note: BridgeNote, parent: object = {}): this {
    return this.say(message('causeway', 'note', note, { parent }));
  }

  write(record: Uint8Array): this {
    for (let at = 0; at < record.byteLength; at += 65_536) {
      const part = record.subarray(at, at + 65_536);
      this.#agent.data(this.stream, channels.stdout, part, this.offset);
      this.offset += part.byteLength;
    }
    return this;
  }

  end(): void {
    for (const channel of [channels.stdout, channels.stderr, channels.control])
      this.#agent.end(
        this.stream,
        channel,
        channel === channels.stdout ? this.offset : channel === channels.control ? this.#told : 0,
      );
  }

  /** Bytes of input that came, with the offset of the first. */
  get input(): { offset: number; bytes: Uint8Array } {
    const frames = this.#agent.frames.filter(
      ({ type, stream, flags }) => type === frameTypes.data && stream === this.stream && (flags & 6) === 0,
    );
    return {
      offset: frames[0]?.offset ?? 0,
      bytes: Uint8Array.from(frames.flatMap(({ payload }) => [...payload])),
    };
  }

  /** The records of the input. */
  get said(): Message[] {
    const { bytes: all } = this.input;
    const messages: Message[] = [];
    for (let at = 0; at + 4 <= all.byteLength;) {
      const length = new DataView(all.buffer, at).getUint32(0);
      if (at + 4 + length > all.byteLength) break;
      messages.push(splitMessage(all.subarray(at + 4, at + 4 + length)));
      at += 4 + length;
    }
    return messages;
  }
}

export const python3: Kernelspec = {
  name: 'python3',
  displayName: 'Python 3 (ipykernel)',
  language: 'python',
  argv: ['python3', '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
  env: {},
  interruptMode: 'signal',
  metadata: {},
};

/** The gateway with one agent that holds an image with Python. */
export class Gateway {
  readonly bench = new BenchAgent(1);
  token = '';
  userId = '';
  agent!: Peer;
  /** What the agent was asked on its control socket. */
  readonly asked: { op: string; input: Record<string, unknown> }[] = [];
  kernels: Kernel[] = [];
  specs: Kernelspec[] = [python3];
  /** Answers before anything else does. */
  answers: (op: string, input: Record<string, unknown>) => CallOutcome | undefined = () => undefined;
  #dataHub = '';
  #seen = 0;

  async begin(names: string[] = ['causeway/python:3.13']): Promise<void> {
    ({ token: this.token, userId: this.userId } = await bootstrapped());
    await this.bench.enrol();
    haveHubSayAlive([this.bench]);
    vi.spyOn(ControlHub.prototype, 'call').mockImplementation((_agent, _id, op, input) => {
      this.asked.push({ op, input: input as Record<string, unknown> });
      return Promise.resolve(this.#answer(op, input as Record<string, unknown>));
    });
    vi.spyOn(ControlHub.prototype, 'dial').mockImplementation(() => this.#dialWhenAsked());
    // What the group had before is known for 5 s.
    passMs(6_000);
    const { dataHub } = await this.bench.attach();
    this.#dataHub = dataHub;
    const images = names.map((name, at) => ({ digest: `sha256:${at}`, names: [name], sizeBytes: 1 }));
    await this.bench.ledger.agentImages(this.bench.agentId, this.bench.epoch, images);
    await this.dialAgent();
  }

  async dialAgent(): Promise<void> {
    const { agentId, epoch } = this.bench;
    this.agent = await dialData(this.#dataHub, { agentId, purpose: 'interactive', epoch });
    this.#seen = 0;
  }

  #answer(op: string, input: Record<string, unknown>): CallOutcome {
    const own = this.answers(op, input);
    if (own) return own;
    if (op === 'kernels') return { ok: true as const, result: { kernels: this.kernels } };
    if (op === 'kernelspecs') return { ok: true as const, result: { specs: this.specs } };
    const id = String(input['kernelId']);
    const act = input['act'] as { kind: string; spec?: string };
    if (act.kind === 'startSpec' && !this.specs.some(({ name }) => name === act.spec))
      return { ok: false as const, code: 'kernel_spec_missing' };
    if (act.kind === 'startSpec') this.kernels.push({ ...idleKernel(id), spec: act.spec! });
    const kernel = this.kernels.find((each) => each.id === id);
    return kernel ? { ok: true as const, result: { kernel } } : { ok: false as const, code: 'kernel_not_found' };
  }

  /** Has the agent run a session that was placed on it. */
  async run(sessionId: string): Promise<void> {
    await this.bench.acknowledge(await this.bench.openIntents(sessionId));
    await this.bench.tell(sessionId, 1, { kind: 'running', containerId: 'c1' });
  }

  /** The next stream that the gateway opens to a kernel. */
  async stream(): Promise<KernelStream> {
    const { stream, open } = await this.nextOpen();
    return new KernelStream(this.agent, stream, open as KernelStream['open']);
  }

  async nextOpen(): Promise<{ stream: number; open: unknown }> {
    const opens = () => this.agent.jsonOf(frameTypes.open);
    await until('an OPEN', () => opens().length > this.#seen);
    const { stream, value } = opens()[this.#seen++]!;
    return { stream, open: value['open'] };
  }

  /** As an agent that its hub asks to dial. On a busy machine the runtime may have forgotten a hub, with its sockets. */
  async #dialWhenAsked(): Promise<boolean> {
    if (this.agent.socket.readyState !== WebSocket.OPEN) return false;
    await this.dialAgent();
    return true;
  }
}

export function idleKernel(id: string): Kernel {
  return { id, spec: 'python3', state: 'idle', starts: 1, startedAtMs: 1_800_000_000_000, queued: 0 };
}

/** Waits for a condition. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise<void>((resolve) => void setTimeout(resolve, 10));
  }
}

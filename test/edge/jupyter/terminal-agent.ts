/** An agent with terminals, and a client of terminado, both played by a test of the gateway. */
import type { Terminal } from '../../../schema/api/terminal-parts.ts';
import { channelFlags, channels, frameTypes } from '../../../schema/protocol/frame.ts';
import type { TerminalEvent } from '../../../schema/protocol/terminal.ts';
import type { Peer } from '../tunnel/peers.ts';
import { type Gateway, tryDial, until } from './gateway.ts';

const bytesOf = (text: string) => new TextEncoder().encode(text);
type Open = { terminalId: string; input?: { writer: string; from: number }; window?: object; after?: number };

/** The terminals of the gateway's agent, by session. */
export class TerminalAgent {
  readonly #gateway: Gateway;
  readonly terminals = new Map<string, Terminal[]>();
  /** Whether the control socket is cut. */
  isAway = false;
  /** Said to have happened between a list and the next start. */
  meanwhile: (sessionId: string) => void = () => undefined;

  constructor(gateway: Gateway) {
    this.#gateway = gateway;
    gateway.answers = (op, input) => this.#answer(op, input);
  }

  #answer(op: string, input: Record<string, unknown>) {
    if (op !== 'terminals' && op !== 'terminal') return undefined;
    if (this.isAway) return { ok: false as const, code: 'agent_unreachable' };
    const sessionId = String(input['sessionId']);
    const all = this.terminals.get(sessionId) ?? [];
    this.terminals.set(sessionId, all);
    if (op === 'terminals') return { ok: true as const, result: { terminals: structuredClone(all) } };
    const id = String(input['terminalId']);
    const act = input['act'] as { kind: string; request: { name?: string; argv: string[] } };
    if (act.kind === 'start') {
      this.meanwhile(sessionId);
      const { name, argv } = act.request;
      if (all.some((each) => each.state === 'running' && each.name === name))
        return { ok: false as const, code: 'terminal_conflict' };
      const terminal = aTerminal(id, { argv, ...(name === undefined ? {} : { name }) });
      all.push(terminal);
      return { ok: true as const, result: { terminal } };
    }
    const at = all.findIndex((each) => each.id === id);
    if (at < 0) return { ok: false as const, code: 'terminal_not_found' };
    const [closed] = all.splice(at, 1);
    return { ok: true as const, result: { terminal: { ...closed!, state: 'ended', exit: { reason: 'exited' } } } };
  }

  /** The next stream that the gateway opens to a terminal. */
  async stream(): Promise<TerminalStream> {
    const { stream, open } = await this.#gateway.nextOpen();
    return new TerminalStream(this.#gateway.agent, stream, open as Open);
  }
}

/** As its agent shows one that runs. */
export function aTerminal(id: string, more: Partial<Terminal> = {}): Terminal {
  const window = { rows: 24, columns: 80 };
  const counts = { viewers: 0, writers: 0, outputBytes: 0, startedAtMs: 1_800_000_000_000 };
  return { id, argv: ['sh'], state: 'running', window, exclusive: false, ...counts, ...more };
}

/** The agent's end of a stream to a terminal. */
export class TerminalStream {
  readonly #agent: Peer;
  readonly stream: number;
  readonly open: Open;
  #told = 0;
  #drawn = 0;
  at = 0;

  constructor(agent: Peer, stream: number, open: Open) {
    this.#agent = agent;
    this.stream = stream;
    this.open = open;
  }

  accept(inputOffset = 0): this {
    this.#agent.json(frameTypes.opened, this.stream, { inputOffset });
    return this;
  }

  refuse(code: string): void {
    this.#agent.json(frameTypes.reset, this.stream, { code });
  }

  tell(event: TerminalEvent): this {
    const said = bytesOf(JSON.stringify(event));
    this.#agent.data(this.stream, channels.control, said, this.#told);
    this.#told += said.byteLength;
    return this;
  }

  screen(at: number, text: string, window = { rows: 24, columns: 80 }): this {
    const drawn = bytesOf(text);
    this.tell({ kind: 'screen', at, bytes: drawn.byteLength, ...window });
    if (drawn.byteLength > 0) this.#agent.data(this.stream, channels.stderr, drawn, this.#drawn);
    this.#drawn += drawn.byteLength;
    this.at = at;
    return this;
  }

  write(output: string | Uint8Array, at = this.at): this {
    const bytes = typeof output === 'string' ? bytesOf(output) : output;
    this.#agent.data(this.stream, channels.stdout, bytes, at);
    this.at = at + bytes.byteLength;
    return this;
  }

  exit(): this {
    return this.tell({ kind: 'exit', exitCode: 0, reason: 'exited', end: this.at });
  }

  /** What was typed on this stream: `offset` of the first byte, and all of it. */
  get typed(): { offset: number | undefined; text: string } {
    const frames = this.#data(channels.input);
    const text = new TextDecoder().decode(Uint8Array.from(frames.flatMap(({ payload }) => [...payload])));
    return { offset: frames[0]?.offset, text };
  }

  /** What the gateway said on the control channel. */
  get told(): unknown[] {
    return this.#data(channels.control).map(({ payload }) => JSON.parse(new TextDecoder().decode(payload)) as unknown);
  }

  #data(channel: 0 | 3) {
    return this.#agent.frames.filter(
      ({ type, stream, flags }) =>
        type === frameTypes.data && stream === this.stream && (flags & 6) === channelFlags(channel),
    );
  }
}

/** A page with a terminal. */
export class Page {
  readonly received: unknown[][] = [];
  closed: { code: number; reason: string } | undefined;
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => void this.received.push(JSON.parse(String(data)) as unknown[]));
    socket.addEventListener('close', ({ code, reason }) => void (this.closed = { code, reason }));
    socket.accept();
  }

  static async open(path: string, token: string): Promise<Page> {
    const response = await tryDial(path, { query: `token=${token}` });
    if (!response.webSocket) throw new Error(`${response.status}: ${await response.text()}`);
    return new Page(response.webSocket);
  }

  /** What stands behind the last reset. */
  get shown(): string {
    const texts = this.received.filter(([kind]) => kind === 'stdout').map(([, text]) => String(text));
    return texts.join('').split('\x1bc').at(-1) ?? '';
  }

  say(...message: unknown[]): void {
    this.#socket.send(JSON.stringify(message));
  }

  sayRaw(text: string): void {
    this.#socket.send(text);
  }

  sees(text: string): Promise<void> {
    return until(`${JSON.stringify(text)} on a page`, () => this.shown.includes(text));
  }

  leave(): void {
    if (!this.closed) this.#socket.close(1000);
  }
}

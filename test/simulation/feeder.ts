/**
 * A person who starts a program in a session, feeds it, and reads what it makes of that, over every cut, as `exec -i` does
 * (SPEC rules S2 and S7). The program says again what it reads: it must read all of its input, in order and each byte once,
 * before it may end well; it is started once ([I6]); and what comes back is that, or an announced gap ([I5]).
 */
import { channels } from '../../schema/protocol/frame.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import { parseJson } from '../../schema/protocol/json.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { ProcessEvent } from '../../schema/protocol/streams.ts';
import type { Chance } from './chance.ts';
import { type ClientPorts, connect } from './client.ts';
import { patternBytes } from './host/programs.ts';
import type { Sometimes } from './sometimes.ts';

export interface FeederPorts extends Omit<ClientPorts, 'toldOut'> {
  chance: Chance;
  sometimes: Sometimes;
  processId: string;
  violated: (what: string) => void;
}

const againMs = 1_000;
const thinkMs = 500;
const mostTries = 80;
/** More in a row come from no way, only from a far end that leaves bytes out. */
const mostDoubts = 8;
const mostBytes = 200_000;
/** Nothing more will ever be said of it. */
const final = new Set(['session_ended', 'session_not_found', 'session_output_gone', 'process_not_found']);

export class Feeder {
  readonly sessionId: string;
  readonly name: string;
  readonly #ports: FeederPorts;
  readonly #input = new InputLog();
  #total = 0;
  #isTired = false;
  #isOver = false;
  #cuts = 0;
  #doubts = 0;
  /** The placement in which it may have been started. */
  #generation: number | undefined;
  /** The byte of its output that comes next. */
  #next = 0;

  constructor(sessionId: string, name: string, ports: FeederPorts) {
    this.sessionId = sessionId;
    this.name = name;
    this.#ports = ports;
  }

  /** The program has ended, or its session or machine has. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** What was fed is the last. */
  tire(): void {
    this.#isTired = true;
  }

  /** Until the program has ended; never rejects. */
  async run(): Promise<void> {
    const { time, chance } = this.#ports;
    void this.#feed();
    for (let tries = 0; !this.#isOver && tries < mostTries; tries += 1) {
      try {
        await this.#once();
      } catch (error) {
        if (!(error instanceof StreamOver)) throw error;
        if (final.has(error.code)) this.#isOver = true;
      }
      this.#cuts += 1;
      await time.sleep(chance.delayMs(againMs));
    }
    this.#isOver = true;
  }

  /** Piece by piece, and then the end; it does not wait for anybody. */
  async #feed(): Promise<void> {
    const { time, chance } = this.#ports;
    for (let left = chance.integer(0, 8); left > 0 && !this.#isTired && !this.#isOver; left -= 1) {
      const to = Math.min(mostBytes, this.#total + chance.integer(1, chance.isTrue(0.3) ? 100_000 : 300));
      this.#input.push(patternBytes(this.#total, to), () => undefined);
      this.#total = to;
      await time.sleep(chance.delayMs(thinkMs));
    }
    this.#input.end();
  }

  async #once(): Promise<void> {
    const { time, chance, processId } = this.#ports;
    const route = { op: 'process' as const };
    const { endpoint, generation, close } = await connect(this.sessionId, route, {
      ...this.#ports,
      toldOut: () => undefined,
    });
    const over = new AbortController();
    try {
      // It ended with its machine.
      if (this.#generation !== undefined && generation !== this.#generation) return void (this.#isOver = true);
      const stream = endpoint.open({
        op: 'process',
        processId,
        spawn: { argv: ['cat'], stdin: true },
        after: { stdout: this.#next, stderr: 0 },
        input: true,
      });
      const inputOffset = await this.#whenOpened(stream, generation);
      // Somebody who loses the way in the middle.
      if (chance.isTrue(0.3)) time.after(chance.delayMs(thinkMs), close);
      void this.#send(stream, inputOffset, over.signal);
      await this.#read(stream);
    } finally {
      over.abort();
      close();
    }
  }

  /** What was refused because it could not be started yet was not; anything else may have been. */
  async #whenOpened(stream: Stream, generation: number): Promise<number> {
    const before = this.#generation;
    this.#generation = generation;
    try {
      return (await stream.whenOpened).inputOffset ?? 0;
    } catch (error) {
      if (error instanceof StreamOver && ['session_not_running', 'session_generation_stale'].includes(error.code))
        this.#generation = before;
      throw error;
    }
  }

  async #send(stream: Stream, from: number, signal: AbortSignal): Promise<void> {
    const { violated, sometimes } = this.#ports;
    if (!this.#input.rewind(from)) return violated(`[S7] ${this.name} is asked for byte ${from} of ${this.#total}`);
    if (this.#cuts > 0 && from > 0) sometimes.reached('a program was fed over a cut');
    if (await this.#input.feed(stream, from, signal)) stream.end(channels.input);
  }

  async #read(stream: Stream): Promise<void> {
    for await (const { channel, offset, bytes, end } of stream.read()) {
      if (end) continue;
      if (channel === channels.control) this.#hear(ProcessEvent.parse(parseJson(bytes)));
      else if (channel === channels.stdout) this.#see(offset, bytes);
      if (this.#isOver) return;
    }
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  #see(offset: number, bytes: Uint8Array): void {
    this.#mustReach(offset, 'sees bytes');
    if (offset < this.#next || Buffer.compare(bytes, patternBytes(offset, offset + bytes.byteLength)) !== 0)
      this.#ports.violated(`[I5] ${this.name} reads other bytes at ${offset} than it has fed, behind ${this.#next}`);
    this.#next = offset + bytes.byteLength;
    this.#doubts = 0;
  }

  #hear(event: ProcessEvent): void {
    const { violated } = this.#ports;
    if (event.kind === 'gap' && event.stream === 'stdout') {
      this.#mustReach(event.from, 'hears of a gap');
      this.#next = event.to;
    } else if (event.kind === 'exit') {
      const end = event.ends.stdout ?? 0;
      this.#mustReach(end, 'hears of the end');
      if (event.exitCode === 0 && (end !== this.#total || !this.#input.exhausted))
        violated(`[S7] ${this.name} ended well and had read ${end} of ${this.#total} bytes`);
      this.#isOver = true;
    }
  }

  /** What came in another order, or was lost with its connection, is asked for again. */
  #mustReach(offset: number, what: string): void {
    if (offset <= this.#next) return;
    this.#doubts += 1;
    if (this.#doubts > mostDoubts) this.#ports.violated(`[S2] ${this.name} ${what} at ${offset}, behind ${this.#next}`);
    throw new StreamOver({ code: 'tunnel_closed' });
  }
}

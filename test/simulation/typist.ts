/**
 * Somebody at a terminal, over every cut (SPEC rules S18 and S19). What was typed arrives once and in order, whatever others
 * type meanwhile ([S19]); what the program wrote is shown byte for byte, from where a viewer was or behind a screen ([S18]);
 * and whose link only looks types nothing.
 */
import { channels } from '../../schema/protocol/frame.ts';
import { parseJson } from '../../schema/protocol/json.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { TerminalEvent } from '../../schema/protocol/terminal.ts';
import { ask } from './calls.ts';
import type { Chance } from './chance.ts';
import { connect } from './client.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import type { Way } from './edge/links.ts';
import { forbidden, type Logbook, type StartLog } from './logbook.ts';
import type { Sometimes } from './sometimes.ts';

export interface TypistPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  way: Way;
  token: string;
  logbook: Logbook;
  /** Messages of a connection come once and in order. */
  isOrdered: boolean;
  violated: (what: string) => void;
}

/** Whose bytes are known by their value: each has sixteen. */
export const maxTypists = 4;
const firstByte = 0x20;
const bytesEach = 16;

const againMs = 1_000;
const mostTries = 80;
const mostDoubts = 8;
const thinkMs = 1_200;
const visitMs = 10_000;

export interface TerminalPlace {
  sessionId: string;
  terminalId: string;
}

export class Typist {
  readonly #ports: TypistPorts;
  readonly #place: TerminalPlace;
  readonly name: string;
  /** Which bytes are its own; undefined: it only looks. */
  readonly #number: number | undefined;
  #generation = 0;
  /** The byte of the output that comes next; undefined: it has nothing. */
  #next: number | undefined;
  /** What of the screen is still to come, and where that was. */
  #screen: { at: number; left: number; text: Buffer } | undefined;
  #screenBytes = 0;
  /** The last that it opened: only into that it types. */
  #stream: Stream | undefined;
  #typed = Buffer.alloc(0);
  #taken = 0;
  #left: number;
  #cuts = 0;
  #doubts = 0;
  #isOver = false;
  #isTired = false;

  constructor(place: TerminalPlace, name: string, number: number | undefined, ports: TypistPorts) {
    this.#place = place;
    this.name = name;
    this.#number = number;
    this.#ports = ports;
    this.#left = ports.chance.integer(2, 15);
  }

  get sessionId(): string {
    return this.#place.sessionId;
  }

  /** All that it typed has arrived, or the terminal is no more. */
  get isOver(): boolean {
    return this.#isOver || (this.#isTired && this.#number === undefined);
  }

  /** What was typed is the last. */
  tire(): void {
    this.#isTired = true;
  }

  /** Until it has typed what it wants; never rejects. */
  async run(): Promise<void> {
    const { time, chance } = this.#ports;
    await this.#start();
    for (let tries = 0; !this.isOver && tries < mostTries; tries += 1) {
      try {
        await this.#once();
      } catch (error) {
        if (!(error instanceof StreamOver)) throw error;
        await this.#refused(error);
      }
      this.#cuts += 1;
      await time.sleep(chance.delayMs(againMs));
    }
    this.#isOver = true;
  }

  async #start(): Promise<void> {
    const request = { argv: ['cat'], window: { rows: 24, columns: 80 }, exclusive: false };
    const { sessionId, terminalId } = this.#place;
    const asked = ask(sessionId, 'terminal', { terminalId, act: { kind: 'start', request } }, this.#ports);
    await asked.catch(() => undefined);
  }

  async #refused({ code, detail }: StreamOver): Promise<void> {
    const { sometimes, isOrdered, violated } = this.#ports;
    if (code === 'session_ended' || code === 'session_not_found') this.#isOver = true;
    else if (code === 'terminal_not_found' && this.#isTired) this.#isOver = true;
    else if (code === 'terminal_not_found') await this.#start();
    else if (code === 'access_denied') sometimes.reached('a link that only looks was refused to type');
    else if (code === 'tunnel_frame_invalid' && isOrdered) violated(`[S19] ${this.name} is not understood: ${detail}`);
  }

  async #once(): Promise<void> {
    const { time, chance, violated } = this.#ports;
    const { terminalId } = this.#place;
    const route = { op: 'terminal' as const, terminalId, isReadOnly: this.#number === undefined };
    const { endpoint, generation, close } = await connect(this.sessionId, route, {
      ...this.#ports,
      toldOut: () => undefined,
    });
    const cancel = this.#number === undefined ? time.after(chance.delayMs(visitMs), close) : () => undefined;
    // Somebody with a link that only looks, who tries to type all the same.
    const tries = this.#number === undefined && chance.isTrue(0.3);
    try {
      if (generation !== this.#generation) this.#move(generation);
      const from = this.#typed.byteLength;
      const stream = endpoint.open({
        op: 'terminal',
        terminalId,
        ...(this.#next === undefined ? {} : { after: this.#next }),
        ...(this.#number === undefined && !tries ? {} : { input: { writer: `writer-${this.name}`, from } }),
        ...(this.#number !== undefined && chance.isTrue(0.5) ? { window: this.#drawWindow() } : {}),
      });
      this.#stream = stream;
      const { inputOffset } = await stream.whenOpened;
      this.#screen = undefined;
      this.#screenBytes = 0;
      if (tries) violated(`[S19] ${this.name} has a link that only looks, and is let in to type`);
      if (this.#number === undefined) stream.write(channels.input, Buffer.of(forbidden.from)).catch(() => undefined);
      else this.#typeAgain(stream, inputOffset ?? 0);
      if (this.#number !== undefined) void this.#type(stream).catch(() => undefined);
      await this.#read(stream);
    } finally {
      this.#stream = undefined;
      cancel();
      close();
    }
  }

  /** In another container there is another terminal. */
  #move(generation: number): void {
    this.#generation = generation;
    this.#next = undefined;
    this.#typed = Buffer.alloc(0);
    this.#taken = 0;
  }

  // ---- what it sees ----

  async #read(stream: Stream): Promise<void> {
    const { chance } = this.#ports;
    for await (const { channel, offset, bytes, end } of stream.read()) {
      if (end) continue;
      if (channel === channels.control) this.#hear(TerminalEvent.parse(parseJson(bytes)));
      else if (channel === channels.stderr) this.#draw(offset, bytes);
      else this.#see(offset, bytes);
      if (this.#isOver) return;
      if (chance.isTrue(0.03)) throw new StreamOver({ code: 'tunnel_closed' });
    }
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  #hear(event: TerminalEvent): void {
    const { violated, sometimes } = this.#ports;
    if (event.kind === 'screen') {
      sometimes.reached('a screen was drawn for somebody who had nothing');
      this.#screen = { at: event.at, left: event.bytes, text: Buffer.alloc(0) };
      if (event.bytes === 0) this.#next = event.at;
    } else if (event.kind === 'gap') this.#next = undefined;
    else if (event.kind === 'exit') {
      if (this.#next !== undefined && this.#next !== event.end) this.#mustFollow(event.end, 'hears of the end');
      if (event.reason === 'exited' && event.end > this.#size)
        violated(`[S18] ${this.name} hears of ${event.end} bytes, and ${this.#size} were written`);
      this.#isOver = true;
    }
  }

  #draw(offset: number, bytes: Uint8Array): void {
    const screen = this.#screen;
    if (screen === undefined || offset !== this.#screenBytes) throw new StreamOver({ code: 'tunnel_closed' });
    this.#screenBytes += bytes.byteLength;
    screen.left -= bytes.byteLength;
    screen.text = Buffer.concat([screen.text, bytes]);
    if (screen.left > 0) return;
    const { at, text } = screen;
    // Behind a place where bytes are missing: those before it are nobody's.
    const known = text.subarray(text.lastIndexOf(0x18) + 1);
    if (this.#log?.has(at - known.byteLength, known) === false)
      this.#ports.violated(
        `[S18] ${this.name} is shown a screen of ${text.byteLength} bytes at ${at} that never stood there`,
      );
    this.#screen = undefined;
    this.#next = at;
  }

  #see(offset: number, bytes: Uint8Array): void {
    const { violated, sometimes } = this.#ports;
    if (this.#next === undefined) throw new StreamOver({ code: 'tunnel_closed' });
    this.#mustFollow(offset, 'sees bytes');
    if (this.#log?.has(offset, bytes) !== true)
      return violated(`[S18] ${this.name} sees at ${offset} what the terminal did not write`);
    if (this.#cuts > 0) sometimes.reached('a terminal was looked at over a cut');
    this.#next = offset + bytes.byteLength;
    this.#doubts = 0;
  }

  /** What came in another order, or was lost with its connection, is asked for again. */
  #mustFollow(offset: number, what: string): void {
    if (offset === this.#next) return;
    this.#doubts += 1;
    if (this.#ports.isOrdered || this.#doubts > mostDoubts)
      this.#ports.violated(`[S2] ${this.name} ${what} at ${offset}, behind ${this.#next}`);
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  // ---- what it types ----

  #typeAgain(stream: Stream, offset: number): void {
    const { violated, sometimes } = this.#ports;
    if (offset < this.#taken || offset > this.#typed.byteLength)
      return violated(
        `[S19] ${this.name} has ${this.#taken} of ${this.#typed.byteLength} bytes taken, and is at ${offset}`,
      );
    if (this.#cuts > 0 && offset > this.#taken) sometimes.reached('what was typed had arrived and its typist not told');
    if (offset < this.#typed.byteLength) sometimes.reached('what was typed was sent again');
    this.#taken = offset;
    // For one that has ended it is as if all had been taken.
    this.#mustHaveArrived(this.#log?.isWhole === true ? 0 : offset);
    stream.seek(channels.input, offset);
    stream.write(channels.input, this.#typed.subarray(offset)).catch(() => undefined);
  }

  /** Piece by piece, until all is typed; then until all has arrived. @throws StreamOver */
  async #type(stream: Stream): Promise<void> {
    const { time, chance } = this.#ports;
    for (;;) {
      await time.sleep(chance.delayMs(thinkMs));
      if (this.#isOver || this.#stream !== stream) return;
      if (this.#left === 0 || this.#isTired) {
        this.#isOver = this.#mustHaveArrived(0) === this.#typed.byteLength || this.#log?.isWhole === true;
        // Nothing comes any more that would end its reading.
        if (this.#isOver) return stream.reset('tunnel_closed');
        if (chance.isTrue(0.1)) return stream.reset('tunnel_closed');
        continue;
      }
      this.#left -= 1;
      const piece = this.#pieceOf(chance.integer(1, 40));
      this.#typed = Buffer.concat([this.#typed, piece]);
      await stream.write(channels.input, piece);
      if (chance.isTrue(0.2)) await stream.writeControl({ kind: 'resize', ...this.#drawWindow() });
      if (chance.isTrue(0.01)) await stream.writeControl({ kind: 'signal', signal: 'TERM' });
      if (chance.isTrue(0.1)) return stream.reset('tunnel_closed');
    }
  }

  /** [S19]: tells how much of what it typed has arrived, which is at least so much and exactly that. */
  #mustHaveArrived(least: number): number {
    const { violated, sometimes } = this.#ports;
    const from = this.#base;
    const arrived = this.#log?.bytesWithin(from, from + bytesEach) ?? Buffer.alloc(0);
    if (arrived.byteLength < least || !this.#typed.subarray(0, arrived.byteLength).equals(arrived))
      violated(`[S19] ${this.name} typed ${this.#typed.byteLength} bytes, and ${arrived.byteLength} or others arrived`);
    if (arrived.byteLength > 0 && arrived.byteLength < this.#size)
      sometimes.reached('several people typed at one terminal');
    return arrived.byteLength;
  }

  /** The next bytes of its own: each follows from its place. */
  #pieceOf(bytes: number): Buffer {
    const from = this.#typed.byteLength;
    const at = Array.from({ length: bytes }, (_, more) => from + more);
    return Buffer.from(at.map((place) => this.#base + ((place * 7 + Math.floor(place / 16) * 5) % bytesEach)));
  }

  #drawWindow(): { rows: number; columns: number } {
    const { chance } = this.#ports;
    return { rows: chance.integer(5, 60), columns: chance.integer(20, 200) };
  }

  get #base(): number {
    return firstByte + bytesEach * (this.#number ?? maxTypists);
  }

  get #log(): StartLog | undefined {
    const placement = { sessionId: this.sessionId, generation: this.#generation };
    return this.#ports.logbook.terminal(placement, this.#place.terminalId);
  }

  get #size(): number {
    return this.#log?.size ?? 0;
  }
}

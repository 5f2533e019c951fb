/**
 * Somebody with a notebook on a kernel of Jupyter: follows its channels over every cut and every start of the kernel, and
 * says to it what is to be carried out once (SPEC rule S17). What comes must be the bytes that were written, each once and
 * from the begin of a record, or a gap ([J1]); what was taken is carried out, in order ([J11]); and each request is answered
 * at most once ([J2]).
 */
import { type BridgeNote, bridgeChannel, ChannelsEvent } from '../../schema/protocol/channels.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { parseJson } from '../../schema/protocol/json.ts';
import {
  joinRecord,
  type LogPosition,
  type LogRecord,
  RecordReader,
  splitMessage,
} from '../../schema/protocol/jupyter-framing.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import type { Chance } from './chance.ts';
import { connect } from './client.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import type { Way } from './edge/links.ts';
import type { Placement } from './host/agent.ts';
import { specName } from './host/specs-tool.ts';
import { askKernel, type KernelAct, type KernelPlace } from './calls.ts';
import type { Logbook, StartLog } from './logbook.ts';
import type { Sometimes } from './sometimes.ts';

export interface NotebookPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  way: Way;
  token: string;
  logbook: Logbook;
  /** Messages of a connection come once and in order. */
  isOrdered: boolean;
  /** Only looks, and says nothing. */
  isWatcher: boolean;
  /** How often a message was carried out in a placement. */
  times: (placement: Placement, id: string) => number;
  violated: (what: string) => void;
}

/** What it has said to the kernel. */
interface Said {
  id: string;
  record: Uint8Array;
  /** Where it ends among all that it has said. */
  end: number;
  isTaken: boolean;
  /** Its answer came, or was missed, or never will come. */
  isOver: boolean;
}

const againMs = 1_000;
const mostTries = 120;
const mostDoubts = 8;
/** Longer than a full log waits for one who takes nothing. */
const restMs = 12_000;
const mostRestMs = 60_000;
const visitMs = 15_000;

export class Notebook {
  readonly #ports: NotebookPorts;
  readonly #place: KernelPlace;
  readonly name: string;
  #generation = 0;
  #position: LogPosition | undefined;
  /** The byte of the log that comes next. */
  #next = 0;
  /** Within a record, as far as what is kept goes: what comes behind this begins with the next one. */
  #endsAt: number | undefined;
  /** The stream has said where it begins. */
  #hasBegun = false;
  #reader = new RecordReader(0);
  #log: StartLog | undefined;
  #said: Said[] = [];
  /** Of requests that it has an answer to. */
  readonly #answered = new Set<string>();
  #count = 0;
  #saidBytes = 0;
  #left: number;
  #cuts = 0;
  #doubts = 0;
  #isOver = false;
  #isTired = false;

  constructor(place: KernelPlace, name: string, ports: NotebookPorts) {
    this.#place = place;
    this.name = name;
    this.#ports = ports;
    this.#left = ports.chance.integer(1, 8);
  }

  get sessionId(): string {
    return this.#place.sessionId;
  }

  /** All that it said was answered, or the kernel is no more. */
  get isOver(): boolean {
    return this.#isOver || (this.#isTired && this.#ports.isWatcher);
  }

  /** What was said is the last. */
  tire(): void {
    this.#isTired = true;
  }

  /** Follows the kernel until it has said what it wants; never rejects. */
  async run(): Promise<void> {
    const { time, chance } = this.#ports;
    const perMinute = chance.pick([undefined, 3, 20]);
    const restarts = perMinute === undefined ? undefined : { perMinute };
    await this.#ask({ kind: 'startSpec', spec: specName, ...(restarts === undefined ? {} : { restarts }) });
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

  async #ask(act: KernelAct): Promise<boolean> {
    try {
      await askKernel(this.#place, act, this.#ports);
      return true;
    } catch (error) {
      if (!(error instanceof StreamOver)) throw error;
      return false;
    }
  }

  async #refused({ code, detail }: StreamOver): Promise<void> {
    const { violated, isOrdered, logbook } = this.#ports;
    if (code === 'session_ended' || code === 'session_not_found') this.#isOver = true;
    else if (code === 'kernel_not_found') {
      if (this.#isTired) this.#isOver = true;
      else await this.#ask({ kind: 'startSpec', spec: specName });
    } else if (code === 'session_output_gone') {
      // Of a start that never was nothing is kept.
      if ((this.#position?.offset ?? 0) === 0) return this.#die();
      if (!logbook.hasLostPower(this.#placement))
        violated(`[S17] ${this.name} can not go on at ${this.#position?.offset}: ${detail}`);
    } else if (code === 'kernel_message_invalid' && isOrdered)
      violated(`[S17] ${this.name} is not understood: ${detail}`);
  }

  /** The kernel is dead: somebody starts it anew, or it has no more use. */
  async #die(): Promise<void> {
    const { chance, sometimes } = this.#ports;
    if (this.#isTired || chance.isTrue(0.2)) this.#isOver = true;
    else if (this.#position === undefined) await this.#ask({ kind: 'restart' });
    else if (await this.#ask({ kind: 'restart', starts: this.#position.starts - 1 }))
      sometimes.reached('a kernel was started anew by somebody');
  }

  async #once(): Promise<void> {
    const { isWatcher, time, chance } = this.#ports;
    const { endpoint, generation, close } = await connect(this.sessionId, 'channels', {
      ...this.#ports,
      toldOut: () => undefined,
    });
    // Who says nothing has nothing to wait for.
    const cancel = isWatcher ? time.after(chance.delayMs(visitMs), close) : () => undefined;
    try {
      if (generation !== this.#generation) this.#move(generation);
      const stream = endpoint.open({
        op: 'channels',
        kernelId: this.#place.kernelId,
        ...(this.#position === undefined ? {} : { after: { ...this.#position } }),
        ...(isWatcher ? {} : { writer: this.name }),
      });
      const { inputOffset } = await stream.whenOpened;
      if (inputOffset !== undefined) this.#sayAgain(stream, inputOffset);
      this.#hasBegun = false;
      await this.#read(stream);
    } finally {
      cancel();
      close();
    }
  }

  /** In another container there is another kernel, which was told nothing. */
  #move(generation: number): void {
    this.#generation = generation;
    this.#position = undefined;
    this.#said = [];
    this.#saidBytes = 0;
  }

  async #read(stream: Stream): Promise<void> {
    const { chance, time } = this.#ports;
    for await (const { channel, offset, bytes, end } of stream.read()) {
      if (end) continue;
      if (channel !== channels.control) {
        this.#take(offset, bytes);
        if (chance.isTrue(0.01)) throw new StreamOver({ code: 'tunnel_closed' });
        if (chance.isTrue(0.01) && !this.#isTired) await time.sleep(Math.min(chance.delayMs(restMs), mostRestMs));
      } else await this.#hear(ChannelsEvent.parse(parseJson(bytes)));
      await this.#act(stream);
    }
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  // ---- what it hears ----

  async #hear(event: ChannelsEvent): Promise<void> {
    switch (event.kind) {
      case 'begun':
        return this.#begin(event);
      case 'gap':
        return this.#miss(event);
      case 'taken':
        return this.#taken(event.offset);
      case 'ended':
        return this.#ended(event);
      case 'state':
        return undefined;
    }
  }

  #begin({ starts, from }: { starts: number; from: number }): void {
    const { violated, sometimes, logbook } = this.#ports;
    const asked = this.#position;
    if (this.#hasBegun) this.#doubt('begins once more', from);
    this.#hasBegun = true;
    if (asked === undefined) sometimes.reached('somebody saw a kernel only from some time on');
    else if (asked.starts !== starts || asked.offset !== from)
      violated(`[S17] ${this.name} is at ${from} of start ${starts}, and wanted ${asked.offset} of ${asked.starts}`);
    this.#position = { starts, offset: from };
    this.#next = from;
    this.#reader = new RecordReader(from);
    this.#log = logbook.start(this.#placement, this.#place.kernelId, starts);
    const isWithin = this.#log?.isBegin(from) === false;
    // Who comes anew where nothing was read yet behind a gap, begins at the end of what is kept.
    if (asked === undefined) this.#endsAt = isWithin ? from : undefined;
    else if (isWithin && from !== this.#endsAt) violated(`[S17] ${this.name} begins within a record, at ${from}`);
  }

  #take(offset: number, bytes: Uint8Array): void {
    const { violated, sometimes } = this.#ports;
    const position = this.#position;
    if (!this.#hasBegun) this.#doubt('has bytes before it begins', offset);
    this.#mustFollow(offset, 'has bytes');
    if (position === undefined || this.#log?.has(offset, bytes) !== true)
      return violated(`[J1] ${this.name} reads at ${offset} of start ${position?.starts} what nobody wrote`);
    if (offset === this.#endsAt)
      return violated(`[J3] ${this.name} goes on behind a gap within a record, at ${offset}`);
    if (this.#cuts > 0) sometimes.reached('a kernel was followed over a cut');
    this.#next = offset + bytes.byteLength;
    this.#doubts = 0;
    for (const record of this.#reader.push(bytes)) {
      this.#heard(record);
      position.offset = record.end;
    }
  }

  /** What came in another order, or was lost with its connection, is asked for again. */
  #mustFollow(offset: number, what: string): void {
    if (offset !== this.#next) this.#doubt(what, offset);
  }

  #doubt(what: string, offset: number): never {
    this.#doubts += 1;
    if (this.#ports.isOrdered || this.#doubts > mostDoubts)
      this.#ports.violated(`[S2] ${this.name} ${what} at ${offset}, behind ${this.#next}`);
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  #heard({ message }: LogRecord): void {
    const { channel, parts } = splitMessage(message);
    const [header, parent, , content] = parts.map((part) => JSON.parse(Buffer.from(part).toString()) as object);
    if (channel === bridgeChannel) {
      const { kind } = content as BridgeNote;
      if (kind !== 'lost' && kind !== 'too-large') return;
      this.#ports.sometimes.reached('messages of a kernel were lost');
      return this.#missed();
    }
    const { msg_type: type } = header as { msg_type?: string };
    if (channel !== 'shell' || type !== 'execute_reply') return;
    const { msg_id: id } = parent as { msg_id?: string };
    if (id?.startsWith(`${this.name}.`) === true) this.#hearAnswer(id, (content as { status: string }).status);
  }

  #hearAnswer(id: string, status: string): void {
    const { violated, times } = this.#ports;
    if (this.#answered.has(id)) violated(`[J2] ${id} is answered again`);
    this.#answered.add(id);
    const wasRun = times(this.#placement, id);
    if (wasRun !== (status === 'aborted' ? 0 : 1))
      violated(`[J11] ${id} is ${status} and was carried out ${wasRun} times`);
    for (const each of this.#said) if (each.id === id) each.isOver = true;
  }

  /** Answers may be among what is missing. */
  #missed(): void {
    for (const each of this.#said) each.isOver = true;
  }

  #miss({ from, to }: { from: number; to: number }): void {
    const { violated, sometimes } = this.#ports;
    const position = this.#position;
    this.#mustFollow(from, 'has a gap');
    if (position === undefined) return;
    sometimes.reached('the log of a kernel had a gap');
    if (to <= from) violated(`[J3] ${this.name} has a gap from ${from} to ${to}`);
    // The log may end within a record: what its bridge had written and the init did not have any more died with both.
    this.#endsAt = this.#log?.isBegin(to) === true ? undefined : to;
    position.offset = to;
    this.#next = to;
    this.#reader.skip(to);
    this.#missed();
  }

  #ended({ restarts, reason, end }: { restarts: boolean; reason: string; end: number }): Promise<void> | undefined {
    this.#mustFollow(end, 'ends');
    const { violated, sometimes } = this.#ports;
    const position = this.#position;
    if (position === undefined) return undefined;
    const { size = 0, isWhole = false } = this.#log ?? {};
    if (isWhole && reason === 'exited' && this.#next !== size)
      violated(`[S17] start ${position.starts} of ${this.name} ends at ${this.#next} of ${size}`);
    // What was taken went to this start, or to the next.
    for (const each of this.#said) each.isOver ||= each.isTaken;
    this.#position = { starts: position.starts + 1, offset: 0 };
    this.#endsAt = undefined;
    if (!restarts) return this.#die();
    sometimes.reached('a kernel ended by itself and was started anew');
    return undefined;
  }

  // ---- what it says ----

  /** Sends again what was not taken. */
  #sayAgain(stream: Stream, offset: number): void {
    const { violated, sometimes, logbook } = this.#ports;
    const kept = this.#said.findLast(({ isTaken }) => isTaken)?.end ?? 0;
    if (offset < kept && !logbook.hasLostPower(this.#placement))
      violated(`[J11] ${this.name} has ${kept} bytes taken, and is asked to go on at ${offset}`);
    if (!this.#isEnd(offset)) violated(`[J11] ${this.name} is asked to go on within what it said, at ${offset}`);
    for (const each of this.#said) {
      if (each.end > offset || each.isTaken) continue;
      each.isTaken = true;
      sometimes.reached('a message to a kernel was kept and its sender not told');
    }
    stream.seek(channels.input, offset);
    for (const { record, end } of this.#said) {
      if (end <= offset) continue;
      sometimes.reached('a message to a kernel was sent again');
      stream.write(channels.input, record).catch(() => undefined);
    }
  }

  #taken(offset: number): void {
    if (!this.#isEnd(offset)) this.#ports.violated(`[S17] ${this.name} hears of ${offset}, where nothing ends`);
    for (const each of this.#said) each.isTaken ||= each.end <= offset;
  }

  #isEnd(offset: number): boolean {
    return offset === 0 || this.#said.some(({ end }) => end === offset);
  }

  /** When all was answered: the next requests, or something else. */
  async #act(stream: Stream): Promise<void> {
    const { chance, isWatcher } = this.#ports;
    if (isWatcher || this.#said.some(({ isOver }) => !isOver)) return;
    if (this.#left === 0 || this.#isTired) {
      this.#isOver = true;
      throw new StreamOver({ code: 'tunnel_closed' });
    }
    this.#left -= 1;
    for (let more = chance.integer(1, 3); more > 0; more -= 1) this.#say(stream, this.#drawCode());
    if (chance.isTrue(0.15)) this.#sayRecord(stream, 'control', 'interrupt_request', {});
    if (chance.isTrue(0.05)) void this.#ask({ kind: 'interrupt' });
    if (chance.isTrue(0.05) && this.#position !== undefined)
      void this.#ask({ kind: 'restart', starts: this.#position.starts });
    if (chance.isTrue(0.1)) throw new StreamOver({ code: 'tunnel_closed' });
  }

  #drawCode(): string {
    const { chance } = this.#ports;
    const u = chance.next();
    if (u < 0.7) return `print ${chance.integer(0, 6)} ${chance.integer(0, 1_500)}`;
    return chance.pick(['print 3000 0', 'big', 'lose', 'too-large', 'fail', 'fail', 'stay', 'die 0', 'crash'])!;
  }

  #say(stream: Stream, code: string): void {
    this.#sayRecord(stream, 'shell', 'execute_request', { code, stop_on_error: true, allow_stdin: false });
  }

  #sayRecord(stream: Stream, channel: string, type: string, content: object): void {
    this.#count += 1;
    const id = `${this.name}.${this.#count}`;
    const header = { msg_id: id, msg_type: type, session: this.name, username: 'somebody', date: '', version: '5.3' };
    const parts = [header, {}, {}, content].map((part) => Buffer.from(JSON.stringify(part)));
    const record = joinRecord({ channel, parts });
    this.#saidBytes += record.byteLength;
    // Of an interrupt no answer is waited for.
    this.#said.push({ id, record, end: this.#saidBytes, isTaken: false, isOver: channel === 'control' });
    stream.write(channels.input, record).catch(() => undefined);
  }

  get #placement(): Placement {
    return { sessionId: this.sessionId, generation: this.#generation };
  }
}

/**
 * A person who reads the output of a session through the edge, over any number of cuts, each time from the byte after the
 * last: what comes must be the right bytes, each once, or an announced gap ([I5]).
 */
import { channels } from '../../schema/protocol/frame.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { ProcessEvent } from '../../schema/protocol/streams.ts';
import type { Chance } from './chance.ts';
import { connect } from './client.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import type { Way } from './edge/links.ts';
import { patternBytes } from './host/programs.ts';
import type { Sometimes } from './sometimes.ts';

export interface ReaderPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  way: Way;
  /** As whom it reads. */
  token: { id: string; text: string };
  /** How likely it is that it rests after some bytes, perhaps for minutes. */
  slowness: number;
  /** How likely it is that it leaves in the middle of what came and comes again for the rest, a few times. */
  restlessness: number;
  violated: (what: string) => void;
}

/** More in a row come from no way, only from a far end that leaves bytes out. */
const mostDoubts = 6;
const mostLeaves = 4;
const againMs = 1_000;
/** A few rests longer than that would leave no time to read in. */
const mostMs = 10_000;

export class Reader {
  readonly sessionId: string;
  readonly #ports: ReaderPorts;
  /** Bytes of the log behind which this reader stands, and the generation that they are of. */
  #offset = 0;
  #generation = 0;
  #hasEnded = false;
  #isGone = false;
  #isResting = false;
  /** It was told that its token is out. */
  #isOut = false;
  #cuts = 0;
  /** Times in a row that bytes did not continue. */
  #doubts = 0;
  #leaves = 0;
  #gaps: [from: number, to: number][] = [];

  constructor(sessionId: string, ports: ReaderPorts) {
    this.sessionId = sessionId;
    this.#ports = ports;
  }

  /** Reads until the end of the process; never rejects. */
  async run(): Promise<void> {
    const { time, chance } = this.#ports;
    while (!this.isOver) {
      try {
        await this.#once();
      } catch (error) {
        if (error instanceof StreamOver && error.code === 'session_output_gone') this.#isGone = true;
        this.#cuts += 1;
      }
      await time.sleep(Math.min(chance.delayMs(againMs), mostMs));
    }
  }

  /** It has read to the end of the process, or nothing of it is kept any more, or not for this reader. */
  get isOver(): boolean {
    return this.#hasEnded || this.#isGone || this.#isOut;
  }

  /** It has bytes that it does not look at yet. */
  get isResting(): boolean {
    return this.#isResting;
  }

  /** [A2] */
  #toldOut(): void {
    const { edge, token, violated, sometimes } = this.#ports;
    this.#isOut = true;
    sometimes.reached('a reader was told that its token is out');
    if (!edge.worker.wasOut(token.id)) violated(`[A2] ${token.id} is told that it is out, and never was`);
  }

  /** Bytes that the process has written, announced holes among them; undefined before its end was read. */
  get totalBytes(): number | undefined {
    return this.#hasEnded ? Math.max(this.#offset, ...this.#gaps.map(([, to]) => to)) : undefined;
  }

  async #once(): Promise<void> {
    const { token } = this.#ports;
    const toldOut = (): void => this.#toldOut();
    const { endpoint, generation, close } = await connect(this.sessionId, 'logs', {
      ...this.#ports,
      token: token.text,
      toldOut,
    });
    if (generation !== this.#generation) {
      this.#generation = generation;
      this.#offset = 0;
      this.#gaps = [];
      this.#cuts = 0;
    }
    try {
      const stream = endpoint.open({
        op: 'logs',
        processId: 'main',
        streams: 'stdout',
        after: { stdout: this.#offset, stderr: 0 },
        follow: true,
      });
      await this.#read(stream);
    } finally {
      close();
    }
  }

  async #read(stream: Stream): Promise<void> {
    const { sometimes, chance, time, slowness } = this.#ports;
    await stream.whenOpened;
    for await (const item of stream.read()) {
      if (item.end) continue;
      if (item.channel === channels.control) {
        this.#event(ProcessEvent.parse(JSON.parse(new TextDecoder().decode(item.bytes))));
        if (this.#hasEnded) return;
        continue;
      }
      const bytes = this.#wanted(item.bytes);
      this.#take(item.offset, bytes);
      if (bytes.byteLength < item.bytes.byteLength) throw new StreamOver({ code: 'tunnel_closed' });
      if (this.#cuts > 0) sometimes.reached('output was read over a cut');
      if (chance.isTrue(slowness)) {
        sometimes.reached('a slow reader was waited for');
        this.#isResting = true;
        await time.sleep(chance.delayMs(2_000));
        this.#isResting = false;
      }
    }
  }

  /** A reader that leaves has only the beginning of what came. */
  #wanted(bytes: Uint8Array): Uint8Array {
    const { chance, restlessness } = this.#ports;
    if (this.#leaves >= mostLeaves || !chance.isTrue(restlessness)) return bytes;
    this.#leaves += 1;
    return bytes.subarray(0, chance.integer(0, bytes.byteLength - 1));
  }

  #take(offset: number, bytes: Uint8Array): void {
    if (offset < this.#offset) this.#doubt(offset, 'goes on');
    this.#mustReach(offset, 'goes on');
    this.#doubts = 0;
    if (Buffer.compare(bytes, patternBytes(offset, offset + bytes.byteLength)) !== 0)
      this.#ports.violated(`[I5] ${this.sessionId} g${this.#generation} has other bytes at ${offset}`);
    this.#offset = offset + bytes.byteLength;
  }

  #mustReach(offset: number, does: string): void {
    if (offset > this.#offset && !this.#isAnnounced(this.#offset, offset)) this.#doubt(offset, does);
  }

  /** Frames that came in another order look like this too: a client asks again from where it stands, as the CLI does. */
  #doubt(offset: number, does: string): never {
    const { violated } = this.#ports;
    this.#doubts += 1;
    if (this.#doubts > mostDoubts)
      violated(`[I5] ${this.sessionId} g${this.#generation} ${does} at ${offset}, behind ${this.#offset}`);
    throw new StreamOver({ code: 'tunnel_closed' });
  }

  #isAnnounced(from: number, to: number): boolean {
    let at = from;
    for (const [start, end] of this.#gaps.toSorted((a, b) => a[0] - b[0])) if (start <= at && end > at) at = end;
    return at >= to;
  }

  #event(event: ProcessEvent): void {
    if (event.kind === 'exit') {
      const end = event.ends.stdout ?? 0;
      if (this.#offset < end && !this.#isAnnounced(this.#offset, end)) throw new StreamOver({ code: 'tunnel_closed' });
      this.#hasEnded = true;
    }
    if (event.kind !== 'gap' || event.stream !== 'stdout') return;
    this.#mustReach(event.from, 'has a gap');
    this.#gaps.push([event.from, event.to]);
    this.#ports.sometimes.reached('output had a gap that was announced');
  }
}

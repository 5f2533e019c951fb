/**
 * A person who reads the output of a session through the edge, over any number of cuts, each time from the byte after the
 * last: what comes must be the right bytes, each once, or an announced gap ([I5]).
 */
import { channels, FrameError } from '../../schema/protocol/frame.ts';
import { Endpoint } from '../../schema/protocol/endpoint.ts';
import { limits } from '../../schema/protocol/limits.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { ProcessEvent } from '../../schema/protocol/streams.ts';
import type { Chance } from './chance.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import type { Link, Way } from './edge/links.ts';
import { patternBytes } from './host/programs.ts';
import type { Sometimes } from './sometimes.ts';

export interface ReaderPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  way: Way;
  /** How likely it is that it rests after some bytes, perhaps for minutes. */
  slowness: number;
  /** How likely it is that it leaves in the middle of what came and comes again for the rest, a few times. */
  restlessness: number;
  violated(what: string): void;
}

/** More in a row come from no way, only from a far end that leaves bytes out. */
const mostDoubts = 6;
const mostLeaves = 4;
const againMs = 1_000;
const dialMs = 15_000;

export class Reader {
  readonly sessionId: string;
  readonly #ports: ReaderPorts;
  /** Bytes of the log behind which this reader stands, and the generation that they are of. */
  #offset = 0;
  #generation = 0;
  #hasEnded = false;
  #isGone = false;
  #cuts = 0;
  /** Times in a row that bytes did not continue. */
  #doubts = 0;
  #leaves = 0;
  #gaps: [from: number, to: number][] = [];
  #link: Link | undefined;

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
      await time.sleep(chance.delayMs(againMs));
    }
  }

  /** It has read to the end of the process, or nothing of it is kept any more. */
  get isOver(): boolean {
    return this.#hasEnded || this.#isGone;
  }

  /** Bytes that the process has written, announced holes among them; undefined before its end was read. */
  get totalBytes(): number | undefined {
    return this.#hasEnded ? Math.max(this.#offset, ...this.#gaps.map(([, to]) => to)) : undefined;
  }

  async #once(): Promise<void> {
    const { time, edge, way } = this.#ports;
    let endpoint: Endpoint | undefined;
    const end = {
      message: (bytes: Uint8Array) => {
        try {
          endpoint?.receive(bytes);
        } catch (error) {
          // Messages that came twice or in another order: a client leaves, as the rules want it, and comes again.
          if (!(error instanceof FrameError)) throw error;
          this.#link?.agentClose(1002, error.rule);
          endpoint?.close('tunnel_closed', error.message);
        }
      },
      text: () => undefined,
      closed: (code: number) => endpoint?.close('tunnel_closed', `closed with ${code}`),
    };
    const opening = edge.openClient(way, this.sessionId, end);
    const opened = await within(time, dialMs, opening);
    if (opened === undefined) {
      // Nobody waits for it any more.
      opening.then(
        (late) => late?.link.agentClose(1000, 'too late'),
        () => undefined,
      );
      throw new StreamOver({ code: 'agent_unreachable' });
    }
    const { link, generation } = opened;
    this.#link = link;
    if (generation !== this.#generation) {
      this.#generation = generation;
      this.#offset = 0;
      this.#gaps = [];
      this.#cuts = 0;
    }
    endpoint = new Endpoint(
      {
        send: (message, sent) => link.agentSend(message, sent),
        soon: (task) => queueMicrotask(task),
        nowMs: () => time.nowMs,
      },
      { maxWindowBytes: limits.maxWindowBytes },
    );
    const pings = setPings(time, link);
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
      pings();
      link.agentClose(1000, 'done');
      endpoint.close('tunnel_closed');
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
        await time.sleep(chance.delayMs(2_000));
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
    const what = `${this.sessionId} g${this.#generation}`;
    if (offset < this.#offset || (offset > this.#offset && !this.#isAnnounced(this.#offset, offset))) {
      // Frames that came in another order look like this too: a client asks again from where it stands, as the CLI does.
      this.#doubts += 1;
      if (this.#doubts > mostDoubts)
        this.#ports.violated(`[I5] ${what} goes from ${this.#offset} to ${offset} without a word`);
      throw new StreamOver({ code: 'tunnel_closed' });
    }
    this.#doubts = 0;
    if (Buffer.compare(bytes, patternBytes(offset, offset + bytes.byteLength)) !== 0)
      this.#ports.violated(`[I5] ${what} has other bytes at ${offset}`);
    this.#offset = offset + bytes.byteLength;
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
    this.#gaps.push([event.from, event.to]);
    this.#ports.sometimes.reached('output had a gap that was announced');
    if (event.from > this.#offset && !this.#isAnnounced(this.#offset, event.from))
      this.#ports.violated(`[I5] ${this.sessionId} announces ${event.from} to ${event.to} at ${this.#offset}`);
  }
}

function setPings(time: VirtualTime, link: Link): () => void {
  let cancel: () => void = () => undefined;
  const ping = (): void => {
    link.agentText('ping');
    cancel = time.after(10_000, ping);
  };
  ping();
  return () => cancel();
}

/** The answer, or undefined when there is none in time. */
export function within<Answer>(time: VirtualTime, ms: number, asked: Promise<Answer>): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const cancel = time.after(ms, () => resolve(undefined));
    const settle = (answer: Answer | undefined) => {
      cancel();
      resolve(answer);
    };
    asked.then(settle, () => settle(undefined));
  });
}

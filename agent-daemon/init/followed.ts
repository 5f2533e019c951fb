/** What a link knows of one process, across reconnects: how far its output was handed on and acknowledged, its stdin. */
import type { FromInit, ProcessState, StreamNumber, ToInit } from './messages.ts';
import { StdinWriter } from './stdin-writer.ts';

const streams = [1, 2] as const;

export class Followed {
  readonly processId: string;
  readonly stdin: StdinWriter;
  /** Set while a spawn is not answered. */
  spawning: PromiseWithResolvers<{ pid: number }> | undefined;
  /** Next offset to hand on; undefined until the stream is resumed. */
  readonly #next: Record<StreamNumber, number | undefined> = { 1: undefined, 2: undefined };
  /** An earlier offset was asked for: what is under way beyond it is passed over until that arrives. */
  readonly #rewound: Record<StreamNumber, boolean> = { 1: false, 2: false };
  readonly #acked: Record<StreamNumber, number> = { 1: 0, 2: 0 };

  constructor(processId: string, send: (frame: ToInit) => void) {
    this.processId = processId;
    this.stdin = new StdinWriter((offset, bytes) => send({ type: 'stdin', processId, offset, bytes }));
  }

  /** A process that this link starts: its output comes from the start without being asked for. */
  startsHere(): void {
    for (const stream of streams) this.#next[stream] ??= 0;
  }

  resume(stream: StreamNumber, offset: number): void {
    this.#rewound[stream] ||= offset < (this.#next[stream] ?? 0);
    this.#next[stream] = offset;
  }

  /** False when that much was acknowledged already. */
  acknowledge(stream: StreamNumber, offset: number): boolean {
    if (offset <= this.#acked[stream]) return false;
    this.#acked[stream] = offset;
    return true;
  }

  /** The frames that take a process up where this link left it. */
  *goOn(state: ProcessState): Generator<ToInit> {
    const { processId } = this;
    this.stdin.acknowledged(state.stdinOffset, true, !state.stdinOpen);
    for (const stream of streams) {
      const next = this.#next[stream];
      const acked = this.#acked[stream];
      if (acked > state.acked[stream]) yield { type: 'ack', processId, stream, offset: acked };
      if (next !== undefined) yield { type: 'resume', processId, stream, offset: next };
    }
  }

  get isResumed(): boolean {
    return streams.every((stream) => this.#next[stream] !== undefined);
  }

  /** What is new in a frame of output, and its offset; undefined when nothing is. Throws when bytes are missing before it. */
  takeOutput(frame: FromInit & { type: 'output' }): { offset: number; bytes: Uint8Array } | undefined {
    const offset = this.#next[frame.stream];
    if (offset === undefined) return undefined;
    if (frame.offset > offset && this.#rewound[frame.stream]) return undefined;
    if (frame.offset > offset) throw new Error(`output of ${this.processId} at ${frame.offset}, expected ${offset}`);
    this.#rewound[frame.stream] = false;
    const bytes = frame.bytes.subarray(offset - frame.offset);
    if (bytes.length === 0) return undefined;
    this.#next[frame.stream] = offset + bytes.length;
    return { offset, bytes };
  }

  /** Where the part of a gap begins that is not known yet; undefined when all of it is. */
  takeGap(frame: FromInit & { type: 'gap' }): number | undefined {
    const from = this.#next[frame.stream];
    if (from === undefined || frame.to <= from) return undefined;
    if (frame.from > from && this.#rewound[frame.stream]) return undefined;
    if (frame.from > from) throw new Error(`a gap of ${this.processId} at ${frame.from}, expected ${from}`);
    this.#next[frame.stream] = frame.to;
    return from;
  }

  /** Output at `offset` was not kept: it is wanted again. */
  takeBack(stream: StreamNumber, offset: number): void {
    this.#next[stream] = Math.min(this.#next[stream] ?? offset, offset);
  }
}

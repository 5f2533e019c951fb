/**
 * A person who uploads to a session, part by part, each again until it is answered, as the CLI does. What was answered is on
 * the disk of the agent, right, whatever becomes of its host ([I10]). The last part, which unpacks, is not of this world.
 */
import { channels } from '../../schema/protocol/frame.ts';
import { StreamOver } from '../../schema/protocol/stream.ts';
import type { Chance } from './chance.ts';
import { connect } from './client.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import type { Way } from './edge/links.ts';
import { patternBytes } from './host/programs.ts';
import type { Sometimes } from './sometimes.ts';

export interface UploaderPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  way: Way;
  token: string;
  uploadId: string;
  /** What the host has of an upload for certain; undefined when the session is over, and less than `bytes` are left. */
  kept: (placement: { sessionId: string; generation: number }, uploadId: string, bytes: number) => Buffer | undefined;
  violated: (what: string) => void;
}

const mostTries = 60;
const mostParts = 8;
const againMs = 1_000;
/** Between the pieces of a part: its host may lose its power there. */
const pieceMs = 400;
const mostPieces = 5;
const mostPieceBytes = 6_000;

export class Uploader {
  readonly #sessionId: string;
  readonly #ports: UploaderPorts;
  #answered = 0;
  #generation = 0;

  constructor(sessionId: string, ports: UploaderPorts) {
    this.#sessionId = sessionId;
    this.#ports = ports;
  }

  /** Until all parts are there, or it gives up; never rejects. */
  async run(): Promise<void> {
    const { time, chance } = this.#ports;
    let parts = 0;
    for (let tries = 0; tries < mostTries && parts < mostParts; tries += 1) {
      // Asked again, a part has the same pieces.
      const isDone = await this.#part(chance.fork(`part ${parts}`)).catch((error: unknown) => {
        if (!(error instanceof StreamOver)) throw error;
        if (error.code === 'session_file_offset') this.#check();
        return false;
      });
      if (isDone) parts += 1;
      else await time.sleep(chance.delayMs(againMs));
    }
  }

  async #part(chance: Chance): Promise<boolean> {
    const { time, sometimes, uploadId } = this.#ports;
    const { endpoint, generation, close } = await connect(this.#sessionId, 'put', {
      ...this.#ports,
      toldOut: () => undefined,
    });
    try {
      if (generation !== this.#generation) {
        // Placed anew: nothing of it is there.
        this.#generation = generation;
        this.#answered = 0;
      }
      const from = this.#answered;
      const stream = endpoint.open({ op: 'put', path: '.', uploadId, offset: from, last: false });
      const { inputOffset = 0 } = await stream.whenOpened;
      if (inputOffset > from) sometimes.reached('a part of an upload was sent again');
      stream.seek(channels.input, from);
      let to = from;
      for (let left = chance.integer(1, mostPieces); left > 0; left -= 1) {
        const bytes = chance.integer(1, mostPieceBytes);
        await stream.write(channels.input, patternBytes(to, to + bytes));
        to += bytes;
        await time.sleep(chance.delayMs(pieceMs));
      }
      stream.finish();
      const { code } = await stream.whenOver;
      if (code !== 'ended') return false;
      this.#answered = to;
      this.#check();
      return true;
    } finally {
      close();
    }
  }

  /** [I10]: what was answered is there. */
  #check(): void {
    const placement = { sessionId: this.#sessionId, generation: this.#generation };
    const kept = this.#ports.kept(placement, this.#ports.uploadId, this.#answered);
    if (kept === undefined) return;
    const wanted = patternBytes(0, this.#answered);
    if (kept.byteLength < wanted.byteLength)
      this.#ports.violated(
        `[I10] ${this.#answered} bytes to ${this.#sessionId} were answered, ${kept.byteLength} are kept`,
      );
    else if (Buffer.compare(kept.subarray(0, wanted.byteLength), wanted) !== 0)
      this.#ports.violated(`[I10] the upload to ${this.#sessionId} is not what was sent`);
  }
}

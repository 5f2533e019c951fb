/** Two endpoints joined by memory, driven step by step: no clock, no socket, any order of delivery that a socket could show. */
import { Endpoint, type EndpointOptions } from '../../../schema/protocol/endpoint.ts';
import { FrameError } from '../../../schema/protocol/frame.ts';

interface Side {
  endpoint: Endpoint;
  /** Messages on their way from this side. */
  out: { message: Uint8Array<ArrayBuffer>; sent: () => void }[];
  tasks: (() => void)[];
  broken: FrameError | undefined;
}

export class Pipe {
  readonly a: Side;
  readonly b: Side;
  nowMs = 0;
  /** Largest message seen. */
  largest = 0;

  constructor(a: Partial<EndpointOptions>, b: Partial<EndpointOptions>) {
    this.a = this.#side(a);
    this.b = this.#side(b);
  }

  #side(options: Partial<EndpointOptions>): Side {
    const side = { out: [], tasks: [], broken: undefined } as unknown as Side;
    side.endpoint = new Endpoint(
      {
        send: (message, sent) => {
          this.largest = Math.max(this.largest, message.byteLength);
          // A socket that copies late would see what was written over a buffer that was let go too early.
          side.out.push({ message, sent });
        },
        soon: (task) => side.tasks.push(task),
        nowMs: () => this.nowMs,
      },
      { maxWindowBytes: 256 * 1024, ...options },
    );
    return side;
  }

  /** Runs what was scheduled and delivers one message each way. False when nothing happened. */
  step(): boolean {
    this.nowMs += 1;
    let moved = false;
    for (const [from, to] of [
      [this.a, this.b],
      [this.b, this.a],
    ] as const) {
      const tasks = from.tasks.splice(0);
      for (const task of tasks) task();
      const next = from.out.shift();
      moved ||= tasks.length > 0 || next !== undefined;
      if (!next) continue;
      const message = next.message.slice();
      next.sent();
      try {
        to.endpoint.receive(message);
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
        to.broken = error;
        to.endpoint.close('tunnel_closed');
      }
    }
    return moved;
  }

  /** Steps until nothing moves any more, letting promises run in between. */
  async settle(): Promise<void> {
    for (let idle = 0; idle < 3;) {
      const moved = this.step();
      await new Promise<void>((resolve) => void setImmediate(resolve));
      idle = moved ? 0 : idle + 1;
    }
  }
}

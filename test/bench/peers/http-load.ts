/**
 * A load generator for HTTP/1.1 on raw sockets: each connection sends a request when the last one was answered. It
 * parses no more than status and length, so that it costs far less than what it measures.
 */
import { type Socket, connect } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Load {
  perSecond: number;
  /** Time of each answer in ms. */
  timesMs: number[];
}

const turns = 10;

export interface LoadOptions {
  url: string;
  headers?: Record<string, string>;
  connections: number;
  durationMs: number;
}

/** Sends GETs for `durationMs`, each when the last was answered; any answer but 200 is an error. */
export async function load(options: LoadOptions): Promise<Load> {
  const { connections, durationMs } = options;
  const request = toRequest(options);
  const endMs = performance.now() + durationMs;
  const timesMs: number[] = [];
  await inParallel(options.url, connections, async (exchange) => {
    for (let sentMs = performance.now(); sentMs <= endMs; sentMs = performance.now()) {
      await exchange.ask(request);
      timesMs.push(performance.now() - sentMs);
    }
  });
  return { perSecond: timesMs.length / (durationMs / 1000), timesMs };
}

/** Both loads in turns, a slice each, so that a slow moment of the machine hits both. */
export async function loadInTurns(subject: LoadOptions, peer: LoadOptions): Promise<{ subject: Load; peer: Load }> {
  const slices = { subject: [] as Load[], peer: [] as Load[] };
  for (let slice = 0; slice < turns; slice += 1) {
    slices.subject.push(await load({ ...subject, durationMs: subject.durationMs / turns }));
    slices.peer.push(await load({ ...peer, durationMs: peer.durationMs / turns }));
  }
  return { subject: joined(slices.subject), peer: joined(slices.peer) };
}

function joined(loads: readonly Load[]): Load {
  return {
    perSecond: loads.reduce((sum, { perSecond }) => sum + perSecond, 0) / loads.length,
    timesMs: loads.flatMap(({ timesMs }) => timesMs),
  };
}

/**
 * Sends GETs at a steady rate, whether or not those before were answered: times of answer as people feel them, who do not
 * wait for each other. A moment in which nothing is answered delays all that come in it (a loop that waits for its answer
 * would note it once). A time counts from when the GET was due.
 */
export async function loadSteadily({ perSecond, ...options }: LoadOptions & { perSecond: number }): Promise<number[]> {
  const request = toRequest(options);
  const count = Math.ceil((perSecond * options.durationMs) / 1000);
  const timesMs: number[] = [];
  const startMs = performance.now();
  let next = 0;
  await inParallel(options.url, options.connections, async (exchange) => {
    for (let at = next++; at < count; at = next++) {
      const dueMs = startMs + (at * 1000) / perSecond;
      const waitMs = dueMs - performance.now();
      if (waitMs > 0) await sleep(waitMs);
      await exchange.ask(request);
      // A timer of ours that rang late is not the server's time; a connection that was not free is.
      timesMs.push(performance.now() - (waitMs > 0 ? exchange.sentMs : dueMs));
    }
  });
  return timesMs;
}

function toRequest({ url, headers = {} }: LoadOptions): Buffer {
  const { pathname, search, host } = new URL(url);
  const lines = [
    `GET ${pathname}${search} HTTP/1.1`,
    `host: ${host}`,
    ...Object.entries(headers).map((pair) => pair.join(': ')),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`);
}

async function inParallel(url: string, connections: number, work: (exchange: Exchange) => Promise<void>) {
  const { hostname, port } = new URL(url);
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true });
      await once(socket, 'connect');
      await work(new Exchange(socket));
      socket.destroy();
    }),
  );
}

class Exchange {
  readonly #socket: Socket;
  sentMs = 0;
  #buffer: Buffer = Buffer.alloc(0);
  #arrived: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data: Buffer) => {
      this.#buffer = this.#buffer.length === 0 ? data : Buffer.concat([this.#buffer, data]);
      this.#arrived();
    });
  }

  /** Sends one request and waits for its answer. */
  async ask(request: Buffer): Promise<void> {
    this.sentMs = performance.now();
    this.#socket.write(request);
    while (!this.#takeAnswer()) {
      await new Promise<void>((resolve, reject) => {
        this.#arrived = resolve;
        if (this.#socket.destroyed) reject(new Error('the server closed a connection'));
        else this.#socket.once('close', reject);
      });
      this.#socket.removeAllListeners('close');
    }
  }

  /** Removes one whole answer from the buffer; false when it is not all there yet. */
  #takeAnswer(): boolean {
    const head = this.#buffer.indexOf('\r\n\r\n');
    if (head < 0) return false;
    const text = this.#buffer.toString('latin1', 0, head);
    if (!text.startsWith('HTTP/1.1 200')) throw new Error(`answered ${text.slice(0, text.indexOf('\r\n'))}`);
    const length = /^content-length: *(\d+)/im.exec(text)?.[1];
    const end = length === undefined ? this.#endOfChunks(head + 4) : head + 4 + Number(length);
    if (end === undefined || this.#buffer.length < end) return false;
    this.#buffer = this.#buffer.subarray(end);
    return true;
  }

  #endOfChunks(from: number): number | undefined {
    const last = this.#buffer.indexOf('0\r\n\r\n', from);
    return last < 0 ? undefined : last + 5;
  }
}

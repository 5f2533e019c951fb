/**
 * Ports of this machine that lead into a session: each connection is a stream of one socket of the tunnel. While the tunnel
 * is away new connections are refused at once, in words once; the ports stay, and it is dialled anew until it is there.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { continuous } from '../../schema/protocol/continuity.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { limits } from '../../schema/protocol/limits.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { CliFailure } from '../exit.ts';
import type { ClientSocket, Dialler } from '../tunnel/dial.ts';
import { isPassing, Patience } from '../tunnel/patience.ts';

/** Port here (0: any), and in the session. */
export interface PortPair {
  here: number;
  there: number;
}

interface Words {
  /** Of the session. */
  name: string;
  /** A line for the person. */
  say(line: string): void;
}

const cutText = 'the connection to the session is lost: connections are refused until it is back ...';

export class PortForwarder {
  readonly #dial: Dialler;
  readonly #words: Words;
  readonly #servers: Server[] = [];
  readonly #stopped = new AbortController();
  readonly #open = new Set<Socket>();
  readonly #ended = Promise.withResolvers<StreamOver>();
  #tunnel: ClientSocket | undefined;
  /** Renewed by each connection that was made. */
  readonly #patience = new Patience();
  /** What was said last of each port, so that it is not said for each connection. */
  readonly #said = new Map<number, string>();

  constructor(dial: Dialler, words: Words) {
    this.#dial = dial;
    this.#words = words;
  }

  /** Dials the tunnel until it is there. @throws CliFailure when waiting can not help */
  async connect(): Promise<void> {
    for (let attempt = 0; !this.#stopped.signal.aborted; attempt++) {
      try {
        this.#tunnel = await this.#dial(this.#stopped.signal);
        this.#patience.connected();
        if (attempt > 0) this.#words.say('it is back');
        return;
      } catch (error) {
        this.#patience.judge(error);
      }
      if (attempt === 0) this.#words.say(cutText);
      await this.#patience.pause();
    }
  }

  /** Listens at `bind`, behind `connect`. Answers the port. @throws CliFailure */
  async listen(bind: string, { here, there }: PortPair): Promise<number> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => void this.#serve(socket, there));
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(cannotListen(bind, here, error)));
      server.listen({ host: bind, port: here }, resolve);
    });
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : here;
  }

  /** Keeps the tunnel, over any number of cuts, until it is closed. @throws CliFailure when waiting can not help */
  async run(): Promise<void> {
    while (this.#tunnel !== undefined) {
      const over = await Promise.race([this.#tunnel.closed, this.#ended.promise]);
      this.#tunnel.close();
      this.#tunnel = undefined;
      if (this.#stopped.signal.aborted) return;
      this.#patience.judge(over);
      await this.connect();
    }
  }

  close(): void {
    this.#stopped.abort();
    for (const server of this.#servers) server.close();
    for (const socket of this.#open) socket.destroy();
    this.#tunnel?.close();
  }

  /** One connection, to its end. Never rejects. */
  async #serve(socket: Socket, there: number): Promise<void> {
    socket.on('error', () => undefined); // a close follows
    const tunnel = this.#tunnel;
    if (tunnel === undefined) return void socket.resetAndDestroy();
    if (this.#open.size >= limits.streamsPerSocket) {
      this.#sayOnce(there, `more than ${limits.streamsPerSocket} connections at once: the others are refused`);
      return void socket.resetAndDestroy();
    }
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    try {
      const stream = tunnel.open({ op: 'connect', port: there });
      socket.once('close', () => {
        // When both have ended, what is under way still goes on.
        if (!socket.readableEnded || !socket.writableFinished) stream.reset('tunnel_closed');
      });
      await stream.whenOpened;
      this.#patience.renew();
      this.#said.delete(there);
      await Promise.all([send(socket, stream), receive(stream, socket)]);
    } catch (error) {
      this.#refused(there, error);
      socket.resetAndDestroy();
    }
  }

  #refused(there: number, error: unknown): void {
    // A cut is said by who dials, and what this machine does to a connection by nobody.
    if (!(error instanceof StreamOver) || isPassing(error)) return;
    if (error.code === 'session_ended') this.#ended.resolve(error);
    else this.#sayOnce(there, error.message);
  }

  #sayOnce(there: number, text: string): void {
    if (this.#said.get(there) === text) return;
    this.#said.set(there, text);
    this.#words.say(`${this.#words.name}:${there}: ${text}`);
  }
}

async function send(socket: Socket, stream: Stream): Promise<void> {
  for await (const bytes of socket.iterator({ destroyOnReturn: false }))
    await stream.write(channels.input, bytes as Buffer);
  stream.end(channels.input);
}

async function receive(stream: Stream, socket: Socket): Promise<void> {
  for await (const { channel, bytes, end } of continuous(stream.read(), { stdout: 0 })) {
    if (channel !== channels.stdout) continue;
    if (end) socket.end();
    // A view of a buffer that is used again when the next item is asked for.
    else
      await new Promise<void>((resolve, reject) => socket.write(bytes, (error) => (error ? reject(error) : resolve())));
  }
}

function cannotListen(bind: string, port: number, error: NodeJS.ErrnoException): CliFailure {
  const why = error.code === 'EADDRINUSE' ? 'the port is in use here' : error.message;
  return new CliFailure(`${bind}:${port}: ${why}`, {
    hint: `another port of this machine: 0:PORT takes any that is free`,
  });
}

/**
 * Stdin and stdout of a container's first process as one stream of bytes, by the engine's `attach`. Not by dockerode,
 * whose stream knows neither backpressure nor that the engine died.
 */
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Attached } from './runtime.ts';

const headerBytes = 8;
const stdoutNumber = 1;

/** Takes the engine's frames ({u8 stream, 3 zero, u32 big-endian length, bytes}) apart; what is not stdout is dropped. */
export class Demultiplexer {
  #header = Buffer.alloc(0);
  #left = 0;
  #isStdout = false;

  /** The pieces of stdout in the next bytes, as views of them. */
  *push(chunk: Buffer): Generator<Buffer> {
    for (let rest = chunk; rest.byteLength > 0;) {
      if (this.#left === 0) {
        const missing = headerBytes - this.#header.byteLength;
        this.#header = Buffer.concat([this.#header, rest.subarray(0, missing)]);
        rest = rest.subarray(missing);
        if (this.#header.byteLength < headerBytes) return;
        this.#isStdout = this.#header[0] === stdoutNumber;
        this.#left = this.#header.readUInt32BE(4);
        this.#header = Buffer.alloc(0);
        continue;
      }
      const piece = rest.subarray(0, this.#left);
      this.#left -= piece.byteLength;
      rest = rest.subarray(piece.byteLength);
      if (this.#isStdout) yield piece;
    }
  }
}

/**
 * Nothing stays attached once `signal` aborts before the engine has answered: its output goes to all who are, in turn, and
 * one that nobody reads holds up the others.
 * @throws Error with the engine's `statusCode` when it does not attach
 */
export async function attachTo(socketPath: string, idOrName: string, signal: AbortSignal): Promise<Attached> {
  const path = `/containers/${encodeURIComponent(idOrName)}/attach?stream=1&stdin=1&stdout=1`;
  const asking = request({
    socketPath,
    method: 'POST',
    path,
    headers: { Connection: 'Upgrade', Upgrade: 'tcp', 'Content-Length': 0 },
    agent: false,
    signal,
  });
  const answer = Promise.withResolvers<{ socket: Socket; head: Buffer }>();
  asking.on('upgrade', (_, socket, head) => answer.resolve({ socket: socket as Socket, head }));
  asking.on('response', (response) => {
    response.resume();
    const status = response.statusCode ?? 0;
    answer.reject(Object.assign(new Error(`the engine answered ${status}`), { statusCode: status }));
  });
  asking.on('error', (error) => answer.reject(error));
  asking.end();
  const { socket, head } = await answer.promise;
  return toAttached(socket, head);
}

function toAttached(socket: Socket, head: Buffer): Attached {
  const closed = Promise.withResolvers<void>();
  const frames = new Demultiplexer();
  const stream = new Duplex({
    read: () => void socket.resume(),
    write: (chunk: Buffer, _, done) => void socket.write(chunk, done),
    destroy: (error, done) => {
      socket.destroy();
      closed.resolve();
      done(error);
    },
  });
  const take = (chunk: Buffer): void => {
    let room = true;
    for (const piece of frames.push(chunk)) room = stream.push(piece);
    if (!room) socket.pause();
  };
  socket.on('data', take);
  socket.on('error', () => stream.destroy());
  socket.on('close', () => stream.destroy());
  take(head);
  return { stream, closed: closed.promise };
}

/** Streamed answers of the engine are read over every kind of end, without a word to the process. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { linesOf } from '../../../agent-daemon/runtime/lines.ts';

/** The answer of a server that writes these pieces and then ends, or cuts its connection. */
async function answering(pieces: string[], cuts: boolean): Promise<{ answer: IncomingMessage; stop: () => void }> {
  const server = createServer((_, to) => {
    for (const piece of pieces) to.write(piece);
    if (cuts) setTimeout(() => to.destroy(), 20);
    else to.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const answer = await new Promise<IncomingMessage>((resolve) => get({ port, host: '127.0.0.1' }, resolve));
  return { answer, stop: () => server.close().closeAllConnections() };
}

async function read(stream: NodeJS.ReadableStream, into: string[], most = Infinity): Promise<void> {
  for await (const line of linesOf(stream)) if (into.push(line) >= most) return;
}

it('yields lines however they are cut into pieces, the last without its end too', async () => {
  const { answer, stop } = await answering(['{"a"', ':1}\r\n{"b":2}\n', '\n', 'la', 'st'], false);
  const lines: string[] = [];
  await read(answer, lines);
  expect(lines.map((line) => line.trim())).toEqual(['{"a":1}', '{"b":2}', 'last']);
  stop();
});

it('rejects when the engine cuts the connection', async () => {
  const { answer, stop } = await answering(['one\n'], true);
  const lines: string[] = [];
  await expect(read(answer, lines)).rejects.toThrow('aborted');
  expect(lines).toEqual(['one']);
  stop();
});

it('lets go of the connection when the reader has enough, and no later end of it is an error', async () => {
  const { answer, stop } = await answering(['one\n', 'two\n'], true);
  const lines: string[] = [];
  await read(answer, lines, 1);
  expect(lines).toEqual(['one']);
  expect(answer.destroyed).toBe(true);
  // An error that nobody listens to would fail this run.
  await sleep(50);
  stop();
});

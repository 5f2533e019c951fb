/** Lines of a streamed answer of the engine. */
import type { Readable } from 'node:stream';

/**
 * Yields line by line. Rejects with the error of the stream, and lets its connection go when the reader leaves early:
 * what happens to it afterwards concerns nobody (an error without a listener would end the agent).
 */
export async function* linesOf(stream: NodeJS.ReadableStream): AsyncGenerator<string> {
  const readable = stream as Readable;
  readable.on('error', () => undefined);
  readable.setEncoding('utf8');
  let rest = '';
  try {
    for await (const text of readable as AsyncIterable<string>) {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      yield* lines.filter((line) => line.trim() !== '');
    }
  } finally {
    // Of an answer of HTTP the loop itself does not let go.
    readable.destroy();
  }
  if (rest.trim() !== '') yield rest;
}

/**
 * A process that reads a session's kept output over and over, as fast as it comes: `saturate.ts URL SESSION STREAMS`, the
 * token in CAUSEWAY_TOKEN. It says `flowing` once the first megabyte came.
 */
import { fileURLToPath } from 'node:url';
import { channels } from '../../../schema/protocol/frame.ts';
import { ClientSocket } from '../../support/client-socket.ts';
import { type Started, start } from '../../support/process.ts';
import type { Stack } from '../../support/stack.ts';

/** Starts it and returns when bytes flow. */
export async function saturate(stack: Stack, sessionId: string, streams: number, base = stack.url): Promise<Started> {
  const program = start(process.execPath, [fileURLToPath(import.meta.url), base, sessionId, String(streams)], {
    name: 'saturate',
    env: { CAUSEWAY_TOKEN: stack.client.token },
  });
  await program.line('flowing', { timeoutMs: 60_000 });
  return program;
}

async function read(socket: ClientSocket): Promise<void> {
  const stream = socket.open(
    { op: 'logs', processId: 'main', streams: 'stdout', follow: false },
    {
      grant: 2 * 1024 * 1024,
      onData: (channel, payload) => {
        if (channel === channels.stdout) count(payload.length);
      },
    },
  );
  await stream.untilEnded(channels.stdout);
}

let total = 0;
function count(bytes: number): void {
  if (total < 1e6 && total + bytes >= 1e6) console.log(JSON.stringify({ msg: 'flowing' }));
  total += bytes;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , base = '', sessionId = '', streams = '1'] = process.argv;
  const socket = await ClientSocket.dial(base, `/v1/sessions/${sessionId}/logs`, process.env['CAUSEWAY_TOKEN'] ?? '');
  await Promise.all(
    Array.from({ length: Number(streams) }, async () => {
      for (;;) await read(socket);
    }),
  );
}

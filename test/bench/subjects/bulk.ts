/** Kept output of a session, read through the tunnel as fast as it goes. */
import { createHash } from 'node:crypto';
import { channels } from '../../../schema/protocol/frame.ts';
import { Api } from '../../../cli/http/api.ts';
import { dialSession } from '../../../cli/tunnel/dial.ts';
import type { Stack } from '../../support/stack.ts';
import { until } from '../../support/wait.ts';
import { startSession } from './session.ts';

export interface KeptOutput {
  sessionId: string;
  sizeBytes: number;
  sha256: string;
}

/** Starts a session that writes random bytes, and waits until all of them are in the agent's spool. */
export async function keepOutput(stack: Stack, sizeBytes: number): Promise<KeptOutput> {
  const script = `head -c ${sizeBytes} /dev/urandom > bulk; sha256sum < bulk >&2; cat bulk; sleep 36000`;
  const { id } = await startSession(stack, {
    type: 'batch',
    command: ['sh', '-c', `cd /home/work; ${script}`],
    resources: { cpu: 1, mem: '512m' },
    output: { onFull: 'block', blockMs: 600_000, spoolBytes: sizeBytes + 1024 ** 2 },
  });
  const sha256 = await until(
    async () => /^[0-9a-f]{64}/.exec((await stack.client.logs(id, 'stderr')).toString())?.[0],
    {
      what: 'the bytes to be made',
      timeoutMs: 120_000,
      everyMs: 200,
    },
  );
  const kept = { sessionId: id, sizeBytes, sha256 };
  await readOutput(stack, kept, 1);
  return kept;
}

/** Reads it over `streams` streams of one socket at once; returns MB/s. With `verify` the bytes are hashed, which costs speed. */
export async function readOutput(
  stack: Stack,
  { sessionId, sizeBytes, sha256 }: KeptOutput,
  streams: number,
  { verify = false, base = stack.url }: { verify?: boolean; base?: string } = {},
): Promise<number> {
  const api = new Api({
    url: base,
    token: stack.client.token!,
    ...(stack.edge.pin === undefined ? {} : { pin: stack.edge.pin }),
  });
  const socket = await dialSession(api, sessionId, 'logs')(new AbortController().signal);
  const startedMs = performance.now();
  const read = async (): Promise<void> => {
    const hash = createHash('sha256');
    const stream = socket.open({ op: 'logs', processId: 'main', streams: 'stdout', follow: true });
    let received = 0;
    let finish = (): void => {};
    const finished = new Promise<void>((resolve) => (finish = resolve));
    stream.receive(({ channel, bytes }) => {
      if (channel !== channels.stdout) return;
      if (verify) hash.update(bytes);
      received += bytes.byteLength;
      stream.consumed(bytes.byteLength);
      if (received >= sizeBytes) finish();
    });
    await Promise.race([
      finished,
      stream.whenOver.then((end) => Promise.reject(new Error(`over: ${JSON.stringify(end)}`))),
    ]);
    if (verify && hash.digest('hex') !== sha256) throw new Error('SHA-256 differs');
  };
  await Promise.all(Array.from({ length: streams }, read));
  const seconds = (performance.now() - startedMs) / 1000;
  socket.close();
  return (sizeBytes * streams) / 1e6 / seconds;
}

/** A container's output at full speed. */
import { channels } from '../../../schema/protocol/frame.ts';
import type { Stack } from '../../support/stack.ts';
import { followLogs } from '../peers/docker.ts';
import type { Row } from '../row.ts';
import { dialSession, endSessions, startSession } from '../subjects/session.ts';

const bytes = 160_000_000;
const line = `${'0123456789'.repeat(7)}012345678\n`;
const command = `yes ${line.trim()} | head -c ${bytes}`;
const peer = '`docker logs -f` through the API, driver local, nothing rotated away, on the same engine';
/** Enough of the text to compare any piece of it at any phase. */
const pattern = Buffer.from(line.repeat(Math.ceil(1_200_000 / line.length)));

export const rows: Row[] = [
  {
    name: 'output-spool',
    title: "a container's stdout at full speed into the spool",
    peer,
    unit: 'MB/s',
    goal: { kind: 'ratio', atLeast: 3 },
    setup: async (context) => job(await context.stack(), toSpool),
  },
  {
    name: 'output-follow',
    title: "a container's stdout at full speed to `logs -f`, bytes equal",
    peer,
    unit: 'MB/s',
    goal: { kind: 'ratio', atLeast: 1.5 },
    setup: async (context) => job(await context.stack(), toFollower),
  },
];

async function job(stack: Stack, ours: (stack: Stack, id: string) => Promise<number>) {
  const { docker } = stack.agents[0]!.engine;
  return {
    round: async () => ({ subject: await run(stack, ours), peer: await followLogs(docker, command, bytes) }),
  };
}

/** Starts a session whose main command writes once it is told to, and returns MB/s. */
async function run(stack: Stack, ours: (stack: Stack, id: string) => Promise<number>): Promise<number> {
  const { id } = await startSession(stack, {
    type: 'batch',
    command: ['sh', '-c', `read go; ${command}`],
    stdin: true,
    resources: { cpu: 1, mem: '256m' },
    output: { onFull: 'block', blockMs: 600_000, spoolBytes: bytes * 2 },
  });
  const seconds = await ours(stack, id);
  await endSessions(stack, [id]);
  return bytes / 1e6 / seconds;
}

/** Seconds until everything is in the spool: a reader that starts behind the end is told of the exit. */
async function toSpool(stack: Stack, id: string): Promise<number> {
  const socket = await dialSession(stack, id, 'logs');
  const stream = socket.open({
    op: 'logs',
    processId: 'main',
    streams: 'stdout',
    after: { stdout: bytes, stderr: 0 },
    follow: true,
  });
  await stream.opened;
  const startedMs = await go(stack, id);
  await stream.exit();
  socket.cut();
  return (performance.now() - startedMs) / 1000;
}

/** Seconds until a follower has everything, each piece compared with what was written. */
async function toFollower(stack: Stack, id: string): Promise<number> {
  const socket = await dialSession(stack, id, 'logs');
  const stream = socket.open(
    { op: 'logs', processId: 'main', streams: 'stdout', follow: true },
    {
      grant: 4 * 1024 * 1024,
      onData: (channel, payload, offset) => {
        const phase = offset % line.length;
        if (
          channel === channels.stdout &&
          pattern.compare(payload, 0, payload.length, phase, phase + payload.length) !== 0
        ) {
          throw new Error(`wrong bytes at ${offset}`);
        }
      },
    },
  );
  await stream.opened;
  const startedMs = await go(stack, id);
  await stream.exit();
  const seconds = (performance.now() - startedMs) / 1000;
  socket.cut();
  if (stream.received[channels.stdout] !== bytes)
    throw new Error(`received ${stream.received[channels.stdout]} of ${bytes} bytes`);
  return seconds;
}

/** Tells the main command to begin; returns when that was. */
async function go(stack: Stack, id: string): Promise<number> {
  const socket = await dialSession(stack, id);
  const stream = socket.open({ op: 'process', processId: 'main', input: true }, { grant: 'none' });
  await stream.opened;
  const startedMs = performance.now();
  await stream.send(Buffer.from('go\n'));
  setTimeout(() => socket.cut(), 1000).unref();
  return startedMs;
}

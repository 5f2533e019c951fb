import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { channels } from '../../schema/protocol/frame.ts';
import type { NewSession } from '../../schema/api/session.ts';
import { ClientSocket } from '../support/client-socket.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { busyboxImage } from '../support/images.ts';
import { residentMiB } from '../support/invariants.ts';
import { LogReader } from '../support/log-reader.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { byTier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const MiB = 1024 * 1024;
const amount = byTier({ daily: { mebibytes: 32, cuts: 10 }, full: { mebibytes: 256, cuts: 60 } });

let stack: Stack;
/** Between the reading client and the edge. */
let proxy: FaultProxy;

beforeAll(async () => {
  stack = await startStack();
  proxy = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
}, 300_000);

afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
}, 120_000);

/** What is cut, in turn. Each returns when the part is there again. */
const cuts: (() => Promise<void>)[] = [
  async () => void proxy.reset(),
  async () => {
    stack.edge.killWorkerd9();
    await sleep(100);
    await stack.edge.untilHealthy();
  },
  async () => {
    await stack.agents[0]!.kill9();
    await stack.agents[0]!.start();
  },
  async () => {
    await stack.agents[0]!.engine.kill9();
    await stack.agents[0]!.engine.restart();
  },
  async () => {
    await stack.edge.kill9();
    await stack.edge.start();
  },
];

it(
  `[I5] carries ${amount.mebibytes} MiB of binary output over ${amount.cuts} cuts, byte for byte`,
  async () => {
    // Written in small pieces over some seconds, so that cuts hit the container's writing too, not only the reading.
    const pieces = amount.mebibytes * 4;
    const script = `
      dd if=/dev/urandom of=/home/work/data bs=1M count=${amount.mebibytes} 2>/dev/null
      sha256sum < /home/work/data >&2
      i=0; while [ $i -lt ${pieces} ]; do
        dd if=/home/work/data bs=256k skip=$i count=1 2>/dev/null; i=$((i+1)); usleep ${byTier({ daily: 100_000, full: 60_000 })}
      done`;
    const id = await run(script, { onFull: 'block', blockMs: 600_000, spoolBytes: (amount.mebibytes + 1) * MiB });
    const hash = createHash('sha256');
    const reader = new LogReader(
      () => `http://127.0.0.1:${proxy.port}`,
      stack.client.token!,
      id,
      (bytes) => hash.update(bytes),
    );
    const reading = reader.untilExit();
    for (let n = 0; n < amount.cuts; n++) {
      const goal = Math.floor((amount.mebibytes * MiB * (n + 1)) / (amount.cuts + 2));
      await reader.untilOffset(goal);
      await cuts[n % cuts.length]!();
    }
    expect(await reading).toMatchObject({ exitCode: 0 });
    expect(reader.gaps).toEqual([]);
    expect(reader.offset).toBe(amount.mebibytes * MiB);
    const expected = await until(async () => (await stack.client.logs(id, 'stderr')).toString().split(' ')[0], {
      what: 'the hash that the container made',
    });
    expect(hash.digest('hex')).toBe(expected);
  },
  byTier({ daily: 300_000, full: 1_800_000 }),
);

it('[I5] with a spool of 1 MiB and a slow reader, what is missing is exactly the announced gaps', async () => {
  // Lines of 16 bytes that say their own place, so that each received byte can be checked against its offset.
  const first = 100_000_000_000_000;
  const lines = (16 * MiB) / 16;
  const script = `seq ${first} ${first + lines / 2 - 1}; sleep 3; seq ${first + lines / 2} ${first + lines - 1}`;
  proxy.set('down', { bytesPerSecond: 300_000 });
  const id = await run(script, { onFull: 'drop', blockMs: 0, spoolBytes: MiB });
  const wrong: number[] = [];
  const base = () => `http://127.0.0.1:${proxy.port}`;
  const reader = new LogReader(base, stack.client.token!, id, (bytes, offset) => {
    for (let at = (16 - (offset % 16)) % 16; at + 16 <= bytes.length; at += 16) {
      const line = Buffer.from(bytes.subarray(at, at + 16)).toString();
      if (line !== `${first + (offset + at) / 16}\n`) wrong.push(offset + at);
    }
  });
  expect(await reader.untilExit()).toMatchObject({ exitCode: 0 });
  proxy.heal();
  expect(wrong).toEqual([]);
  expect(reader.gaps.length).toBeGreaterThan(0);
  const missing = reader.gaps.reduce((sum, { from, to }) => sum + (to - from), 0);
  expect(reader.receivedBytes + missing).toBe(lines * 16);
}, 180_000);

it('[I12] a reader at 1 KB/s of a fast producer, and one that grants for ever and never reads, harm nobody', async () => {
  const id = await run('yes 0123456789012345678901234567890123456789', {
    onFull: 'drop',
    blockMs: 0,
    spoolBytes: 8 * MiB,
  });
  const before = memory();
  const path = `/v1/sessions/${id}/logs`;
  const slow = await ClientSocket.dial(stack.url, path, stack.client.token!);
  slow.open({ op: 'logs', processId: 'main', streams: 'stdout', follow: true }, { grant: 'none' });
  const greedy = await ClientSocket.dial(stack.url, path, stack.client.token!, { ignoreMarks: true });
  const flood = greedy.open({ op: 'logs', processId: 'main', streams: 'stdout', follow: true });
  greedy.ws.pause();
  for (let n = 0; n < 200; n++) {
    flood.grant(4 * MiB);
    await sleep(50);
  }
  // What another client reads goes on at speed beside both.
  const other = await ClientSocket.dial(stack.url, path, stack.client.token!);
  const healthy = other.open({ op: 'logs', processId: 'main', streams: 'stdout', follow: true });
  await healthy.opened;
  while (healthy.received[channels.stdout] < 4 * MiB) await sleep(20);
  const after = memory();
  console.log(
    `memory in MiB, before and after: workerd ${before.workerd} ${after.workerd}, agent ${before.agent} ${after.agent}`,
  );
  expect(after.workerd - before.workerd).toBeLessThan(128);
  expect(after.agent - before.agent).toBeLessThan(128);
  for (const socket of [slow, greedy, other]) socket.cut();
  await stack.client.deleteSession(id, '?force=true');
}, 180_000);

function memory(): { workerd: number; agent: number } {
  return { workerd: residentMiB(stack.edge.workerdPid), agent: residentMiB(stack.agents[0]!.process.pid) };
}

async function run(script: string, output: NonNullable<NewSession['output']>): Promise<string> {
  const session = await stack.client.createSession({
    type: 'batch',
    image: busyboxImage,
    command: ['sh', '-c', script],
    resources: { cpu: 1, mem: '256m' },
    output,
  });
  await stack.client.waitForState(session.id, ['RUNNING', 'TERMINATED']);
  return session.id;
}

/** Output that outlives its machine: handed to object storage by the real agent, read when the agent is gone for good. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { busyboxImage } from '../support/images.ts';
import { Cli } from '../support/cli.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { byTier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const lastNumber = 700_000;
const sha256 = (bytes: string | Uint8Array) => createHash('sha256').update(bytes).digest('hex');
/** What `seq` writes. */
const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, at) => `${from + at}\n`).join('');
const expected = sha256(numbers(1, lastNumber));

let stack: Stack;
let cli: Cli;
beforeAll(async () => {
  stack = await startStack({ agentEnv: { CAUSEWAY_HANDOVER_SECONDS: '1' } });
  cli = new Cli(stack.url, stack.client.token!, stack.dir);
});
afterAll(() => stack.stop());

async function runBatch(name: string, script: string): Promise<string> {
  const resources = { cpu: 0.1, mem: '64m' };
  const command = ['sh', '-c', script];
  const { id } = await stack.client.createSession({ type: 'batch', name, image: busyboxImage, command, resources });
  return id;
}

/** Everything of a stream as it lies in object storage; undefined while it is not complete. */
async function stored(id: string): Promise<string | undefined> {
  const path = `/v1/sessions/${id}/logs?stream=stdout&source=storage`;
  const answer = await stack.client.call('GET', path).catch(() => undefined);
  return answer?.status === 200 ? String(answer.body) : undefined;
}

const phases = ['handover.plan:before', 'handover.plan:after', 'handover.put:before', 'handover.put:after'] as const;

it.each(byTier({ daily: phases.slice(3), full: [...phases] }))(
  'survives a kill -9 of the agent between chunks (%s): nothing is lost, nothing doubled',
  async (failpoint) => {
    const agent = stack.agents[0]!;
    await agent.restart({ CAUSEWAY_FAILPOINT: failpoint });
    const id = await runBatch(failpoint.replaceAll(/[.:]/g, '-'), `seq 1 ${lastNumber}`);
    await until(() => agent.process.exit, { what: 'the agent to die in the middle' });
    await agent.start();
    await stack.client.waitForState(id, ['TERMINATED']);
    const whole = await until(async () => stored(id), {
      what: 'all output to be in object storage',
      timeoutMs: 60_000,
    });
    expect(sha256(whole)).toBe(expected);
  },
);

it('hands over what a running session has written, while it runs', async () => {
  const id = await runBatch('long', 'echo begun; sleep 600');
  const said = await until(
    async () => {
      const answer = await stack.client.call('GET', `/v1/sessions/${id}/logs?source=storage&timestamps=true`);
      return answer.status === 200 && String(answer.body);
    },
    { what: 'the first line to be in object storage' },
  );
  expect(said).toMatch(/^\d{4}-\d\d-\d\dT[0-9:.]+Z begun\n\[what came behind this was not handed over/);
  expect((await cli.run(['rm', '-f', 'long'])).status).toBe(0);
});

it('is followed by the line over an outage of the control plane, however long', async () => {
  await runBatch('outage', 'for n in $(seq 1 60); do echo $n; sleep 0.5; done');
  const following = cli.start(['logs', '-f', '--grep', '^[0-9]', 'outage'], '');
  await following.says(/^3$/m);
  await stack.edge.stop();
  // A single request has given up by then.
  await following.says(/the connection was lost/, 'stderr');
  await stack.edge.start();
  expect(await following.done).toMatchObject({ status: 0, stdout: numbers(1, 60) });
});

it('is followed from now on over a cut before anything came', async () => {
  const wait = 'while [ ! -e /home/work/go ]; do sleep 0.1; done';
  const id = await runBatch('quiet', `echo before; ${wait}; seq 1 100`);
  await stack.client.waitForState(id, ['RUNNING']);
  await using link = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
  const linked = new Cli(`http://127.0.0.1:${link.port}`, stack.client.token!, stack.dir);
  await until(async () => (await cli.run(['logs', 'quiet'])).stdout === 'before\n', { what: 'it to have begun' });
  const following = linked.start(['logs', '-f', '--tail', '0', 'quiet'], '');
  await until(() => link.stats.accepted > 1, { what: 'it to be followed' });
  const cut = () => {
    link.refuse();
    link.reset();
  };
  cut();
  await following.says(/the connection was lost/, 'stderr');
  link.heal();
  // Now it is known to be open.
  await following.says(/resumed/, 'stderr');
  cut();
  expect(await cli.run(['exec', 'quiet', '--', 'touch', '/home/work/go'])).toMatchObject({ status: 0 });
  await stack.client.waitForState(id, ['TERMINATED']);
  link.heal();
  expect(await following.done).toMatchObject({ status: 0, stdout: numbers(1, 100) });
});

it('is followed since a time that stays the same over a cut', async () => {
  const ticks = 'while [ ! -e /home/work/go ]; do echo tick; sleep 0.2; done';
  const id = await runBatch('ticks', `${ticks}; seq 1 100`);
  await stack.client.waitForState(id, ['RUNNING']);
  await using link = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
  const linked = new Cli(`http://127.0.0.1:${link.port}`, stack.client.token!, stack.dir);
  const following = linked.start(['logs', '-f', '--since', '1s', 'ticks'], '');
  await following.says(/tick/);
  link.refuse();
  link.reset();
  expect(await cli.run(['exec', 'ticks', '--', 'touch', '/home/work/go'])).toMatchObject({ status: 0 });
  await stack.client.waitForState(id, ['TERMINATED']);
  // Longer than what it asked for.
  await following.says(/the connection was lost/, 'stderr');
  link.heal();
  const { status, stdout } = await following.done;
  expect([status, stdout.replaceAll('tick\n', '')]).toEqual([0, numbers(1, 100)]);
});

it('is read whole and searched when the machine is gone, by the same verb', async () => {
  const id = await runBatch('train', `seq 1 ${lastNumber}; echo "ERROR: done" >&2; exit 3`);
  await stack.client.waitForState(id, ['TERMINATED', 'ERROR']);
  const live = await cli.run(['logs', '--grep', '^69999[0-4]$', 'train']);
  expect(live).toMatchObject({ status: 0, stdout: numbers(699_990, 699_994), stderr: '' });
  await until(async () => stored(id), { what: 'all output to be in object storage', timeoutMs: 60_000 });
  await stack.client.waitForState(await runBatch('silent', 'sleep 600'), ['RUNNING']);
  await stack.agents[0]!.kill9();

  const all = await cli.run(['logs', 'train']);
  expect(all.status, all.stderr).toBe(0);
  expect(sha256(all.stdout)).toBe(expected);
  expect(all.stderr).toContain('ERROR: done\n');
  expect(all.stderr).toContain('this is what it handed over');
  expect(all.stderr).not.toContain('missing');
  expect((await cli.run(['logs', '--tail', '2', '--stream', 'stdout', 'train'])).stdout).toBe(
    numbers(lastNumber - 1, lastNumber),
  );
  const offset = numbers(1, 1000).length;
  const behind = await cli.run(['logs', '--since-offset', String(offset), '--stream', 'stdout', 'train']);
  expect(sha256(behind.stdout)).toBe(sha256(numbers(1001, lastNumber)));
  expect((await cli.run(['logs', '--grep', '^69999[0-4]$', 'train'])).stdout).toBe(numbers(699_990, 699_994));
  expect((await cli.run(['logs', '--grep', 'error', '-i', '--timestamps', 'train'])).stderr).toMatch(
    /\d{4}-\d\d-\d\dT[0-9:.]+Z ERROR: done\n/,
  );
  expect((await cli.run(['logs', '--since', '1h', '--tail', '1', '--stream', 'stdout', 'train'])).stdout).toBe(
    `${lastNumber}\n`,
  );
  expect((await cli.run(['logs', '--until', '1h', 'train'])).stdout).toBe('');
  expect((await cli.run(['logs', '-f', '--grep', '^7$', 'train'])).stdout).toBe('7\n');
  const nothing = await cli.run(['logs', 'silent']);
  expect([nothing.status, nothing.stdout, nothing.stderr]).toEqual([
    125,
    '',
    // As long as nobody has noticed that it is gone, and afterwards.
    expect.stringMatching(/The agent is not connected|The agent of the session is out of reach/),
  ]);
});

it.each<[string[], string]>([
  [['--grep', '(', 'train'], '--grep: there is a ( without its )'],
  [['--since', 'soon', 'train'], '--since: must be so long ago'],
  [['--grep', 'a', '--since-offset', '5', 'train'], 'leave it out'],
])('answers causeway logs %s in words', async (args, words) => {
  const ran = await cli.run(['logs', ...args]);
  expect(ran.stderr).toContain(words);
  expect(ran.status).not.toBe(0);
});

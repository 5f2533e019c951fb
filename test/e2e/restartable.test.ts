/**
 * The machine of a restartable session is lost: what people see who follow it, from where they are. The main process begins
 * again on the next machine, and so does its output; what was started by hand ended with the machine, and nobody starts it
 * a second time.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cli } from '../support/cli.ts';
import { busyboxImage } from '../support/images.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';

const lines = 60;
const linesFrom = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, at) => `${first + at}\n`).join('');
/** The shortest there is: the edge waits for its end. */
const leaseMs = 60_000;

let stack: Stack;
let cli: Cli;

beforeAll(async () => {
  if (tier !== 'full') return;
  stack = await startStack({ agents: 2 });
  cli = new Cli(stack.url, stack.client.token!, stack.dir);
}, 300_000);
afterAll(async () => {
  await stack?.stop();
}, 60_000);

it.runIf(tier === 'full')(
  '[I5] [I6] is shown from its beginning on the next machine, and starts no command there again',
  async () => {
    const count = `i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo $i; sleep 0.5; done`;
    const run = (lease: string) => {
      const size = ['--cpu', '0.1', '--mem', '32m'];
      return cli.run([
        'run',
        '-d',
        '--name',
        'job',
        '--image',
        busyboxImage,
        ...size,
        '--lease',
        lease,
        '--',
        'sh',
        '-c',
        count,
      ]);
    };
    expect(await run('5s')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('60 to 86400 seconds') as string,
    });
    expect(await run(`${leaseMs / 1000}s`)).toMatchObject({ status: 0 });
    const { id } = (await stack.client.sessions()).find(({ name }) => name === 'job')!;
    await stack.client.waitForState(id, ['RUNNING']);
    const logs = cli.start(['logs', '-f', 'job']);
    const timed = cli.start(['logs', '-f', '--timestamps', 'job']);
    const exec = cli.start(['exec', 'job', '--', 'sh', '-c', 'echo started; sleep 1000']);
    await Promise.all([logs.says(/^5$/m), timed.says(/ 5$/m), exec.says(/started/)]);

    const { agentId } = await stack.client.session(id);
    const lost = stack.agents.find((agent) => agent.agentId === agentId)!;
    await lost.kill9();
    for (const { Id } of await lost.engine.docker.listContainers()) await lost.engine.docker.getContainer(Id).kill();

    const executed = await exec.done;
    for (const { status, stdout, stderr } of [await logs.done, await timed.done]) {
      expect(status, stderr).toBe(0);
      const read = stdout.replaceAll(/^2\S+Z /gm, '');
      const whole = linesFrom(1, lines);
      expect(read.endsWith(whole), read).toBe(true);
      const first = read.slice(0, -whole.length);
      expect(first).toBe(linesFrom(1, first.split('\n').length - 1));
      expect(stderr).toContain('the machine of the session is out of reach: its output goes on when it is back');
      expect(stderr).toContain('the session was placed anew: it begins again, and so does its output');
    }
    expect(executed).toMatchObject({ status: 125, stdout: 'started\n' });
    expect(executed.stderr).toContain('the command ended with it, and is not started again');
  },
  4 * leaseMs,
);

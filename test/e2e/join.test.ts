/** A second machine joins by the line for checkouts that `agent token create` prints, pasted as it is, and somebody watches it. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cli } from '../support/cli.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { createNatHost, type NatHost } from '../support/netns.ts';
import { type Stack, startStack } from '../support/stack.ts';

const root = join(import.meta.dirname, '../..');
let host: NatHost;
let engine: Dockerd;
let stack: Stack;
let cli: Cli;

beforeAll(async () => {
  host = await createNatHost();
  stack = await startStack({ agents: 0, natHost: host });
  engine = await startDockerd({ netns: host.netns });
  await importBusybox(engine.docker);
  cli = new Cli(stack.url, stack.client.token!, stack.dir);
});
afterAll(async () => {
  await engine?.stop();
  await stack?.stop();
  await host?.stop();
});

const joinLine = /^causeway agent join .*$/m;
/** Pastes a line into a shell of the machine that joins: another user's home, another network, its own engine. */
const paste = (line: string) =>
  host.start('sh', ['-c', `exec ${line}`], {
    env: {
      PATH: `${root}:${process.env['PATH']}`,
      HOME: join(stack.dir, 'second'),
      XDG_DATA_HOME: join(stack.dir, 'second', 'data'),
      XDG_CONFIG_HOME: join(stack.dir, 'second', 'config'),
      DOCKER_HOST: engine.dockerHost,
    },
  });

it('is watched from waiting over registering to connected, with its capacity, and runs a session', async () => {
  const watching = cli.start(['agent', 'token', 'create', '--resource-group', 'default', '--wait'], '');
  await watching.says(/^curl -fsSL http:\S+\/install.sh \| sh -s -- --url http:\S+ cwj_\w+\n/m);
  await watching.says(/^waiting /m, 'stderr');
  expect(watching.seen.stderr).not.toContain('registering');
  const line = joinLine.exec(watching.seen.stderr)?.[0] ?? '';
  await using agent = paste(line);
  const { status, stderr } = await watching.done;
  expect(stderr, agent.output()).toMatch(
    /waiting +for the machine[^]*\nregistering\nconnected +[a-z0-9.-]+: cpu \d+, mem [\d.]+ GiB/,
  );
  expect(status).toBe(0);
  const said = await cli.run(['run', '-q', '--image', busyboxImage, '--', 'echo', 'from the second machine']);
  expect(said).toMatchObject({ status: 0, stdout: 'from the second machine\n' });
  expect(await host.inboundAttempts()).toBe(0);

  await using second = paste(line.replace('--token', '--state /nowhere-else --token'));
  expect(await second.exited).not.toMatchObject({ code: 0 });
});

it('is told what to type when a token is spent, and waits for approval when it must', async () => {
  const watching = cli.start(['agent', 'token', 'create', '--no-approve', '--wait'], '');
  await watching.says(joinLine, 'stderr');
  const line = joinLine.exec(watching.seen.stderr)?.[0] ?? '';
  await using agent = paste(`${line} --state ${join(stack.dir, 'third')} --name third`);
  const { status, stderr } = await watching.done;
  expect(stderr, agent.output()).toMatch(/pending +third offers cpu \d+.*; let it in: causeway agent approve third/);
  expect(status).toBe(0);
  await using late = paste(`${line} --state ${join(stack.dir, 'fourth')} --name fourth`);
  expect(await late.exited).not.toMatchObject({ code: 0 });
  expect(late.output()).toContain('causeway agent token create');
  expect(await cli.run(['agent', 'approve', 'third'])).toMatchObject({ status: 0, stdout: 'third\n' });
});

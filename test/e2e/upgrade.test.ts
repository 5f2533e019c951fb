/**
 * An installed agent becomes another version of itself while a container counts on: in one go, after a death at every
 * step, and back by itself from versions that crash, hang or find nobody. Exactly one version runs at each end.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failpoints } from '../../schema/failpoints.ts';
import { Cli } from '../support/cli.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { runToEnd } from '../support/process.ts';
import { TestReleases } from '../support/releases.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

/** A version on trial gets this long: enough on a busy machine, short enough to wait for. */
const trial = { CAUSEWAY_TRIAL_SECONDS: '30' };

describe.skipIf(tier === 'daily')('an installed agent', () => {
  let stack: Stack;
  let engine: Dockerd;
  let releases: TestReleases;
  let cli: Cli;
  let dir: string;
  let container: { id: string; startedAt: string };
  let count = 0;
  const nextVersion = () => `0.1.0+test${String(++count).padStart(3, '0')}`;

  beforeAll(async () => {
    stack = await startStack({ agents: 0, redis: 'memory' });
    engine = await startDockerd();
    await importBusybox(engine.docker);
    dir = join(stack.dir, 'opt');
    releases = new TestReleases(stack.edge.state);
    cli = new Cli(stack.url, stack.client.token!, stack.dir);
    const token = await stack.client.newJoinToken();
    const line = `curl -fsSL ${stack.url}/install.sh | sh -s -- --no-service --name here --dir ${dir} ${token}`;
    await runToEnd('sh', ['-c', line], { env: { DOCKER_HOST: engine.dockerHost, ...trial } });
    const loop = 'i=0; while :; do echo $i; i=$((i+1)); sleep 1; done';
    const ran = await cli.run(['run', '-d', '--name', 'counter', '--image', busyboxImage, '--', 'sh', '-c', loop]);
    expect(ran.status, ran.stderr).toBe(0);
    await until(async () => (await cli.run(['logs', 'counter'])).stdout.includes('1\n'), {
      what: 'the counter to count',
    });
    container = await lookAtContainer();
  });
  afterAll(async () => {
    if (dir !== undefined) await agent(['stop']).catch(() => undefined);
    await engine?.stop();
    await stack?.stop();
  });

  const agent = (args: string[], env: Record<string, string> = {}) =>
    runToEnd(join(dir, 'bin/causeway-agent'), args, { env: { ...trial, ...env } });

  async function lookAtContainer() {
    const all = await engine.docker.listContainers({ all: true, filters: { label: ['causeway.session'] } });
    expect(all).toHaveLength(1);
    const { Id, State } = await engine.docker.getContainer(all[0]!.Id).inspect();
    return { id: Id, startedAt: State.StartedAt };
  }

  /** What the edge and the machine say runs, and that it is one process and the same container. */
  async function expectRunning(version: string) {
    await until(
      async () => {
        const { stdout } = await cli.run(['agent', 'list', '--json']);
        const [only] = JSON.parse(stdout) as { state: string; agentVersion: string }[];
        return only?.state === 'connected' && only.agentVersion === version;
      },
      { what: `${version} to be connected`, timeoutMs: 120_000 },
    );
    // The status file is written anew a moment after a start.
    await until(
      async () => {
        const text = readFileSync(join(dir, 'state/status.json'), 'utf8');
        const status = JSON.parse(text) as { version: string; pid: number };
        const processes = await runToEnd('pgrep', ['-f', `${dir}/versions/.*/agent.cjs`]);
        return status.version === version && processes === String(status.pid);
      },
      { what: `one process of ${version}` },
    );
    expect(await lookAtContainer()).toEqual(container);
    const { stdout } = await cli.run(['logs', 'counter']);
    expect(stdout).toBe(Array.from(stdout.trim().split('\n'), (_, n) => `${n}\n`).join(''));
  }

  it('becomes the new version while its container goes on, says each step, and is current after it', async () => {
    const version = nextVersion();
    await releases.serve(version);
    const done = await cli.run(['agent', 'upgrade', 'here']);
    expect(done.stderr).toMatch(
      /upgrading +here from 0\.1\.0\+\w+ to 0\.1\.0\+test001\n[^]*upgraded +here to 0\.1\.0\+test001/,
    );
    expect(done.status).toBe(0);
    await expectRunning(version);
    const again = await cli.run(['agent', 'upgrade', '--all']);
    expect(again).toMatchObject({ status: 0, stderr: `current    here runs ${version} already\n` });
  });

  it('refuses what another key signed, and a release that is older unless that is asked for', async () => {
    const now = nextVersion();
    await releases.serve(now);
    expect((await cli.run(['agent', 'upgrade', 'here'])).status).toBe(0);
    const keyFile = join(stack.dir, 'foreign-key.json');
    await releases.serve(nextVersion(), undefined, { keyFile });
    const foreign = await cli.run(['agent', 'upgrade', 'here']);
    expect(foreign.stderr).toContain('not signed by the key that this agent got when it joined');
    expect(foreign.status).toBe(1);
    const older = nextVersion();
    await releases.serve(older, undefined, { nowMs: Date.now() - 3_600_000 });
    const refused = await cli.run(['agent', 'upgrade', 'here']);
    expect(refused.stderr).toContain('--allow-downgrade');
    await expectRunning(now);
    expect((await cli.run(['agent', 'upgrade', 'here', '--allow-downgrade'])).status).toBe(0);
    await expectRunning(older);
  });

  it('keeps its version when a part arrives with another content, and says so', async () => {
    const now = nextVersion();
    await releases.serve(now);
    expect((await cli.run(['agent', 'upgrade', 'here'])).status).toBe(0);
    const spoiled = await releases.serve(nextVersion());
    releases.spoil(spoiled, 'agent.cjs');
    const failed = await cli.run(['agent', 'upgrade', 'here']);
    expect(failed.stderr).toMatch(/failed +here: .*wrong checksum/);
    expect(failed.status).toBe(1);
    await expectRunning(now);
    await until(async () => (await cli.run(['agent', 'show', 'here'])).stdout.includes('upgrade_failed'), {
      what: 'the edge to know why',
      timeoutMs: 120_000,
    });
  });

  it.each([
    ['ends at once', () => 'process.exit(1);', /ended 3 times/],
    ['hangs', () => 'for (;;);', /it hung/],
    [
      'finds no control plane',
      (text: string) => `process.env.CAUSEWAY_URL="http://127.0.0.1:9";${text}`,
      /not connected/,
    ],
  ])('goes back by itself from a version that %s', async (_, change, why) => {
    const now = nextVersion();
    await releases.serve(now);
    expect((await cli.run(['agent', 'upgrade', 'here'])).status).toBe(0);
    await releases.serve(nextVersion(), change);
    const failed = await cli.run(['agent', 'upgrade', 'here']);
    expect(failed.stderr).toMatch(why);
    expect(failed.status).toBe(1);
    await expectRunning(now);
  });

  it.each(failpoints.upgrade.flatMap((name) => [`${name}:before`, `${name}:after`]))(
    'runs as one version after a death at %s',
    async (failpoint) => {
      const version = nextVersion();
      await agent(['stop']);
      await agent(['start'], { CAUSEWAY_FAILPOINT: failpoint });
      const before = JSON.parse(readFileSync(join(dir, 'state/status.json'), 'utf8')) as { version: string };
      await expectRunning(before.version);
      await releases.serve(version);
      const done = await cli.run(['agent', 'upgrade', 'here']);
      await expectRunning(done.status === 0 ? version : before.version);
      const again = await cli.run(['agent', 'upgrade', 'here']);
      expect(again.status, `${done.stderr}${again.stderr}`).toBe(0);
      await expectRunning(version);
    },
  );
});

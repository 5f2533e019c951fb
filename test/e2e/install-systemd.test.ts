/**
 * An agent on a machine where the real systemd runs: installed by the pasted line as a service, it is started again whatever
 * ends it, becomes another version of itself, comes back with the machine, and leaves nothing. Its engine is a private one
 * outside: containers go on over the end of this machine, as under live restore.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from '../support/cli.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { TestReleases } from '../support/releases.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { type SystemdMachine, systemdMachine } from '../support/systemd-machine.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const unit = 'causeway-agent.service';

describe.skipIf(tier === 'daily')('an agent as a service of systemd', () => {
  let stack: Stack;
  let engine: Dockerd;
  let machine: SystemdMachine;
  let host: string;
  let dir: string;
  let cli: Cli;
  beforeAll(async () => {
    stack = await startStack({ agents: 0, redis: 'memory' });
    engine = await startDockerd();
    await importBusybox(engine.docker);
    cli = new Cli(stack.url, stack.client.token!, stack.dir);
    host = join(stack.dir, 'host');
    mkdirSync(host);
    dir = join(host, 'opt');
    machine = await systemdMachine({ [host]: host, [engine.socket]: '/run/docker.sock' });
    const token = await stack.client.newJoinToken();
    const installed = await machine.run(
      `curl -fsSL ${stack.url}/install.sh | sh -s -- --dir ${dir} --name served ${token}`,
    );
    expect(installed.output).toMatch(
      /service +\/etc\/systemd\/system\/causeway-agent\.service\n[^]*connected +to http/,
    );
    expect(installed.code).toBe(0);
    const loop = 'i=0; while :; do echo $i; i=$((i+1)); sleep 1; done';
    await must(['run', '-d', '--name', 'counter', '--image', busyboxImage, '--', 'sh', '-c', loop]);
  }, 600_000);
  afterAll(async () => {
    await machine?.stop();
    await engine?.stop();
    await stack?.stop();
  });

  async function must(args: string[]): Promise<string> {
    const ran = await cli.run(args);
    expect(ran, ran.stderr).toMatchObject({ status: 0 });
    return ran.stdout;
  }
  const agent = (act: string) => machine.run(`${dir}/bin/causeway-agent ${act}`);
  const property = async (name: string) => (await machine.run(`systemctl show -P ${name} ${unit}`)).output.trim();
  /** Of the agent itself, as the machine numbers it. */
  const agentPid = async () => {
    const inUnit = `cat /sys/fs/cgroup/system.slice/${unit}/cgroup.procs 2>/dev/null`;
    const line = `for pid in $(${inUnit}); do ! grep -q agent.cjs /proc/$pid/cmdline || echo $pid; done`;
    return (await machine.run(line)).output.trim();
  };

  /** By the control plane, and by its container: it has all numbers, none twice, and goes on. */
  async function expectServing(): Promise<void> {
    const isConnected = async () => {
      const [only] = JSON.parse(await must(['agent', 'list', '--json'])) as { state: string }[];
      return only?.state === 'connected';
    };
    await until(isConnected, { what: 'the agent to be connected', timeoutMs: 120_000 });
    const counted = async () => (await must(['logs', 'counter'])).trim().split('\n');
    const before = (await counted()).length;
    await until(async () => (await counted()).length > before, { what: 'the counter to go on', timeoutMs: 60_000 });
    const all = await counted();
    expect(all).toEqual(all.map((_line, at) => String(at)));
    expect(await must(['exec', 'counter', '--', 'echo', 'well'])).toBe('well\n');
  }

  it('runs, and says so where a person would look', async () => {
    await expectServing();
    expect(await property('ActiveState')).toBe('active');
    expect((await machine.run(`systemctl is-enabled ${unit}`)).output.trim()).toBe('enabled');
    expect((await agent('status')).output).toMatch(/running +yes[^]*tunnel +connected/);
    expect((await agent('log')).output).toContain('"connected"');
    expect(await agent('start')).toMatchObject({
      code: 0,
      output: expect.stringContaining('it runs already') as string,
    });
  });

  it('is started again by systemd when its keeper dies, and by its keeper when it dies itself', async () => {
    const keeper = await property('MainPID');
    await machine.run(`kill -KILL ${keeper}`);
    await until(async () => ![keeper, '0'].includes(await property('MainPID')), {
      what: 'another keeper',
      timeoutMs: 30_000,
    });
    await expectServing();
    const before = await agentPid();
    await machine.run(`kill -KILL ${before}`);
    await until(async () => !['', before].includes(await agentPid()), { what: 'another agent', timeoutMs: 30_000 });
    await expectServing();
    expect(await property('ActiveState')).toBe('active');
    // One each, and nothing of the former ones.
    expect(await agentPid()).toMatch(/^\d+$/);
  });

  it('is stopped and started in order', async () => {
    expect((await agent('stop')).code).toBe(0);
    expect([await property('ActiveState'), await agentPid()]).toEqual(['inactive', '']);
    expect((await agent('status')).output).toMatch(/running +no: causeway-agent start/);
    expect((await agent('start')).code).toBe(0);
    await expectServing();
  });

  it('becomes another version of itself under the same unit', async () => {
    const version = '0.1.0+service01';
    const keeper = await property('MainPID');
    await new TestReleases(stack.edge.state).serve(version);
    const done = await cli.run(['agent', 'upgrade', 'served']);
    expect(done.stderr).toMatch(/upgraded +served to 0\.1\.0\+service01/);
    await expectServing();
    const { version: runs } = JSON.parse(readFileSync(join(dir, 'state/status.json'), 'utf8')) as { version: string };
    expect(runs).toBe(version);
    expect(await property('MainPID')).toBe(keeper);
  });

  it('comes back with its machine, shut down in order or not, and goes on with what ran', async () => {
    await machine.shutDown();
    await machine.boot();
    await expectServing();
    await machine.loseItsPower();
    await machine.boot();
    await expectServing();
  });

  it('does nothing when it is installed again, and leaves nothing when it is removed', async () => {
    const again = await machine.run(`curl -fsSL ${stack.url}/install.sh | sh -s -- --dir ${dir} --name served`);
    expect(again.output).toMatch(/running +nothing to do/);
    await must(['stop', 'counter']);
    const removed = async () => (await engine.docker.listContainers({ all: true })).length === 0;
    await until(removed, { what: 'the container to be removed', timeoutMs: 60_000 });
    const gone = await agent('uninstall');
    expect(gone.output).toMatch(/removed \/etc\/systemd\/system\/causeway-agent\.service\nremoved /);
    expect(gone.code).toBe(0);
    expect(readdirSync(host)).toEqual([]);
    expect(existsSync(dir)).toBe(false);
    const left = await machine.run(
      `systemctl list-unit-files '*causeway*' --no-legend; find /etc/systemd /run/systemd -name '*causeway*'`,
    );
    expect(left.output).toBe('');
    expect(await agentPid()).toBe('');
  });
});

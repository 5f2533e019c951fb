/**
 * The installer as a person meets it: one line, pasted on a fresh Debian with an engine and curl, and nothing else. The
 * release is the real one, of this checkout, downloaded through the real edge. The root is a minimal one made by
 * debootstrap; its engine is a private one outside, which sees the directory of the installation under the same name.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from '../support/cli.ts';
import { debianRoot, type DebianRoot } from '../support/debian-root.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { start, type Started } from '../support/process.ts';
import { TestReleases } from '../support/releases.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

describe.skipIf(tier === 'daily')('the installer on a fresh machine', () => {
  let stack: Stack;
  let engine: Dockerd;
  let root: DebianRoot;
  let host: string;
  let dir: string;
  let cli: Cli;
  beforeAll(async () => {
    root = await debianRoot();
    stack = await startStack({ agents: 0 });
    engine = await startDockerd();
    await importBusybox(engine.docker);
    cli = new Cli(stack.url, stack.client.token!, stack.dir);
    host = join(stack.dir, 'host');
    mkdirSync(host);
    dir = join(host, 'opt');
  }, 600_000);
  afterAll(async () => {
    if (root !== undefined && existsSync(join(dir, 'bin/causeway-agent'))) await inside('agent stop').exited;
    await engine?.stop();
    await stack?.stop();
    root?.[Symbol.dispose]();
  });

  /** A shell line on the machine; `agent` is the installed command. */
  function inside(line: string): Started {
    const text = line.replace(/^agent /, `${dir}/bin/causeway-agent `);
    const binds = { [host]: host, [engine.socket]: '/run/docker.sock' };
    const [command, ...args] = root.command(['sh', '-c', text], binds);
    return start(command, args, { name: 'the fresh machine' });
  }
  async function run(line: string): Promise<{ code: number | null; output: string }> {
    const program = inside(line);
    const { code } = await program.exited;
    return { code, output: program.output() };
  }
  const install = (options: string) => run(`curl -fsSL ${stack.url}/install.sh | sh -s -- --dir ${dir} ${options}`);

  it('makes it an agent by one pasted line, and a container runs there within a minute', async () => {
    const token = await stack.client.newJoinToken();
    const startedMs = performance.now();
    const done = await install(`--name fresh ${token}`);
    expect(done.output).toMatch(/machine +Linux .*\n.*engine +Docker at[^]*connected +to http[^]*remove +with: /);
    expect(done.code).toBe(0);
    const joinedMs = performance.now();
    const ran = await cli.run(['run', '-q', '--image', busyboxImage, '--', 'echo', 'from the fresh machine']);
    expect(ran, done.output).toMatchObject({ status: 0, stdout: 'from the fresh machine\n' });
    const seconds = (ms: number) => ((ms - startedMs) / 1000).toFixed(1);
    console.log(
      `pasted to joined ${seconds(joinedMs)} s, to the end of the first container ${seconds(performance.now())} s`,
    );
    const { version } = JSON.parse(readFileSync(join(dir, 'state/status.json'), 'utf8')) as { version: string };
    expect(readlinkSync(join(dir, 'current'))).toBe(`versions/${version}`);
  });

  it('does nothing the second time, and keeps who it is', async () => {
    const identity = () => readFileSync(join(dir, 'state/identity.json'), 'utf8');
    const before = identity();
    const again = await install('--name fresh');
    expect(again.output).toMatch(/release +\S+ is here already[^]*running +nothing to do/);
    expect(identity()).toBe(before);
  });

  it('leaves a version that runs all that is its, until another runs in its place', async () => {
    const versions = () => readdirSync(join(dir, 'versions'));
    const [before] = versions();
    await new TestReleases(stack.edge.state).serve('0.1.0+another');
    const only = await install('--name fresh --no-start');
    expect(only.code, only.output).toBe(0);
    expect(new Set(versions())).toEqual(new Set([before, '0.1.0+another']));
    // Of a size that no container waits for in advance.
    const echo = ['--image', busyboxImage, '--', 'echo', 'well'];
    const ran = await cli.run(['run', '-q', '--mem', '48m', ...echo]);
    expect(ran).toMatchObject({ status: 0, stdout: 'well\n' });
    const then = await install('--name fresh');
    expect(then.code, then.output).toBe(0);
    expect(then.output).toMatch(/connected +to http/);
    expect(versions()).toEqual(['0.1.0+another']);
    expect(await cli.run(['run', '-q', ...echo])).toMatchObject({ status: 0, stdout: 'well\n' });
  });

  async function nothingIsLeft(): Promise<void> {
    expect(readdirSync(host)).toEqual([]);
    expect(await engine.docker.listContainers({ all: true })).toEqual([]);
    const networks = await engine.docker.listNetworks();
    expect(networks.map(({ Name }) => Name).toSorted()).toEqual(['bridge', 'host', 'none']);
  }

  it('is uninstalled, and leaves nothing, with what waits in advance for a session', async () => {
    const isAlone = async () => {
      const all = await engine.docker.listContainers({ all: true });
      return all.length === 1 && all[0]!.State === 'running' && all[0]!.Names[0]!.startsWith('/causeway-wrm_');
    };
    await until(isAlone, { what: 'the one that waits in advance, and the end of those of sessions' });
    const gone = await run('agent uninstall');
    expect(gone.output).toContain(`removed ${dir}`);
    expect(gone.code).toBe(0);
    await nothingIsLeft();
  });

  it('is not uninstalled over containers of sessions, and by force leaves nothing', async () => {
    const again = await install(`--name again ${await stack.client.newJoinToken()}`);
    expect(again.code, again.output).toBe(0);
    const ran = await cli.run(['run', '-d', '--name', 'stays', '--image', busyboxImage, '--', 'sleep', '1000']);
    expect(ran.status, ran.stderr).toBe(0);
    await until(async () => (await cli.run(['ps', '--json'])).stdout.includes('"state":"RUNNING"'), {
      what: 'the session to run',
    });
    const refused = await run('agent uninstall');
    expect(refused.output).toContain('containers of sessions are here');
    expect(refused.code).toBe(1);
    const gone = await run('agent uninstall --force');
    expect(gone.output).toContain(`removed ${dir}`);
    await nothingIsLeft();
  });
});

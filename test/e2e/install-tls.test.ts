/** The printed line, pasted as it is, over TLS whose key is pinned: curl, installer, agent and its upgrade take that key alone. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from '../support/cli.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { start } from '../support/process.ts';
import { TestReleases } from '../support/releases.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';

describe.skipIf(tier === 'daily')('the installer over TLS', () => {
  let stack: Stack;
  let engine: Dockerd;
  let cli: Cli;
  let dir: string;
  beforeAll(async () => {
    stack = await startStack({ agents: 0, tls: true });
    engine = await startDockerd();
    cli = new Cli(stack.url, stack.client.token!, stack.dir, { CAUSEWAY_PIN: stack.edge.pin! });
    dir = join(stack.dir, 'opt');
  });
  afterAll(async () => {
    if (existsSync(join(dir, 'bin/causeway-agent'))) await shell(`${dir}/bin/causeway-agent stop`);
    await engine?.stop();
    await stack?.stop();
  });

  async function shell(line: string): Promise<{ code: number | null; output: string }> {
    const program = start('sh', ['-c', line], { env: { DOCKER_HOST: engine.dockerHost } });
    const { code } = await program.exited;
    return { code, output: program.output() };
  }

  it('refuses another key, joins by the line as it was printed, and upgrades itself by the same key', async () => {
    const { stdout } = await cli.run(['agent', 'token', 'create', '--json']);
    const { line, pin } = JSON.parse(stdout) as { line: string; pin: string };
    const here = `${line} --no-service --dir ${dir}`;
    const wrong = await shell(here.replace(`--pin ${pin}`, `--pin sha256:${'0'.repeat(64)}`));
    expect(wrong.output).toContain('could not be downloaded');
    expect(wrong.code).not.toBe(0);
    expect(existsSync(join(dir, 'current'))).toBe(false);
    const joined = await shell(here);
    expect(joined.output).toMatch(/connected +to https:/);
    expect(joined.code).toBe(0);
    await new TestReleases(stack.edge.state).serve('0.1.0+overtls');
    const upgraded = await cli.run(['agent', 'upgrade', '--all']);
    expect(upgraded.stderr).toMatch(/upgraded +\S+ to 0\.1\.0\+overtls/);
    expect(upgraded.status).toBe(0);
  });
});

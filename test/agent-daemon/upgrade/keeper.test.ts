/** The command that keeps an installed agent, on a machine that is not well. */
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { start } from '../../support/process.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';

const keeper = join(import.meta.dirname, '../../../agent-daemon/upgrade/causeway-agent.sh');

describe('causeway-agent', () => {
  let tmp: TmpDir;
  let dir: string;
  let tools: string;
  beforeEach(() => {
    tmp = tmpDir('keep');
    dir = join(tmp.path, 'opt');
    tools = join(tmp.path, 'tools');
    for (const folder of ['bin', 'state', 'versions/1']) mkdirSync(join(dir, folder), { recursive: true });
    symlinkSync('versions/1', join(dir, 'current'));
    symlinkSync(process.execPath, join(dir, 'versions/1/node'));
    cpSync(keeper, join(dir, 'bin/causeway-agent')); // it finds its directory by where it lies
    writeFileSync(join(dir, 'agent.env'), `DOCKER_HOST='unix://${tmp.path}/docker.sock'\n`);
    writeFileSync(join(dir, 'state/identity.json'), '{"agentId":"agt_1"}');
    // The packet filter of this machine is no matter of the test.
    mkdirSync(tools);
    writeFileSync(join(tools, 'iptables'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  });
  afterEach(() => tmp.remove());

  async function run(...args: string[]): Promise<{ code: number | null; output: string }> {
    const env = { PATH: `${tools}:${process.env['PATH']}` };
    const command = start('sh', [join(dir, 'bin/causeway-agent'), ...args], { env });
    const { code } = await command.exited;
    return { code, output: command.output() };
  }

  it('is uninstalled by force where the engine is gone, and says what may be left', async () => {
    const refused = await run('uninstall');
    expect(refused.output).toContain('start it, or: uninstall --force');
    expect(refused.code).toBe(69);
    const gone = await run('uninstall', '--force');
    expect(gone.output).toMatch(/containers may be left there[^]*removed /);
    expect(gone.code).toBe(0);
    expect(existsSync(dir)).toBe(false);
  });
});

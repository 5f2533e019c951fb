/** One agent for a state directory, and a refusal that says what to do. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Started, start } from '../support/process.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

const root = join(import.meta.dirname, '../..');
let dir: TmpDir;
const agents: Started[] = [];
beforeEach(() => {
  dir = tmpDir('lck');
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.kill9()));
  dir.remove();
});

/** An agent that has neither engine nor edge: it keeps asking for both, with the lock of its state. */
function startAgent(): Started {
  const args = [
    'agent-daemon/index.ts',
    '--url',
    'http://127.0.0.1:1',
    '--token',
    'cwj_none_none',
    '--state',
    dir.path,
  ];
  const agent = start(process.execPath, args, { name: 'agent', cwd: root, env: { DOCKER_HOST: 'unix:///none' } });
  agents.push(agent);
  return agent;
}

const holder = (): string => readFileSync(join(dir.path, 'agent.lock'), 'utf8').trim();

it('refuses a second agent on one state directory with who has it and what to do, and takes over from a killed one', async () => {
  const first = startAgent();
  await until(() => holder() === String(first.pid), { what: 'the first agent to have the lock' });
  const second = startAgent();
  expect(await second.exited).toMatchObject({ code: 75 });
  expect(second.output()).toContain(`another agent (process ${first.pid}) already works on ${dir.path}`);
  expect(second.output()).toContain('--state');
  expect(first.exit).toBeUndefined();
  await first.kill9();
  const third = startAgent();
  await until(() => holder() === String(third.pid), { what: 'the next agent to have the lock' });
});

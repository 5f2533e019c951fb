import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { start, type Started } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import { byTier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { initBinary, newProcessId } from './harness.ts';

const agentProgram = fileURLToPath(new URL('agent-program.ts', import.meta.url));
const kills = byTier({ daily: 20, full: 60 });
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

it(`[I21] loses and doubles nothing over ${kills} times kill -9 of the agent at full speed`, async () => {
  using root = tmpDir('kill');
  const [dir, state, stop] = [`${root.path}/run`, `${root.path}/state`, `${root.path}/stop`];
  mkdirSync(dir);
  mkdirSync(state);
  const block = randomBytes(4 * 1024 * 1024);
  writeFileSync(`${root.path}/block`, block);
  const script = `while [ ! -e ${stop} ]; do cat ${root.path}/block; done`;
  const processId = newProcessId();
  const spoolSize = (): number => statSync(`${state}/spool`, { throwIfNoEntry: false })?.size ?? 0;
  const startAgent = (): Started =>
    start(process.execPath, [agentProgram, dir, state, processId, script], { name: 'agent' });

  let agent = startAgent();
  await until(() => existsSync(`${dir}/agent.sock`), { what: 'the socket' });
  await using init = start(initBinary, [`${dir}/agent.sock`], { name: 'init' });
  for (let i = 0; i < kills; i++) {
    const enough = spoolSize() + 64 * 1024 + randomBytes(1).readUInt8() * 8192;
    await until(() => spoolSize() > enough, {
      what: `progress before kill ${i}`,
      everyMs: 1,
      giveUp: () => (agent.exit ? agent.output() : undefined),
    });
    await agent.kill9();
    agent = startAgent();
  }
  writeFileSync(stop, '');
  await until(() => existsSync(`${state}/done`), {
    what: 'the end',
    giveUp: () => (agent.exit ? agent.output() : undefined),
  });
  await agent.kill9();
  await init.kill9();
  const blocks = spoolSize() / block.length;
  expect(blocks).toBeGreaterThan(0);
  const expected = createHash('sha256');
  for (let i = 0; i < blocks; i++) expected.update(block);
  expect(sha256(readFileSync(`${state}/spool`))).toBe(expected.digest('hex'));
}, 240_000);

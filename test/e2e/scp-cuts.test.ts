/** What becomes of uploads by scp when a part on their way is cut: each ends soon, says so, and leaves nothing that looks whole. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blackhole, killAgent, killWorkerd } from '../support/cuts.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { importPython, pythonImage } from '../support/python-image.ts';
import { seededRandom } from '../support/random.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';
import { OpenSsh } from './open-ssh.ts';

const megabytes = 96;
const rounds = 4;
/** A link that is silent for so long is over, and then whoever copies is told. */
const endMs = 90_000;
const timeout = 600_000;
const random = seededRandom(Number(process.env['CAUSEWAY_SEED'] ?? 1));

describe.runIf(tier === 'full')('an upload by scp', () => {
  let stack: Stack;
  /** Between the client and the edge. */
  let proxy: FaultProxy;
  let near: OpenSsh;
  let far: OpenSsh;
  let big: string;

  beforeAll(async () => {
    stack = await startStack({ agentProxy: true });
    proxy = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
    near = await OpenSsh.prepare(stack);
    far = await OpenSsh.prepare(stack, `http://127.0.0.1:${proxy.port}`);
    await near.session('lab', pythonImage, ['--cpu', '1', '--mem', '256m']);
    big = join(stack.dir, 'big');
    writeFileSync(big, randomBytes(megabytes * 1024 ** 2));
  }, 300_000);
  afterAll(async () => {
    await proxy?.stop();
    await stack?.stop();
  });

  const cuts: Record<string, () => Promise<unknown>> = {
    'the client’s link is reset': () => Promise.resolve(proxy.reset()),
    'the agent’s link is reset': () => Promise.resolve(stack.agentProxy!.reset()),
    'nothing passes to the client': () => blackhole(proxy, random),
    'nothing passes to the agent': () => blackhole(stack.agentProxy!, random),
    'workerd is killed': () => killWorkerd(stack),
    'the agent is killed': () => killAgent(stack),
  };

  /** Size and hash of a file in the session; undefined when it is not there. */
  async function remote(name: string): Promise<{ bytes: number; sha: string } | undefined> {
    const ran = await until(
      async () => {
        const tried = await near.ssh(['lab.causeway', `stat -c %s ${name} && sha256sum < ${name}`]);
        return tried.stdout !== '' || tried.stderr.includes('No such file') ? tried : undefined;
      },
      { what: 'the session to answer', timeoutMs: 60_000, everyMs: 500 },
    );
    const [bytes, sha] = ran.stdout.split(/\s+/);
    return sha ? { bytes: Number(bytes), sha } : undefined;
  }

  /** The copy has all, and of what served copies nothing is left. */
  async function isWhole(name: string): Promise<void> {
    const content = readFileSync(big);
    const sha = createHash('sha256').update(content).digest('hex');
    expect(await remote(name)).toEqual({ bytes: content.byteLength, sha });
    const processes = 'for each in /proc/[0-9]*/cmdline; do tr "\\0" " " < $each; echo; done';
    await until(async () => !(await near.ssh(['lab.causeway', processes])).stdout.includes('sftp'), {
      what: 'the servers of copies to end',
      timeoutMs: 60_000,
    });
  }

  it.each(Object.entries(cuts))(
    'fails with words, and with no more than a beginning, when %s',
    { timeout },
    async (_, cut) => {
      const content = readFileSync(big);
      const sha = (bytes: number) => createHash('sha256').update(content.subarray(0, bytes)).digest('hex');
      let failed = 0;
      for (let round = 0; round < rounds; round++) {
        const name = `copy-${random.integer(0, 1e9)}`;
        const copying = far.run('scp', ['-q', big, `lab.causeway:${name}`]);
        await sleep(random.integer(300, 1_500));
        await cut();
        const late = sleep(endMs, undefined, { ref: false });
        const ended = await Promise.race([copying, late]);
        expect(ended, `it was not told within ${endMs} ms`).toBeDefined();
        const kept = await remote(name);
        if (ended!.status === 0) expect(kept).toEqual({ bytes: content.byteLength, sha: sha(content.byteLength) });
        else {
          failed += 1;
          expect(ended!.stderr).not.toBe('');
          if (kept) expect(kept.sha).toBe(sha(kept.bytes));
        }
      }
      expect(failed).toBeGreaterThan(0);
      expect(await far.run('scp', ['-q', big, 'lab.causeway:again'])).toMatchObject({ status: 0, stderr: '' });
      await isWhole('again');
    },
  );

  it('goes on when the engine is killed: nothing of it goes through that', { timeout }, async () => {
    const copying = far.run('scp', ['-q', big, 'lab.causeway:engine']);
    await sleep(500);
    await stack.agents[0]!.engine.kill9();
    expect(await copying).toMatchObject({ status: 0, stderr: '' });
    await stack.agents[0]!.engine.restart();
    await isWhole('engine');
  });
});

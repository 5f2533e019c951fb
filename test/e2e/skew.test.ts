/** Edge and agent of neighbouring versions of the protocol, both ways round: deploys and upgrades overlap. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../schema/protocol/limits.ts';
import { Cli } from '../support/cli.ts';
import { busyboxImage } from '../support/images.ts';
import { makeNextCheckout, nextVersion } from '../support/next-checkout.ts';
import { startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

describe.runIf(tier === 'full')('a version of the protocol and the one before it', () => {
  let folder: TmpDir;
  let next: string;
  beforeAll(() => {
    folder = tmpDir('skw');
    next = makeNextCheckout(newFolder('next'));
  });
  afterAll(() => folder.remove());

  function newFolder(name: string): string {
    const path = join(folder.path, name);
    mkdirSync(path);
    return path;
  }

  it.each([
    ['an edge of the next version with an agent of this one', { edge: true, agentVersion: limits.version }],
    ['an edge of this version with an agent of the next one', { edge: false, agentVersion: nextVersion }],
  ])('work together: %s', async (_, { edge, agentVersion }) => {
    await using stack = await startStack(edge ? { edgeCheckout: next } : { agentCheckout: next });
    const cli = new Cli(stack.url, stack.client.token!, stack.dir);
    const must = async (args: string[], input?: string) => {
      const ran = await cli.run(args, input);
      expect(ran, ran.stderr).toMatchObject({ status: 0 });
      return ran.stdout;
    };
    expect(await must(['run', '-q', '--image', busyboxImage, '--', 'cat'], 'there and back\n')).toBe(
      'there and back\n',
    );
    const loop = 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done';
    await must(['run', '-d', '--name', 'counter', '--image', busyboxImage, '--', 'sh', '-c', loop]);
    const counted = async () => (await must(['logs', 'counter'])).trim().split('\n');
    await until(async () => (await counted()).length > 5, { what: 'the counter to count' });
    const [agent] = stack.agents;
    const shown = JSON.parse(await must(['agent', 'show', agent!.name, '--json'])) as object;
    expect(shown).toMatchObject({ state: 'connected', diagnosis: { protocolVersion: agentVersion } });
    expect(await must(['exec', 'counter', '--', 'echo', 'beside it'])).toBe('beside it\n');
    await must(['cp', join(import.meta.dirname, 'skew.test.ts'), 'counter:']);
    expect(await must(['exec', 'counter', '--', 'head', '-c', '3', 'skew.test.ts'])).toBe('/**');
    // Both begin anew and find each other, and the container, again.
    await agent!.restart();
    await stack.edge.restart();
    const before = (await counted()).length;
    await until(async () => (await counted()).length > before, { what: 'the counter to count on', timeoutMs: 60_000 });
    const all = await counted();
    expect(all).toEqual(all.map((_line, n) => String(n)));
    await must(['stop', 'counter']);
  });

  it('say which versions they speak where none of them is the same', async () => {
    const later = makeNextCheckout(newFolder('later'), nextVersion);
    await using stack = await startStack({ agents: 0, edgeCheckout: later });
    const agent = await stack.newAgent();
    await agent.process.line(({ text }) => text.includes('agent_version_unsupported'), { timeoutMs: 60_000 });
    expect(agent.process.output()).not.toContain('"connected"');
  });
});

/** `agent token create --wait` for a machine that joins and never connects. */
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Enrolled } from '../../schema/api/agent.ts';
import { Cli } from '../support/cli.ts';
import { HomeEdge } from '../support/home-edge.ts';
import { tmpDir } from '../support/tmp.ts';

const host = { hostname: 'lost', os: 'Debian 13', kernel: '6.12', arch: 'x86_64', engine: 'docker 26' };

it('ends its wait for a machine that was shut out before it connected, and says so', { timeout: 120_000 }, async () => {
  using folder = tmpDir('jw');
  await using edge = new HomeEdge(join(folder.path, 'home'));
  await edge.start();
  const cli = new Cli(edge.url, edge.client.token ?? '', folder.path);
  const watching = cli.start(['agent', 'token', 'create', '--wait'], '');
  await watching.says(/cwj_\w+/);
  const token = /cwj_\w+/.exec(watching.seen.stdout)?.[0];
  const publicKey = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x;
  const capacity = { cpu: 1000, mem: 1024 ** 3 };
  const body = { token, publicKey, name: 'lost', capacity, host, agentVersion: '0.1.0' };
  const { agentId } = (await edge.client.api('POST', '/agent/v1/enrol', body, { token: null })) as Enrolled;
  await watching.says(/registering/, 'stderr');
  await edge.client.api('DELETE', `/v1/agents/${agentId}`);
  const { status, stderr } = await watching.done;
  expect(stderr).toMatch(/lost has joined, and does not connect: it is revoked\n +try: causeway agent show lost/);
  expect(status).toBe(1);
});

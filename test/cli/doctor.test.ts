/** `causeway doctor` reads the registries of the engine, and says what to do when none is set up. */
import { execFile } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type TmpDir, tmpDir } from '../support/tmp.ts';

const root = join(import.meta.dirname, '../..');
let dir: TmpDir;
let engine: Server;
let info: Record<string, unknown> = {};

beforeEach(async () => {
  dir = tmpDir('doc');
  engine = createServer((_, answer) => void answer.end(JSON.stringify(info)));
  await new Promise<void>((resolve) => engine.listen(join(dir.path, 'engine.sock'), resolve));
});
afterEach(() => {
  engine.close().closeAllConnections();
  dir.remove();
});

interface Finding {
  name: string;
  verdict: string;
  what: string;
  remedy?: string;
}

async function registry(registryConfig: object): Promise<Finding> {
  info = { ServerVersion: '26', LiveRestoreEnabled: true, CgroupVersion: '2', Driver: 'overlay2' };
  info['RegistryConfig'] = registryConfig;
  const env = { ...process.env, DOCKER_HOST: `unix://${join(dir.path, 'engine.sock')}`, CAUSEWAY_HOME: dir.path };
  const said = await new Promise<string>((resolve) => {
    execFile(process.execPath, [join(root, 'cli/index.ts'), 'doctor', '--json'], { env }, (_, stdout) =>
      resolve(stdout),
    );
  });
  const { findings } = JSON.parse(said) as { findings: Finding[] };
  return findings.find(({ name }) => name === 'registry')!;
}

it('names the mirrors and the registries without TLS that the engine is set up for', async () => {
  const index = { 'docker.io': { Secure: true }, 'hub.local:5000': { Secure: false } };
  const found = await registry({ Mirrors: ['https://mirror.local/'], IndexConfigs: index });
  expect(found).toMatchObject({ verdict: 'ok' });
  expect(found.what).toBe('the engine is set up for https://mirror.local/, hub.local:5000');
});

it('says how to name or set up a registry where there is none', async () => {
  const found = await registry({ Mirrors: [], IndexConfigs: { 'docker.io': { Secure: true } } });
  // A machine on the open internet reaches the default one.
  if (found.verdict === 'ok') expect(found.what).toBe('registry-1.docker.io can be reached');
  else expect(found.remedy).toMatch(/--image HOST:PORT\/NAME:TAG.*registry-mirrors.*daemon\.json.*docker load/);
});

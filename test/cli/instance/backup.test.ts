/** A control plane in one file and back: what is kept, what is refused, and that nothing is lost on the way. */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { expect, it, vi } from 'vitest';
import { openHome } from '../../../cli/instance/home.ts';
import { upgradeHome } from '../../../cli/instance/upgrade.ts';
import { lineReport } from '../../../cli/instance/report.ts';
import { HomeEdge } from '../../support/home-edge.ts';
import { type Exit, start } from '../../support/process.ts';
import { tier } from '../../support/tier.ts';
import { tmpDir } from '../../support/tmp.ts';

// Each starts several edges, one after the other.
vi.setConfig({ testTimeout: 300_000 });

const cli = join(import.meta.dirname, '../../../cli/index.ts');

async function causeway(home: string, args: string[]): Promise<Exit & { stdout: string; stderr: string }> {
  const command = start(process.execPath, [cli, ...args], { env: { CAUSEWAY_HOME: home } });
  const exit = await command.exited;
  const textOf = (from: string) => command.lines.filter((line) => line.from === from).map((line) => line.text);
  return { ...exit, stdout: textOf('stdout').join('\n'), stderr: textOf('stderr').join('\n') };
}

const batch = { image: 'busybox', command: ['true'], type: 'batch' };

it('comes back on another machine with its accounts, its sessions that wait, and its identity', async () => {
  using folder = tmpDir('bak');
  const file = join(folder.path, 'yesterday');
  const [killed, other] = [join(folder.path, '.unfinished-backup-a'), join(folder.path, '.unfinished-backup-b')];
  for (const each of [killed, other]) mkdirSync(each);
  utimesSync(killed, 1, 1);
  await using one = new HomeEdge(join(folder.path, 'one'));
  await one.start();
  const waiting = await one.client.createSession({ ...batch, name: 'waits' } as never);
  const made = await causeway(one.path, ['backup', file, '--json']);
  expect(made, made.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(made.stdout)).toMatchObject({ file, parts: expect.any(Number), instance: expect.any(String) });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  // What a backup that was killed left goes; another that is at work stays.
  expect(readdirSync(folder.path).filter((name) => name.startsWith('.unf'))).toEqual(['.unfinished-backup-b']);
  await one.client.createSession({ ...batch, name: 'later' } as never);
  await one.stop();

  const two = join(folder.path, 'two');
  mkdirSync(join(two, '.restore-killed'), { recursive: true });
  const restored = await causeway(two, ['restore', file, '--yes']);
  expect(restored, restored.stderr).toMatchObject({ code: 0 });
  expect(existsSync(join(two, 'restore.json'))).toBe(false);
  expect(readdirSync(two).filter((name) => name.startsWith('.restore-'))).toEqual([]);
  expect(readFileSync(join(two, 'keys.json'))).toEqual(readFileSync(join(one.path, 'keys.json')));
  await using back = new HomeEdge(two);
  back.client.token = one.client.token;
  await back.start();
  expect((await back.client.sessions()).map(({ name }) => name)).toEqual(['waits']);
  expect(await back.client.session(waiting.id)).toMatchObject({ name: 'waits', state: 'PENDING' });
  const again = await back.client.createSession({ ...batch, name: 'later' } as never);
  expect(again.state).toBe('PENDING');
});

it('refuses what is damaged, of another instance, of a newer release, or to be put over what runs', async () => {
  using folder = tmpDir('bak');
  await using one = new HomeEdge(join(folder.path, 'one'));
  await one.start();
  await one.stop();
  const [file] = [join(folder.path, 'good')];
  expect(await causeway(one.path, ['backup', file])).toMatchObject({ code: 0, stdout: file });
  const before = readdirSync(one.path).sort();
  const refused = async (home: string, text: RegExp) => {
    const tried = await causeway(home, ['restore', join(folder.path, 'bad'), '--yes']);
    expect(tried.code).toBe(1);
    expect(tried.stderr).toMatch(text);
  };
  const spoil = (change: (tar: Buffer) => Buffer) =>
    writeFileSync(join(folder.path, 'bad'), gzipSync(change(gunzipSync(readFileSync(file)))));

  spoil((tar) => tar.subarray(0, tar.length / 2));
  await refused(one.path, /no whole backup/);
  spoil((tar) => Buffer.from(tar.toString('latin1').replace('CREATE TABLE', 'CREATE TABEL'), 'latin1'));
  await refused(one.path, /is not what its manifest says/);
  spoil((tar) => Buffer.from(tar.toString('latin1').replace(/"release": "0/, '"release": "9'), 'latin1'));
  await refused(one.path, /newer release/);
  spoil((tar) => Buffer.from(tar.toString('latin1').replace('"format": 1', '"format": 2'), 'latin1'));
  await refused(one.path, /format 2/);
  writeFileSync(join(folder.path, 'bad'), 'not a backup');
  await refused(one.path, /no whole backup/);

  const other = openHome(join(folder.path, 'other'));
  writeFileSync(join(folder.path, 'bad'), readFileSync(file));
  await refused(other.path, /is of instance/);
  expect(readdirSync(one.path).sort()).toEqual(before);
  expect(await causeway(one.path, ['restore', file])).toMatchObject({ code: 2 });
});

it('lets nobody in again who was shut out after the backup, also where the former state is gone', async () => {
  using folder = tmpDir('bak');
  const file = join(folder.path, 'yesterday');
  await using edge = new HomeEdge(join(folder.path, 'home'));
  await edge.start();
  const { client } = edge;
  const newToken = async () => (await client.api('POST', '/v1/tokens', { name: 'x' })) as { id: string; token: string };
  const statusOf = async (token: string) => (await client.call('GET', '/v1/whoami', undefined, { token })).status;
  const [kept, lost, later] = [await newToken(), await newToken(), await newToken()];
  expect((await causeway(edge.path, ['backup', file])).code).toBe(0);
  await client.api('DELETE', `/v1/tokens/${lost.id}`);
  await edge.stop();
  expect((await causeway(edge.path, ['restore', file, '--yes'])).stdout).toContain('shut out again: 1 tokens');
  await edge.start();
  expect([await statusOf(kept.token), await statusOf(lost.token)]).toEqual([200, 401]);

  if (tier !== 'full') return;
  await client.api('DELETE', `/v1/tokens/${later.id}`);
  await edge.stop();
  rmSync(join(edge.path, 'edge', 'd1'), { recursive: true });
  expect((await causeway(edge.path, ['restore', file, '--yes'])).stdout).toContain('shut out again: 2 tokens');
  await edge.start();
  const statuses = [await statusOf(kept.token), await statusOf(lost.token), await statusOf(later.token)];
  expect(statuses).toEqual([200, 401, 401]);
});

it('copies a home of an older release before it is brought up to date, and leaves one of a newer release alone', async () => {
  using folder = tmpDir('bak');
  await using edge = new HomeEdge(join(folder.path, 'home'));
  await edge.start();
  await edge.stop();
  const said: string[] = [];
  const versionFile = join(edge.path, 'version.json');
  const before = () => readdirSync(join(edge.path, 'backups')).filter((name) => name.startsWith('before-upgrade'));
  await upgradeHome(
    edge.path,
    lineReport((line) => void said.push(line)),
  );
  expect(said.join('\n')).toMatch(/older release.*copied first[^]*to go back: causeway restore .*before-upgrade/);
  await upgradeHome(
    edge.path,
    lineReport((line) => void said.push(line)),
  );
  expect(before()).toHaveLength(1);

  const version = JSON.parse(readFileSync(versionFile, 'utf8')) as { migrations: string[] };
  writeFileSync(versionFile, JSON.stringify({ ...version, migrations: [...version.migrations, '9999_later.sql'] }));
  const files = readdirSync(edge.path).sort();
  for (const args of [['up'], ['admin', 'recover', '--snapshot', '2026-11-24T10:00:00Z']]) {
    const refused = await causeway(edge.path, args);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(/newer release than this checkout: .*9999_later[^]*causeway restore/);
    expect(readdirSync(edge.path).sort()).toEqual(files);
  }
  const back = await causeway(edge.path, ['restore', join(edge.path, 'backups', before()[0] ?? ''), '--yes']);
  expect(back, back.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(readFileSync(versionFile, 'utf8'))).toEqual(version);
});

it('copies a home of an older release also before files are recovered in it, and leaves one with a cut restore alone', async () => {
  using folder = tmpDir('bak');
  await using edge = new HomeEdge(join(folder.path, 'home'));
  await edge.start();
  await edge.stop();
  const recover = ['admin', 'recover', '--snapshot', new Date().toISOString(), '--json'];
  const mark = join(edge.path, 'restore.json');
  writeFileSync(mark, JSON.stringify({ phase: 'in', aside: 'state.before-restore-20261124T162810Z' }));
  expect(await causeway(edge.path, recover)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('was cut before its end') as string,
  });
  rmSync(mark);
  const recovered = await causeway(edge.path, recover);
  expect(recovered, recovered.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(recovered.stdout)).toMatchObject({ dryRun: false });
  expect(recovered.stderr).toContain('older release');
  expect(readdirSync(join(edge.path, 'backups'))).toEqual([expect.stringMatching(/^before-upgrade-from-/)]);
  expect(existsSync(join(edge.path, 'version.json'))).toBe(true);
});

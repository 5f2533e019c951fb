/** Code of a tenant that wants out of its container, or to spoil it for others: denied, and only its own session suffers. */
import { existsSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { tier } from '../support/tier.ts';
import { TenantWorld } from './tenant-world.ts';

describe.runIf(tier === 'full')('under runc', () => {
  let world: TenantWorld;
  beforeAll(async () => {
    world = await TenantWorld.start();
  });
  afterAll(async () => {
    await world?.stop();
  });

  it('is denied every attempt of the kernel', async () => {
    const { stdout, stderr } = await world.inRogue('/home/work/tenant-probe');
    const attempts = stdout.trim().split('\n');
    expect(attempts.length, stderr).toBeGreaterThanOrEqual(60);
    expect(attempts.filter((line) => !/^[a-z0-9-]+ denied /.test(line))).toEqual([]);
    await world.unharmed();
  });

  it('reaches neither the host, nor a metadata service, nor another session', async () => {
    await world.cli.run(['exec', '-d', 'neighbour', '--', 'nc', '-lk', '-p', '7000', '-e', 'echo', 'hit']);
    const forbidden = await world.forbidden();
    const { stdout } = await world.inRogue('/home/work/tenant-probe', ...Object.values(forbidden));
    const reached = Object.entries(forbidden).filter(([, where]) => !stdout.includes(`${where} denied`));
    expect(
      reached.map(([what]) => what),
      stdout,
    ).toEqual([]);
    expect(world.hits()).toBe(0);
  });

  it.each([
    ['forks', 'f() { f | f & }; f; sleep 100000'],
    ['memory', 'while :; do tail -c 1000000000 /dev/zero; done'],
    [
      'descriptors',
      'n=0; while [ $n -lt 200 ]; do sh -c "exec sleep 100000" 3</dev/zero 4</dev/null & n=$((n+1)); done; wait',
    ],
    [
      'files of a tmpfs',
      'while :; do dd if=/dev/zero of=/tmp/x bs=1M; dd if=/dev/zero of=/dev/shm/x bs=1M; done 2>/dev/null',
    ],
    ['output', 'yes out & yes err >&2'],
    [
      'connections to the init',
      'while :; do for n in 1 2 3 4; do nc local:/causeway/run/agent.sock </dev/null & done; wait; done',
    ],
  ] as const)('harms only its own session by a flood of %s', async (what, script) => {
    const flood = `flood-of-${what.split(' ')[0]}`;
    await world.run(flood, ['sh', '-c', script]);
    await world.unharmed();
    await world.remove(flood);
    await world.unharmed();
  });

  it('gives nothing of the host away through links in a home, and changes nothing there', async () => {
    const { canary } = world;
    await world.inRogue('sh', '-c', `ln -s ${canary} canary; ln -s ${dirname(canary)} folder; ln -s / root`);
    const taken = join(dirname(canary), 'taken');
    await world.cli.run(['cp', 'rogue:canary', taken]);
    await world.cli.run(['cp', 'rogue:folder/canary', taken]);
    await world.cli.run(['cp', `rogue:root${canary}`, taken]);
    expect(readFiles(taken)).not.toContain(readFileSync(canary).toString('hex'));
    const put = join(dirname(canary), 'put');
    writeFileSync(put, 'overwritten');
    for (const to of ['canary', 'folder/canary', 'folder/planted', `root${canary}`])
      await world.cli.run(['cp', put, `rogue:${to}`]);
    expect(existsSync(join(dirname(canary), 'planted'))).toBe(false);
    await world.unharmed();
  });
});

/** What gVisor lets happen in the kernel of its own that the container has; none of it is the host's. */
const withinSandbox = ['unshare-user', 'clone-user', 'mknod-block', 'mknod-char', 'nice-above', 'init-environ'];
const hasGvisor = existsSync('/usr/bin/runsc');
if (tier === 'full' && !hasGvisor) console.log('skipped: gVisor is not installed (Debian package runsc)');

describe.runIf(tier === 'full' && hasGvisor)('under gVisor', () => {
  let world: TenantWorld;
  beforeAll(async () => {
    world = await TenantWorld.start({ gvisor: true });
  });
  afterAll(async () => {
    await world?.stop();
  });

  it('is denied every attempt on the host, and spoils at most its own sandbox', async () => {
    expect((await world.inRogue('cat', '/proc/version')).stdout).toMatch(/^Linux version 4\.4\.0 .*2016/); // as gVisor names itself
    const { stdout } = await world.inRogue('/home/work/tenant-probe');
    const attempts = stdout.trim().split('\n');
    expect(attempts.length).toBeGreaterThanOrEqual(60);
    const done = attempts.filter((line) => !/^[a-z0-9-]+ denied /.test(line)).map((line) => line.split(' ')[0]);
    expect(done.filter((name) => !withinSandbox.includes(name ?? ''))).toEqual([]);
    expect(world.hits()).toBe(0);
    await world.unharmed();
  });
});

/** Bytes in hex of a file, or of all files below a folder; links are not followed. */
function readFiles(path: string): string[] {
  const state = lstatSync(path, { throwIfNoEntry: false });
  if (state?.isFile()) return [readFileSync(path).toString('hex')];
  return state?.isDirectory() ? readdirSync(path).flatMap((name) => readFiles(join(path, name))) : [];
}

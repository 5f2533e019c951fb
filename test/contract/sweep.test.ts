import { existsSync, readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { start } from '../support/process.ts';
import { sweepAbandoned } from '../support/sweep.ts';
import { tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

it('removes the engine and the namespaces of a run that was killed', async () => {
  // Where no other test that runs meanwhile sweeps.
  using folder = tmpDir('swp');
  vi.stubEnv('TMPDIR', folder.path);
  const here = new URL('../support/', import.meta.url).pathname;
  const script = `
    const { startDockerd } = await import('${here}dockerd.ts');
    const { createNatHost } = await import('${here}netns.ts');
    const { importBusybox, busyboxImage } = await import('${here}images.ts');
    const host = await createNatHost();
    const { docker, socket } = await startDockerd({ netns: host.netns });
    await importBusybox(docker);
    const container = await docker.createContainer({ Image: busyboxImage, Cmd: ['sleep', '600'] });
    await container.start();
    const { Pid } = (await container.inspect()).State;
    console.log(JSON.stringify({ msg: 'ready', netns: host.netns, socket, Pid }));`;
  const run = start(process.execPath, ['--input-type=module', '--eval', script]);
  const { netns, socket, Pid } = await run.line('ready', { timeoutMs: 60_000 });
  await run.kill9();
  const root = String(socket).replace('/docker.sock', '');
  expect([existsSync(`/proc/${String(Pid)}`), existsSync(root), namespaces().includes(String(netns))]).toEqual([
    true,
    true,
    true,
  ]);

  await sweepAbandoned();

  await until(() => !existsSync(`/proc/${String(Pid)}`), { what: 'the container to be gone' });
  expect([existsSync(root), existsSync(`/run/netns/${String(netns)}`)]).toEqual([false, false]);
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(root);
});

function namespaces(): string {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes('/run/netns/'))
    .join('\n');
}

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { start } from '../support/process.ts';
import { keepPython } from '../support/python-image.ts';
import { until } from '../support/wait.ts';

const program = join(import.meta.dirname, '../../cli/instance/python-image/index.ts');
const home = mkdtempSync(join(tmpdir(), 'causeway-python-'));
const scratch = join(home, 'build');
let engine: Dockerd;

beforeAll(async () => {
  engine = await startDockerd();
});
afterAll(async () => {
  await engine.stop();
  rmSync(home, { recursive: true, force: true });
});

const build = () => start(process.execPath, [program, '--socket', engine.socket, '--scratch', scratch]);

/** Command lines that name the scratch folder or run inside it. */
function processesOfTheBuild(): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .flatMap((pid) => {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
        return environment.includes(`BUILD=${scratch}`) ? [readFileSync(`/proc/${pid}/cmdline`, 'utf8')] : [];
      } catch {
        return [];
      }
    });
}

it('leaves no image, no process and no mount when it is killed half-way', async () => {
  const cut = build();
  await until(() => cut.output().includes('"what":"downloading Python'), {
    what: 'the build to be half-way',
    timeoutMs: 120_000,
  });
  expect(processesOfTheBuild().length).toBeGreaterThan(0);
  await cut.kill9();
  await until(() => processesOfTheBuild().length === 0, { what: 'the processes of the build to end' });
  expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(scratch);
  expect(await engine.docker.listImages()).toEqual([]);
});

it('builds an image in which the user work trains a classifier, and builds nothing the second time', async () => {
  const first = build();
  expect(await first.exited, first.output()).toMatchObject({ code: 0 });
  expect(first.output()).toContain('"how":"built"');
  expect(readdirSync(home)).toEqual([]);

  const code = [
    'import os, ipykernel, numpy, sys',
    'from sklearn.datasets import load_digits; from sklearn.svm import SVC',
    'x, y = load_digits(return_X_y=True)',
    'print(os.getuid(), os.getcwd(), sys.version_info[:2], SVC().fit(x[:900], y[:900]).score(x[900:], y[900:]) > 0.9)',
  ].join('\n');
  const out = new PassThrough();
  const said = text(out);
  const [result] = (await engine.docker.run('causeway/python', ['python3', '-c', code], out, {
    HostConfig: { NetworkMode: 'none', AutoRemove: true },
  })) as [{ StatusCode: number }];
  out.end();
  expect(await said).toBe('1000 /home/work (3, 13) True\r\n');
  expect(result.StatusCode).toBe(0);

  const second = build();
  await second.exited;
  expect(second.output()).toContain('"how":"present"');
  await keepPython(engine.docker);
}, 300_000);

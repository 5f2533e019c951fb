/** Brings `causeway/python` beside everything else: a process of low priority that the supervisor may leave at any time. */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import type { LogFile } from './log-file.ts';
import { hasPythonImage } from './python-image/ensure.ts';
import type { ImageState } from './state.ts';

export type ImageJob = {
  socket: string;
  scratch: string;
  pullFrom: string | undefined;
  log: LogFile;
  onChange: (state: ImageState) => void;
};

/** Folder of the lock by which the instances of a machine build one after the other; building needs root. */
const LOCKS = '/run/causeway';

/** Resolves with `ready` or `failed`; never rejects. */
export async function bringImage(job: ImageJob): Promise<ImageState> {
  let last: ImageState = { state: 'checking', percent: 0, what: 'looking for it' };
  const become = (state: ImageState) => {
    last = state;
    job.onChange(state);
  };
  become(last);
  try {
    if (await hasPythonImage(job.socket, job.pullFrom)) become({ state: 'ready', percent: 100, what: 'present' });
    else await build(job, become);
  } catch (error) {
    become({ state: 'failed', percent: last.percent, what: error instanceof Error ? error.message : String(error) });
  }
  return last;
}

async function build(job: ImageJob, become: (state: ImageState) => void): Promise<void> {
  const program = join(import.meta.dirname, 'python-image/index.ts');
  const pull = job.pullFrom === undefined ? [] : ['--pull', job.pullFrom];
  const child = spawn(
    'setpriv',
    // The lock comes first: whoever waits for it finds the image present afterwards.
    [
      '--pdeathsig',
      'KILL',
      'nice',
      '-n',
      '10',
      ...lockCommand(),
      process.execPath,
      program,
      '--socket',
      job.socket,
      '--scratch',
      job.scratch,
      ...pull,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  );
  let failure = 'the build ended without a word';
  become({ state: 'building', percent: 0, what: 'starting' });
  createInterface({ input: child.stderr }).on('line', (text) => job.log.write(text));
  createInterface({ input: child.stdout }).on('line', (text) => {
    job.log.write(text);
    const line = JSON.parse(text) as { msg: string; percent?: number; what?: string; how?: string; error?: string };
    if (line.msg === 'progress') become({ state: 'building', percent: line.percent ?? 0, what: line.what ?? '' });
    if (line.msg === 'done') become({ state: 'ready', percent: 100, what: line.how ?? 'built' });
    if (line.msg === 'failed') failure = line.error ?? failure;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(failure);
}

function lockCommand(): string[] {
  if (process.getuid?.() !== 0) return [];
  mkdirSync(LOCKS, { recursive: true, mode: 0o755 });
  return ['flock', '--no-fork', join(LOCKS, 'python-image.lock')];
}

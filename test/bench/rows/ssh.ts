/** OpenSSH into a session, beside OpenSSH to an sshd. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cli } from '../../support/cli.ts';
import { type Started, runToEnd, start } from '../../support/process.ts';
import { until } from '../../support/wait.ts';
import type { BenchContext } from '../context.ts';
import { startSshd } from '../peers/ssh.ts';
import { type Row, median } from '../row.ts';
import { endSessions, startSession } from '../subjects/session.ts';

const execsPerRound = 10;
/** A gibibyte takes long; more for a table that is to be kept: CAUSEWAY_BENCH_SCP_MIB=1024. */
const fileMiB = Number(process.env['CAUSEWAY_BENCH_SCP_MIB'] ?? 256);
const peer = 'OpenSSH to an sshd on the same machine, without a container';

/** OpenSSH on one way: its options, where it leads, and where files lie there. */
interface Way {
  args: readonly string[];
  destination: string;
  folder: string;
  env: Record<string, string>;
}

interface Ways {
  ours: Way;
  theirs: Way;
  /** For files here. */
  dir: string;
}

export const rows: Row[] = [
  {
    name: 'ssh-exec',
    title: '`ssh SESSION true`, cold: from the start of ssh to its end',
    peer,
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 3 },
    setup: (context) =>
      job(context, ({ ours, theirs }) =>
        Promise.resolve({
          round: async () => ({ subject: await execTime(ours), peer: await execTime(theirs) }),
        }),
      ),
  },
  {
    name: 'ssh-exec-master',
    title: '`ssh SESSION true` over a ControlMaster that is there',
    peer,
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.3 },
    setup: (context) =>
      job(context, async ({ ours, theirs, dir }) => {
        const masters = [await startMaster(ours, join(dir, 'ctl-a')), await startMaster(theirs, join(dir, 'ctl-b'))];
        const [mine, other] = masters;
        return {
          round: async () => ({ subject: await execTime(mine!.way), peer: await execTime(other!.way) }),
          teardown: async () => {
            for (const { process: master } of masters) await master.kill9();
          },
        };
      }),
  },
  ...(['in', 'out'] as const).map((direction): Row => ({
    name: `scp-${direction}`,
    title: `scp of ${fileMiB} MiB ${direction === 'in' ? 'into' : 'out of'} a session, SHA-256 equal`,
    peer,
    unit: 'MB/s',
    goal: { kind: 'ratio', atLeast: 0.3 },
    setup: (context) =>
      job(context, async ({ ours, theirs, dir }) => {
        const file = join(dir, 'file.bin');
        writeFileSync(file, randomBytes(fileMiB * 1024 ** 2));
        const wanted = sha(file);
        for (const way of [ours, theirs]) await copy(way, file, `${way.destination}:${way.folder}/copy.bin`);
        const rate = direction === 'in' ? copyIn : copyOut;
        return {
          round: async () => ({ subject: await rate(ours, file, wanted), peer: await rate(theirs, file, wanted) }),
          teardown: () => Promise.resolve(rmSync(file)),
        };
      }),
  })),
];

interface Job {
  round: () => Promise<{ subject: number; peer: number }>;
  teardown?: () => Promise<void>;
}

async function job(context: BenchContext, prepare: (ways: Ways) => Promise<Job>): Promise<Job> {
  const stack = await context.stack();
  const sshd = await startSshd();
  const { id } = await startSession(stack, { name: 'ssh-bench', resources: { cpu: 1, mem: '512m' } });
  const config = join(sshd.dir, 'ssh_config');
  const token = stack.client.token!;
  const { status, stderr } = await new Cli(stack.url, token, sshd.dir).run(['ssh-config', '--file', config]);
  if (status !== 0) throw new Error(stderr);
  const env = { CAUSEWAY_URL: stack.url, CAUSEWAY_TOKEN: token, XDG_CONFIG_HOME: join(sshd.dir, 'config') };
  const ours: Way = { args: ['-F', config], destination: 'ssh-bench.causeway', folder: '.', env };
  const theirs: Way = { args: sshd.args, destination: sshd.destination, folder: sshd.dir, env: {} };
  const { round, teardown } = await prepare({ ours, theirs, dir: sshd.dir });
  return {
    round,
    teardown: async () => {
      await teardown?.();
      await sshd.stop();
      await endSessions(stack, [id]);
    },
  };
}

/** Median of some, in ms. */
async function execTime({ args, destination, env }: Way): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < execsPerRound; n++) {
    const startedMs = performance.now();
    await runToEnd('ssh', [...args, destination, 'true'], { env });
    times.push(performance.now() - startedMs);
  }
  return median(times)!;
}

/** A connection that others share; the way over it. */
async function startMaster(way: Way, path: string): Promise<{ way: Way; process: Started }> {
  const process = start('ssh', [...way.args, '-M', '-S', path, '-N', way.destination], { env: way.env });
  await until(() => existsSync(path), {
    what: 'the shared connection',
    giveUp: () => (process.exit === undefined ? undefined : process.output()),
  });
  return { way: { ...way, args: [...way.args, '-S', path] }, process };
}

async function copy({ args, env }: Way, from: string, to: string): Promise<number> {
  const startedMs = performance.now();
  await runToEnd('scp', ['-q', ...args, from, to], { env });
  return (fileMiB * 1024 ** 2) / 1e3 / (performance.now() - startedMs);
}

/** MB/s. */
async function copyIn(way: Way, file: string, wanted: string): Promise<number> {
  const far = `${way.folder}/copy.bin`;
  const rate = await copy(way, file, `${way.destination}:${far}`);
  const said = await runToEnd('ssh', [...way.args, way.destination, `sha256sum ${far}`], { env: way.env });
  if (!said.includes(wanted)) throw new Error(`SHA-256 differs: ${said}`);
  return rate;
}

/** MB/s. */
async function copyOut(way: Way, file: string, wanted: string): Promise<number> {
  const back = `${file}.back`;
  const rate = await copy(way, `${way.destination}:${way.folder}/copy.bin`, back);
  if (sha(back) !== wanted) throw new Error('SHA-256 differs');
  rmSync(back);
  return rate;
}

function sha(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

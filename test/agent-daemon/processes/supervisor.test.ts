/** Processes of a session over the death of its agent, on a real init. */
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { recordOf } from '../../../agent-daemon/sessions/main-process.ts';
import { derivedProcessId } from '../../../agent-daemon/processes/derived-id.ts';
import { MergedReader } from '../../../agent-daemon/output/merged-reader.ts';
import { until } from '../../support/wait.ts';
import { InitBench } from '../init-bench.ts';
import { kernelSpec, sessionId } from '../support.ts';

class Bench extends InitBench {
  protected begin(): Promise<void> {
    return Promise.resolve();
  }
  protected end(): Promise<void> {
    return Promise.resolve();
  }
}

it('[I21] output goes on after an agent died that had stored a whole ring of it and could not say so', async () => {
  const bench = await new Bench('supervisor').start();
  try {
    const argv = ['seq', '1', '2000000'];
    const processId = derivedProcessId('seq');
    const spawn = {
      processId,
      argv,
      env: { PATH: '/usr/bin:/bin' },
      cwd: '/',
      stdin: 'null' as const,
      output: { onFull: 'block' as const, blockMs: 600_000 },
    };
    const { link } = bench.supervisor;
    link.ack = () => undefined;
    const spool = await bench.supervisor.spawn(spawn, recordOf(spawn, kernelSpec().output, Date.now()));
    const log = spool.log('stdout');
    let before = -1;
    await until(
      () => {
        const isStill = log.end > 0 && log.end === before;
        before = log.end;
        return isStill;
      },
      { what: 'the ring to be full of what is stored', everyMs: 500 },
    );
    await bench.restart();
    const ref = { sessionId, generation: 1, processId };
    const kept = await until(
      async () => {
        const read = await bench.spools.read(ref);
        if (read?.spool.record.exit !== undefined) return read;
        await read?.done();
        return undefined;
      },
      { what: 'the end of the process', timeoutMs: 30_000 },
    );
    const reader = new MergedReader(kept.spool, { stdout: 0, stderr: 0 }, { live: false });
    const hash = createHash('sha256');
    for (let item = await reader.next(); item !== undefined; item = await reader.next())
      hash.update(item.kind === 'bytes' ? item.bytes : 'a gap');
    await reader.close();
    await kept.done();
    const { stdout } = spawnSync(argv[0]!, argv.slice(1), { maxBuffer: 1e9 });
    expect(hash.digest('hex')).toBe(createHash('sha256').update(stdout).digest('hex'));
  } finally {
    await bench.stop();
  }
}, 60_000);

it('[S9] tells nobody how a process stands who leaves before its init was heard', async () => {
  const bench = await new Bench('known').start();
  const { link } = bench.supervisor;
  const ready = Promise.withResolvers<void>();
  link.ready = () => ready.promise;
  try {
    const gone = new AbortController();
    const asked = bench.supervisor.whenKnown(derivedProcessId('any'), gone.signal);
    gone.abort();
    await expect(asked).rejects.toMatchObject({ code: 'session_not_running' });
    const stays = bench.supervisor.whenKnown(derivedProcessId('any'), new AbortController().signal);
    ready.resolve();
    await stays;
  } finally {
    await bench.stop();
  }
});

it('keeps nothing of who asked how a process stands: that is asked for each key that is typed', async () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const bench = await new Bench('asked').start();
  const { signal } = new AbortController();
  // What was let go of is collected by turns.
  const heapBytes = async () => {
    for (let turn = 0; turn < 5; turn++) {
      collect();
      await new Promise((resolve) => void setImmediate(resolve));
    }
    return process.memoryUsage().heapUsed;
  };
  const ask = async (times: number) => {
    for (let n = 0; n < times; n++) await bench.supervisor.whenKnown(derivedProcessId('any'), signal);
  };
  try {
    await ask(1_000);
    const before = await heapBytes();
    await ask(20_000);
    expect((await heapBytes()) - before).toBeLessThan(5 * 1024 * 1024);
  } finally {
    await bench.stop();
  }
});

it('knows that there are no processes any more, whoever asks when', async () => {
  const bench = await new Bench('gone').start();
  try {
    const { link } = bench.supervisor;
    link.ready = () => Promise.reject(new Error('closed out of contact'));
    await bench.supervisor.close();
    await bench.supervisor.whenKnown(derivedProcessId('any'), new AbortController().signal);
  } finally {
    await bench.restart();
    await bench.stop();
  }
});

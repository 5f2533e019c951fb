import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { until } from '../../support/wait.ts';
import { shell, TestSession } from './harness.ts';

const count = 1000;

it(
  '[I10] [I14] [I20] holds 1,000 processes at a time, all of which talk, over a change of the agent',
  { timeout: 240_000 },
  async () => {
    await using session = await new TestSession({ asPidOne: true }).start();
    const specs = Array.from({ length: count }, (_, i) =>
      shell(`echo "${i} born"; read word; echo "${i} $word"; exit $((${i} % 200))`, { stdin: 'open' }),
    );
    await Promise.all(specs.map((spec) => session.link.spawn(spec)));
    await until(() => specs.every((spec) => session.record.text(spec.processId).includes('born')), {
      what: 'all births',
    });
    await session.replaceAgent();
    expect(session.record.lists.at(-1)).toHaveLength(count);
    await Promise.all(specs.map((spec) => session.link.writeStdin(spec.processId, 0, Buffer.from('dies\n'))));
    await Promise.all(specs.map((spec) => session.finished(spec.processId)));
    for (const [i, spec] of specs.entries()) {
      expect(session.record.text(spec.processId)).toBe(`${i} born\n${i} dies\n`);
      expect(session.record.exits.get(spec.processId)).toMatchObject({ kind: 'code', value: i % 200 });
    }
    await Promise.all(specs.map((spec) => session.link.release(spec.processId)));
    const pid = session.initPid;
    expect(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')).toBe('');
  },
);

it('[I12] refuses what the kernel has no descriptors for, and goes on when there are some again', async () => {
  await using session = await new TestSession({ prefix: ['prlimit', '--nofile=40'] }).start();
  const specs = Array.from({ length: 30 }, () => shell('read word', { stdin: 'open' }));
  const born = await Promise.allSettled(specs.map((spec) => session.link.spawn(spec)));
  const living = specs.filter((_, i) => born[i]?.status === 'fulfilled');
  expect(living.length).toBeGreaterThan(3);
  expect(born.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { refusal: 'resources', message: expect.stringMatching(/No file descriptors available/) },
  });
  for (const spec of living) {
    await session.link.closeStdin(spec.processId);
    await session.finished(spec.processId);
    await session.link.release(spec.processId);
  }
  expect((await session.run(shell('echo again'))).out).toBe('again\n');
});

it('[I10] keeps at most 4,096 processes', { timeout: 240_000 }, async () => {
  await using session = await new TestSession({ asPidOne: true }).start();
  const specs = Array.from({ length: 4096 }, () => shell('', { argv: ['/nowhere'] }));
  await Promise.all(specs.map((spec) => session.link.spawn(spec)));
  await expect(session.link.spawn(shell('true'))).rejects.toMatchObject({ refusal: 'limit' });
  await until(() => session.record.exits.size === 4096, { what: 'all ends' });
  await session.replaceAgent();
  expect(session.record.lists.at(-1)).toHaveLength(4096);
  await Promise.all(specs.map((spec) => session.link.release(spec.processId)));
  expect((await session.run(shell('echo again'))).out).toBe('again\n');
});

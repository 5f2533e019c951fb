import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { socketName, type SessionKey } from '../../../agent-daemon/init/session-key.ts';
import { start } from '../../support/process.ts';
import { tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { initBinary, shell, TestSession } from './harness.ts';
import { clock, timers } from './ports.ts';

/** An agent that dies at a step of the first contact; the one that follows has what was stored by then. */
async function dieWhileSaving(session: TestSession, saved: (key: SessionKey) => boolean): Promise<void> {
  const died = Promise.withResolvers<void>();
  const link = session.openLink({
    saveSessionKey: async (key) => {
      if (saved(key)) session.key = key;
      if (saved(key) && !key.confirmed) return;
      died.resolve();
      await new Promise(() => {});
    },
  });
  await link.listen();
  session.child = start(initBinary, [`${session.dir}/agent.sock`], { name: 'init' });
  await died.promise;
  await link.close();
}

describe('the session key', () => {
  it('[I4] is made anew when the agent died before it was stored, since nobody has it', async () => {
    await using session = new TestSession();
    await dieWhileSaving(session, () => false);
    expect(session.key).toBeUndefined();
    session.openLink();
    await session.link.ready();
    expect(session.key).toMatchObject({ confirmed: true });
    expect((await session.run(shell('echo well'))).out).toBe('well\n');
  });

  it('[I4] is given again when the agent died before it was sent', async () => {
    await using session = new TestSession();
    session.key = { bytes: randomBytes(32), confirmed: false };
    const { bytes } = session.key;
    session.openLink();
    await session.start();
    expect(session.key).toEqual({ bytes, confirmed: true });
  });

  it('[I4] is proved instead when the agent died before it knew that the init has it', async () => {
    await using session = new TestSession();
    await dieWhileSaving(session, ({ confirmed }) => !confirmed);
    expect(session.key).toMatchObject({ confirmed: false });
    session.openLink();
    await session.link.listen();
    expect(existsSync(`${session.dir}/agent.sock`)).toBe(true);
    expect(existsSync(`${session.dir}/${socketName(session.key?.bytes ?? Buffer.alloc(32))}`)).toBe(true);
    await session.link.ready();
    expect(session.key).toMatchObject({ confirmed: true });
    expect((await session.run(shell('echo well'))).out).toBe('well\n');
  });

  it('[I4] [I5] is asked of an init that lost it, in vain', async () => {
    await using session = await new TestSession().start();
    const before = session.child;
    await session.link.shutdown(true).catch(() => {});
    await before?.exited;
    await session.link.close();
    const refused = Promise.withResolvers<unknown>();
    session.openLink({
      log: {
        debug: () => {},
        info: () => {},
        error: () => {},
        warn: (_, fields) => refused.resolve(fields?.['reason']),
      },
    });
    await session.link.listen();
    // It dials the public name, which nobody listens at; somebody who knows the other name gets no further.
    session.child = start(initBinary, [`${session.dir}/${socketName(session.key?.bytes ?? Buffer.alloc(32))}`]);
    expect(await refused.promise).toBe('an init without the key');
    await session.child.kill9();
  });
});

describe('contact', () => {
  it('[I8] is given up with an init that is silent for 30 s, and comes back', async () => {
    await using session = await new TestSession().start();
    // A hundred times faster than the clock on the wall.
    const fast = {
      clock: { ...clock, bootMs: () => clock.bootMs() * 100 },
      timers: { after: (delayMs: number, task: () => void) => timers.after(delayMs / 100, task) },
    };
    await session.replaceAgent(fast);
    session.signalInit('SIGSTOP');
    await until(() => session.record.disconnects > 0, { what: 'the link to give up' });
    session.signalInit('SIGCONT');
    await session.replaceAgent();
    expect((await session.run(shell('echo well'))).out).toBe('well\n');
  });

  it.runIf(tier === 'full')(
    '[I8] is given up with an agent that is silent for 30 s',
    { timeout: 120_000 },
    async () => {
      await using session = await new TestSession().start();
      await session.replaceAgent({
        timers: { after: (delayMs, task) => (delayMs === 10_000 ? () => {} : timers.after(delayMs, task)) },
      });
      await until(() => session.record.disconnects > 0, { what: 'the init to hang up', timeoutMs: 60_000 });
      await session.replaceAgent();
    },
  );

  it('[I8] comes about however long the agent was away', async () => {
    await using session = await new TestSession().start();
    await session.link.close();
    await new Promise((resolve) => setTimeout(resolve, 2500)); // beyond the longest pause between two calls
    session.openLink();
    await session.link.ready();
  });
});

import { env } from 'cloudflare:workers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { durably, failpointsOf } from '../../../edge/platform/failpoint.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** Another environment for each test: failpoints are made once for each. */
const armed = (failpoint: string): Env =>
  ({
    ...env,
    CAUSEWAY_FAILPOINT: failpoint,
    CAUSEWAY_FAILPOINT_URL: 'http://keeper.test/',
  }) as Env;
const answering = (text: string) =>
  vi.spyOn(globalThis, 'fetch').mockImplementation(() => Promise.resolve(new Response(text)));

describe('a failpoint', () => {
  it('does nothing when none is asked for, and none of another name', async () => {
    const keeper = answering('dying');
    for (const points of [
      failpointsOf(env),
      failpointsOf(armed('agents.revoke:before')),
      failpointsOf(armed('nonsense:before')),
    ])
      expect(await durably(points, 'agents.enrol', () => Promise.resolve(7))).toBe(7);
    expect(keeper).not.toHaveBeenCalled();
  });
  it('asks the keeper to kill the process, and goes no further', async () => {
    const keeper = answering('dying');
    let done = false;
    const step = durably(failpointsOf(armed('ledger.admit:before')), 'ledger.admit', () => {
      done = true;
      return Promise.resolve();
    });
    const ended = await Promise.race([step.then(() => 'ended'), scheduler.wait(50).then(() => 'waiting')]);
    expect([ended, done]).toEqual(['waiting', false]);
    expect(keeper).toHaveBeenCalledTimes(1);
  });
  it('goes on when it is spent: the process was killed here before', async () => {
    answering('spent');
    const points = failpointsOf(armed('ledger.place:after'));
    expect(await durably(points, 'ledger.place', () => Promise.resolve('done'))).toBe('done');
  });
  it('does the step and loses its answer, once', async () => {
    answering('dying');
    const points = failpointsOf(armed('ledger.event:unknown'));
    let done = 0;
    const step = () => durably(points, 'ledger.event', () => Promise.resolve(++done));
    await expect(step()).rejects.toThrow('unknown');
    expect(await step()).toBe(2);
  });
});

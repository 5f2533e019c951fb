/** The small rooms of the agent's tunnel: leases, calls, reports, progress, back-off, identity, watchdog. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemDisk, systemRandom } from '../../../agent-daemon/platform.ts';
import { RuntimeError } from '../../../agent-daemon/runtime/runtime.ts';
import { Calls } from '../../../agent-daemon/tunnel/calls.ts';
import { fitImages } from '../../../agent-daemon/tunnel/hello.ts';
import { Identity } from '../../../agent-daemon/tunnel/identity.ts';
import { PingLeases } from '../../../agent-daemon/tunnel/leases.ts';
import { ProgressGate } from '../../../agent-daemon/tunnel/progress-gate.ts';
import { isReportDue } from '../../../agent-daemon/tunnel/reports.ts';
import { Watchdog } from '../../../agent-daemon/tunnel/watchdog.ts';
import { newId } from '../../../schema/ids.ts';
import { backoffMs, Redial } from '../../../schema/protocol/backoff.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { Report } from '../../../schema/protocol/messages.ts';
import { tmpDir } from '../../support/tmp.ts';
import { keptLog, noFailpoints } from '../ports.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

const callId = (n: number) => newId('call', n, new Uint8Array(10));

describe('leases', () => {
  it('[M6] the start lease holds for 60 s from the sending of the answered ping, not from its answer', () => {
    const time = new VirtualTime();
    const leases = new PingLeases(time);
    expect(leases.startHeld()).toBe(false);
    const sentAtMs = time.bootMs();
    time.advance(20_000);
    leases.renew(sentAtMs);
    expect(leases.runRemainingMs(600_000)).toBe(580_000);
    time.advance(39_999);
    expect(leases.startHeld()).toBe(true);
    time.advance(1);
    expect(leases.startHeld()).toBe(false);
    time.advance(600_000);
    expect(leases.runRemainingMs(600_000)).toBe(0);
  });

  it('[M6] who waits for the lease goes on at the next renewal, or gives up with its signal', async () => {
    const time = new VirtualTime();
    const leases = new PingLeases(time);
    let renewals = 0;
    const forget = leases.onRenew(() => void renewals++);
    const waiting = leases.whenStartHeld(new AbortController().signal);
    const impatient = new AbortController();
    const given = leases.whenStartHeld(impatient.signal);
    impatient.abort(new Error('superseded'));
    await expect(given).rejects.toThrow('superseded');
    leases.renew(time.bootMs());
    await waiting;
    forget();
    leases.renew(time.bootMs());
    expect(renewals).toBe(1);
    await leases.whenStartHeld(new AbortController().signal);
  });
});

describe('calls', () => {
  function calls(echo: (input: { text: string }) => Promise<{ text: string }>) {
    const time = new VirtualTime();
    const log = keptLog();
    const refuse = () => Promise.reject(new Error('not in this test'));
    return {
      time,
      log,
      calls: new Calls(
        {
          echo,
          processes: () => Promise.resolve({ processes: [] }),
          kernels: refuse,
          kernel: refuse,
          kernelspecs: refuse,
          terminals: refuse,
          terminal: refuse,
          upgrade: refuse,
          describe: refuse,
          upgradeState: refuse,
        },
        { clock: time, timers: time, log },
      ),
    };
  }
  const call = (id: number, op = 'echo', input: unknown = { text: 'x' }) => ({
    type: 'call' as const,
    callId: callId(id),
    op,
    deadlineMs: 1000,
    input,
  });

  it('[M8] a repeated callId gets the first answer, and runs nothing twice', async () => {
    let runs = 0;
    const subject = calls(({ text }) => Promise.resolve({ text: `${text}${++runs}` }));
    const first = await subject.calls.answer(call(1));
    expect(first).toEqual({ type: 'reply', callId: callId(1), ok: true, result: { text: 'x1' } });
    expect(await subject.calls.answer(call(1))).toEqual(first);
    subject.time.advance(300_001);
    expect(await subject.calls.answer(call(1))).toMatchObject({ result: { text: 'x2' } });
  });

  it('[M8] remembers at most 1,024 answers', async () => {
    let runs = 0;
    const subject = calls(({ text }) => Promise.resolve({ text: `${text}${++runs}` }));
    for (let n = 0; n < 1100; n++) await subject.calls.answer(call(n));
    await subject.calls.answer(call(1099));
    expect(runs).toBe(1100);
    await subject.calls.answer(call(0));
    expect(runs).toBe(1101);
  });

  it('[M8] answers tunnel_deadline when the time is over', async () => {
    const subject = calls(() => new Promise(() => {}));
    const answer = subject.calls.answer(call(1));
    subject.time.advance(1000);
    expect(await answer).toMatchObject({ ok: false, code: 'tunnel_deadline' });
  });

  it('refuses unknown operations and wrong input, and hides the cause of a fault', async () => {
    const subject = calls(() => Promise.reject(new Error('secret')));
    expect(await subject.calls.answer(call(1, 'toString'))).toMatchObject({ ok: false, code: 'tunnel_op_unknown' });
    expect(await subject.calls.answer(call(2, 'echo', { text: 1 }))).toMatchObject({
      ok: false,
      code: 'request_body_invalid',
    });
    expect(await subject.calls.answer(call(3))).toEqual({
      type: 'reply',
      callId: callId(3),
      ok: false,
      code: 'internal',
    });
    const refusing = calls(() => Promise.reject(new Refusal('agent_busy', 'later')));
    expect(await refusing.calls.answer(call(1))).toMatchObject({ ok: false, code: 'agent_busy', detail: 'later' });
    // Where the engine is on its machine is nobody's business.
    const dead = calls(() => Promise.reject(new RuntimeError('unavailable', 'connect ENOENT /secret')));
    const answer = await dead.calls.answer(call(1));
    expect(answer).toMatchObject({ ok: false, code: 'agent_engine_unavailable' });
    expect(JSON.stringify(answer)).not.toContain('secret');
  });
});

describe('reports and progress', () => {
  const report = (cpu: number, changes: Partial<Report> = {}): Report => ({
    used: { cpu },
    health: 'ok',
    problems: [],
    sessions: 1,
    atMs: 0,
    ...changes,
  });

  it.each([
    ['the first on a socket', undefined, report(0), 0, true],
    ['a change of 5 % after a minute', report(0), report(50), 60_000, true],
    ['a change of 5 % within the minute', report(0), report(50), 59_999, false],
    ['a smaller change', report(0), report(49), 60_000, false],
    ['no change for 15 minutes', report(0), report(0), 900_000, true],
    ['another health', report(0), report(0, { health: 'degraded' }), 60_000, true],
    ['another problem', report(0), report(0, { problems: [{ code: 'x', detail: '' }] }), 60_000, true],
    ['another number of sessions', report(0), report(0, { sessions: 2 }), 60_000, true],
  ] as const)('[M10] %s', (_, before, now, afterMs, due) => {
    const sent = before === undefined ? undefined : { report: before, atMs: 1000 };
    expect(isReportDue(sent, now, { cpu: 1000 }, 1000 + afterMs)).toBe(due);
  });

  it('[M10] at most two progress messages a second pass for a session, a new phase at once', () => {
    const gate = new ProgressGate();
    expect(gate.passes('a', 'pulling', 0)).toBe(true);
    expect(gate.passes('a', 'pulling', 499)).toBe(false);
    expect(gate.passes('b', 'pulling', 499)).toBe(true);
    expect(gate.passes('a', 'creating', 499)).toBe(true);
    expect(gate.passes('a', 'creating', 999)).toBe(true);
  });
});

it('[M12] back-off is full jitter between 0 and a ceiling that doubles up to 30 s', () => {
  expect(backoffMs(0, 0)).toBe(0);
  expect(backoffMs(0, 0.999)).toBeLessThan(500);
  expect(backoffMs(3, 0.5)).toBe(2000);
  expect(backoffMs(6, 0.5)).toBe(15_000);
  expect(backoffMs(1000, 0.5)).toBe(15_000);
});

it('[M12] back-off stays below 3 s while nobody listens, for a minute; an edge that is busy gets all of it', () => {
  const redial = new Redial();
  const waits = (nowMs: number, reachedNobody: boolean, count: number) =>
    Array.from({ length: count }, () => redial.waitMs(nowMs, 0.5, reachedNobody));
  expect(waits(0, true, 4), 'never connected').toEqual([250, 500, 1000, 2000]);
  redial.lost(59_999, 1000, false);
  expect(waits(1000, true, 2), 'nothing was stable').toEqual([1000, 1500]);
  redial.lost(60_000, 100_000, false);
  expect(waits(100_000, false, 1)).toEqual([250]);
  expect(waits(159_999, true, 5)).toEqual([500, 1000, 1500, 1500, 1500]);
  expect(waits(159_999, false, 2)).toEqual([15_000, 15_000]);
  expect(waits(160_000, true, 1)).toEqual([15_000]);
});

it('[M12] a large fleet comes back over the time that the edge named, while nobody listens', () => {
  const redial = new Redial();
  const waits = (reachedNobody: boolean) =>
    [0, 0.25, 0.5, 0.99].map((fraction) => redial.waitMs(101_000, fraction, reachedNobody));
  redial.spread(2_000);
  redial.lost(60_000, 100_000, false);
  expect(Math.max(...waits(true)), 'shorter than the usual').toBeGreaterThan(2_000);
  redial.spread(16_000);
  redial.lost(60_000, 100_000, false);
  expect(redial.waitMs(100_000, 0.5, false), 'the first').toBe(4_000);
  expect(redial.waitMs(100_000, 0.5, false), 'the edge answers').toBe(500);
  expect(waits(true), 'a second later').toEqual([0, 3_750, 7_500, 14_850]);
  const late = [110_000, 140_000].map((nowMs) => redial.waitMs(nowMs, 0.5, true));
  expect(late, 'half of it at least').toEqual([4_000, 4_000]);
  redial.spread(6_000);
  redial.lost(60_000, 100_000, false);
  expect(redial.waitMs(100_000, 0.5, false), 'few').toBe(250);
  redial.lost(60_000, 100_000, true);
  expect(redial.waitMs(100_000, 0.5, false), 'few, and the edge died').toBe(3_000);
  redial.spread(2_000);
  redial.lost(60_000, 100_000, true);
  expect(redial.waitMs(100_000, 0.5, false), 'very few').toBe(250);
  redial.spread(1e12);
  redial.lost(60_000, 100_000, false);
  expect(redial.waitMs(100_000, 0.5, false)).toBe(5_000);
  expect(redial.waitMs(100_000, 0.5, true)).toBe(30_000);
  redial.lost(60_000, 100_000, true);
  expect(redial.waitMs(100_000, 0.5, false), 'the edge died').toBe(30_000);
  expect(redial.waitMs(100_000, 0.5, false), 'the edge answers').toBe(500);
});

it('[M12] waits stay short where sockets are accepted, and the way is cut again and again', () => {
  const redial = new Redial();
  for (let nowMs = 0; nowMs < 10; nowMs++) redial.waitMs(nowMs, 0.5, false);
  const ceilings: number[] = [];
  for (let nowMs = 1000; nowMs < 1200; nowMs++) {
    redial.lost(300, nowMs, false);
    ceilings.push(redial.waitMs(nowMs, 1, false));
  }
  expect(ceilings.slice(0, 4)).toEqual([16_000, 4_000, 2_000, 1_000]);
  expect(Math.max(...ceilings.slice(4))).toBe(1_000);
});

it('[M1] a hello stays below the limit of a message, however many images a host has', () => {
  const image = { digest: 'd'.repeat(256), names: Array.from({ length: 100 }, () => 'n'.repeat(512)), sizeBytes: 1 };
  const fitting = fitImages(Array.from({ length: 1000 }, () => image));
  expect(JSON.stringify(fitting).length).toBeLessThan(600_000);
  expect(fitting[0]?.names).toHaveLength(64);
});

describe('identity', () => {
  const ports = () => ({ clock: new VirtualTime(), random: systemRandom, disk: systemDisk, failpoints: noFailpoints });

  it('makes one key, in files that only the agent may read', async () => {
    using dir = tmpDir('idn');
    const one = await Identity.open(join(dir.path, 'state'), ports());
    await one.nextAttempt();
    const two = await Identity.open(join(dir.path, 'state'), ports());
    expect(two.publicKey).toBe(one.publicKey);
    expect(two.publicKey).toMatch(/^[A-Za-z0-9_-]{43}$/);
    for (const file of ['key.pem', 'counter.json'])
      expect(statSync(join(dir.path, 'state', file)).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir.path, 'state')).mode & 0o777).toBe(0o700);
  });

  it('[M2] counts on only after the ledger accepted, and repeats the same attempt until then and after a restart', async () => {
    using dir = tmpDir('idn');
    const one = await Identity.open(dir.path, ports());
    const first = await one.nextAttempt();
    expect(first.counter).toBe(1);
    expect(await one.nextAttempt()).toEqual(first);
    one.markAccepted(first);
    const second = await one.nextAttempt();
    expect(second.counter).toBe(2);
    expect(second.attemptId).not.toBe(first.attemptId);
    one.markAccepted(first);
    expect(await one.nextAttempt()).toEqual(second);
    one.markAccepted(second);
    const restarted = await Identity.open(dir.path, ports());
    expect(await restarted.nextAttempt()).toEqual(second);
    expect(JSON.parse(readFileSync(join(dir.path, 'counter.json'), 'utf8'))).toEqual(second);
  });

  it('refuses to start with a damaged identity instead of making a new one', async () => {
    using dir = tmpDir('idn');
    await (await Identity.open(dir.path, ports())).nextAttempt();
    writeFileSync(join(dir.path, 'counter.json'), '{"counter":');
    await expect(Identity.open(dir.path, ports())).rejects.toThrow('damaged');
  });
});

it('a loop that does not beat is cut, and ends the process when that does not help', () => {
  const time = new VirtualTime();
  const events: string[] = [];
  const dog = new Watchdog(
    { clock: time, timers: time, log: keptLog() },
    () => void events.push('cut'),
    () => void events.push('hung'),
  );
  for (let n = 0; n < 10; n++) {
    time.advance(60_000);
    dog.beat();
  }
  expect(events).toEqual([]);
  time.advance(180_000);
  expect(events).toEqual(['cut']);
  dog.beat();
  time.advance(90_000);
  expect(events).toEqual(['cut']);
  time.advance(400_000);
  expect(events).toContain('hung');
  dog.stop();
});

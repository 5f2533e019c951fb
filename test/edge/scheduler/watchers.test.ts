import { describe, expect, it } from 'vitest';
import { Watchers } from '../../../edge/manager/scheduler/watchers.ts';
import { type JupyterKernel, parseJupyterKernelId } from '../../../schema/api/jupyter.ts';
import { call } from '../client.ts';
import { Gateway } from '../jupyter/gateway.ts';

/** Timers that a test rings. */
class Bells {
  readonly set = new Map<number, { delayMs: number; task: () => void }>();
  #count = 0;
  readonly after = (delayMs: number, task: () => void): (() => void) => {
    const id = ++this.#count;
    this.set.set(id, { delayMs, task });
    return () => void this.set.delete(id);
  };
  ring(): void {
    for (const { task } of this.set.values()) task();
  }
}

describe('who waits for a session to change', () => {
  it('is told when it is touched, and only then', async () => {
    const bells = new Bells();
    const watchers = new Watchers(bells.after);
    const told: string[] = [];
    for (const [who, id] of [
      ['a', 's1'],
      ['b', 's1'],
      ['c', 's2'],
    ] as const)
      void watchers.touched(id, 500).then((was) => told.push(`${who} ${was}`));
    watchers.touch(['s3']);
    watchers.touch(['s1', 's4']);
    await Promise.resolve();
    expect(told).toEqual(['a true', 'b true']);
    expect([...bells.set.values()].map(({ delayMs }) => delayMs)).toEqual([500]);
    watchers.touch(['s1']);
    bells.ring();
    await Promise.resolve();
    expect(told).toEqual(['a true', 'b true', 'c false']);
    expect(bells.set.size).toBe(0);
  });

  it('is sent away when too many wait, and has room again when some were told', async () => {
    const bells = new Bells();
    const watchers = new Watchers(bells.after);
    const waiting = Array.from({ length: 2_000 }, (_, n) => watchers.touched(`s${n}`, 500));
    expect(await watchers.touched('more', 500)).toBe(false);
    watchers.touch(['s7']);
    expect(await waiting[7]).toBe(true);
    const late = watchers.touched('more', 500);
    watchers.touch(['more']);
    expect(await late).toBe(true);
  });
});

it('who waits for a session is told by its ledger when it runs', async () => {
  const gateway = new Gateway();
  await gateway.begin();
  const made = await call<JupyterKernel>('POST', '/jupyter/api/kernels', { token: gateway.token, body: {} });
  const { sessionId } = parseJupyterKernelId(made.body.id)!;
  const { ledger } = gateway.bench;
  const before = ['PENDING', 'SCHEDULED', 'PREPARING', 'CREATING'] as const;
  const started = ledger.left(sessionId, before, 10_000);
  await gateway.run(sessionId);
  expect(await started).toBe(true);
  expect(await ledger.left(sessionId, before, 10_000)).toBe(true);
  expect(await ledger.left(sessionId, ['RUNNING'], 20)).toBe(false);
  expect(await ledger.left('ses_00000000000000000000000000_1_1', before, 10_000)).toBe(false);
});

import { describe, expect, it } from 'vitest';
import { rollOut } from '../../cli/agent/roll-out.ts';

const names = Array.from({ length: 20 }, (_, at) => `gpu-${at}`);

/** Upgrades that end when the test says so. */
function held(failing: readonly string[] = []) {
  const begun: string[] = [];
  const waiting: (() => void)[] = [];
  const upgrade = (name: string) =>
    new Promise<void>((resolve, reject) => {
      begun.push(name);
      waiting.push(() => (failing.includes(name) ? reject(new Error('it hangs')) : resolve()));
    });
  const release = async (count: number) => {
    for (const end of waiting.splice(0, count)) end();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { begun, upgrade, release };
}

describe('a roll-out', () => {
  it('upgrades the canaries one after the other, and the others side by side once those are well', async () => {
    const { begun, upgrade, release } = held();
    const result = rollOut(names, 2, upgrade);
    expect(begun).toEqual(['gpu-0']);
    await release(1);
    expect(begun).toEqual(['gpu-0', 'gpu-1']);
    await release(1);
    expect(begun).toEqual(names.slice(0, 10));
    while (begun.length < 20) await release(8);
    await release(8);
    expect(await result).toEqual({ done: expect.arrayContaining(names) as string[], failed: [], left: [] });
  });

  it('begins nobody more after a canary that failed', async () => {
    const { begun, upgrade, release } = held(['gpu-0']);
    const result = rollOut(names, 1, upgrade);
    await release(1);
    expect(await result).toEqual({ done: [], failed: [{ name: 'gpu-0', why: 'it hangs' }], left: names.slice(1) });
    expect(begun).toEqual(['gpu-0']);
  });

  it('begins nobody more after one of many failed, and waits for those under way', async () => {
    const { begun, upgrade, release } = held(['gpu-3']);
    const result = rollOut(names, 0, upgrade);
    expect(begun).toEqual(names.slice(0, 8));
    await release(8);
    const { done, failed, left } = await result;
    expect(failed.map(({ name }) => name)).toEqual(['gpu-3']);
    expect(done).toHaveLength(begun.length - 1);
    expect(left).toEqual(names.slice(begun.length));
    expect(left.length).toBeGreaterThan(8);
  });
});

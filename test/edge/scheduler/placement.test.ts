/** The placement index against a naive search: it finds room exactly when there is some, and packs as well. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Placement, sessionsPerAgent } from '../../../edge/manager/scheduler/placement.ts';
import { holds } from '../../../edge/manager/scheduler/slots.ts';
import type { Slots } from '../../../schema/protocol/messages.ts';

const gib = 1024 ** 3;
const agentId = (number: number) => `agent-${String(number).padStart(6, '0')}`;

const anyAgent = fc.record({
  cpu: fc.integer({ min: 0, max: 128 }).map((cores) => cores * 250),
  mem: fc.integer({ min: 0, max: 1024 }).map((part) => part * 64 * 1024 ** 2),
  gpu: fc.integer({ min: 0, max: 4 }),
});
const anyWant = fc.record({
  cpu: fc.integer({ min: 0, max: 20_000 }),
  mem: fc.integer({ min: 0, max: 40 * gib }),
  gpu: fc.integer({ min: 0, max: 3 }),
});
const toSlots = ({ cpu, mem, gpu }: { cpu: number; mem: number; gpu: number }): Slots => ({
  cpu,
  mem,
  ...(gpu > 0 ? { 'cuda.device': gpu } : {}),
});

describe('placement', () => {
  it('finds an agent exactly when one has enough of everything free', () => {
    fc.assert(
      fc.property(fc.array(anyAgent, { maxLength: 40 }), fc.array(anyWant, { maxLength: 30 }), (agents, wants) => {
        const placement = new Placement();
        const free = new Map(agents.map((agent, at) => [agentId(at), toSlots(agent)]));
        const used = new Map([...free.keys()].map((id) => [id, {} as Slots]));
        for (const [id, total] of free) placement.put(id, total, {}, 0);
        for (const want of wants.map(toSlots)) {
          const left = (id: string) =>
            Object.fromEntries(
              Object.entries(free.get(id)!).map(([name, n]) => [name, n - (used.get(id)![name] ?? 0)]),
            );
          const possible = [...free.keys()].filter((id) => holds(left(id), want));
          const picked = placement.pick(want);
          expect(picked === undefined).toBe(possible.length === 0);
          if (picked === undefined) continue;
          expect(possible).toContain(picked);
          const sum = used.get(picked)!;
          for (const [name, amount] of Object.entries(want)) sum[name] = (sum[name] ?? 0) + amount;
          placement.put(picked, free.get(picked)!, sum, 1);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('prefers the agent that has the home, and avoids those where the start failed while others fit', () => {
    const placement = new Placement();
    for (const id of ['a', 'b', 'c']) placement.put(id, { cpu: 4000, mem: 4 * gib }, {}, 0);
    const want = { cpu: 1000, mem: gib };
    expect(placement.pick(want, { prefer: 'b' })).toBe('b');
    expect(placement.pick(want, { prefer: 'b', avoid: ['b', 'a'] })).toBe('c');
    placement.remove('c');
    expect(['a', 'b']).toContain(placement.pick(want, { avoid: ['a', 'b'] }));
  });

  it('leaves accelerators to sessions that ask for them while plain agents have room', () => {
    const placement = new Placement();
    placement.put('gpu', { cpu: 4000, mem: 4 * gib, 'cuda.device': 2 }, {}, 0);
    placement.put('plain', { cpu: 64_000, mem: 64 * gib }, {}, 0);
    expect(placement.pick({ cpu: 1000, mem: gib })).toBe('plain');
    expect(placement.pick({ cpu: 1000, mem: gib, 'cuda.device': 1 })).toBe('gpu');
    placement.remove('plain');
    expect(placement.pick({ cpu: 1000, mem: gib })).toBe('gpu');
  });

  it('takes the tightest of several that fit', () => {
    const placement = new Placement();
    placement.put('large', { cpu: 64_000, mem: 256 * gib }, {}, 0);
    placement.put('small', { cpu: 2000, mem: 2 * gib }, {}, 0);
    expect(placement.pick({ cpu: 1000, mem: gib })).toBe('small');
  });

  it('fills an agent up to the number of sessions that its inventory may name', () => {
    const placement = new Placement();
    placement.put('a', { cpu: 1e9, mem: 1e15 }, {}, sessionsPerAgent);
    expect(placement.pick({ cpu: 10, mem: gib })).toBeUndefined();
  });
});

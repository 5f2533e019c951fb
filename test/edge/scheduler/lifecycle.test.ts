/** The table of states, and what follows from it for every path. */
import { describe, expect, it } from 'vitest';
import { deadlineAfterMs, lifecycle, type LifecycleEvent, next } from '../../../edge/manager/scheduler/lifecycle.ts';
import { productionTimers, scaledTimers } from '../../../edge/manager/scheduler/timers.ts';
import { isTerminal, SessionState } from '../../../schema/api/session-parts.ts';

const states = SessionState.options;
const events = [...new Set(states.flatMap((state) => Object.keys(lifecycle[state])))] as LifecycleEvent[];
const at = (state: SessionState, cameFrom: SessionState | null = null) => ({ state, cameFrom });

describe('lifecycle', () => {
  it('never leaves a terminal state', () => {
    for (const state of states.filter(isTerminal))
      for (const event of events) expect(next(at(state), event), `${state} ${event}`).toBeUndefined();
  });

  it('knows one way back to PENDING', () => {
    const ways = states.flatMap((state) =>
      events.filter((event) => lifecycle[state][event] === 'PENDING').map((event) => [state, event]),
    );
    expect(ways).toEqual([['TERMINATING', 'requeue']]);
  });

  it('reaches every state from PENDING, and a terminal one from every state', () => {
    const reach = (from: SessionState) => {
      const seen = new Set<SessionState>([from]);
      for (const state of seen)
        for (const target of Object.values(lifecycle[state])) if (target !== 'cameFrom') seen.add(target);
      return seen;
    };
    expect(reach('PENDING').size).toBe(states.length);
    for (const state of states) expect([...reach(state)].some(isTerminal), state).toBe(true);
  });

  it('keeps the state that contact was lost in, and returns to it', () => {
    for (const state of ['SCHEDULED', 'PREPARING', 'PULLING', 'CREATING', 'RUNNING', 'TERMINATING'] as const) {
      const lost = next(at(state), 'loseContact');
      expect(lost).toEqual({ state: 'UNREACHABLE', cameFrom: state });
      expect(next(lost!, 'regainContact')).toEqual({ state, cameFrom: null });
    }
  });

  it('has a session that was stopped while out of reach come back as TERMINATING', () => {
    const stopped = next(at('UNREACHABLE', 'RUNNING'), 'stop');
    expect(stopped).toEqual({ state: 'UNREACHABLE', cameFrom: 'TERMINATING' });
    expect(next(stopped!, 'regainContact')?.state).toBe('TERMINATING');
  });

  it('loses contact only once', () => {
    expect(next(at('UNREACHABLE', 'RUNNING'), 'loseContact')).toBeUndefined();
  });

  it('has a deadline for each state in which something is awaited', () => {
    const waiting = states.filter((state) => deadlineAfterMs(state, productionTimers) !== undefined);
    expect(waiting).toEqual(['SCHEDULED', 'PREPARING', 'PULLING', 'CREATING', 'TERMINATING']);
  });
});

describe('timers', () => {
  it('scale for tests of the real stack, but not in production, and not the retention', () => {
    const fast = scaledTimers(0.1, 'machine');
    expect(fast.silentMs).toBe(productionTimers.silentMs / 10);
    expect(fast.leaseFactor).toBe(0.1);
    expect(fast.retentionMs).toBe(productionTimers.retentionMs);
    expect(() => scaledTimers(0.1, 'production')).toThrow(/production/);
    expect(scaledTimers(1, 'production')).toBe(productionTimers);
  });

  it('find an agent out of reach within 45 s', () => {
    expect(productionTimers.silentMs + productionTimers.livenessEveryMs).toBeLessThanOrEqual(45_000);
  });
});

/** The allowance of one socket, by itself: whatever a peer claims, what is granted stays within what marks prove. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Allowance } from '../../../edge/tunnel/marks.ts';
import { limits } from '../../../schema/protocol/limits.ts';

const view = (mark: Uint8Array) => new DataView(mark.buffer, mark.byteOffset, 8);
const marks = (n: number) => Uint8Array.of(0, 0, 0, 0, 0, 0, n >> 8, n & 255);

describe('the allowance', () => {
  it('[S5] grows to twice what a round trip proved, between 2 and 16 MiB', () => {
    const out = new Allowance(false);
    out.send(5 * 1024 * 1024);
    out.mark(marks(1));
    out.send(1024);
    expect(out.marked(view(marks(1)), 0)).toBe(true);
    expect(out.allowedBytes).toBe(10 * 1024 * 1024);
    expect(out.unprovenBytes).toBe(1024);
    out.send(20 * 1024 * 1024);
    out.mark(marks(2));
    out.marked(view(marks(2)), 0);
    expect(out.allowedBytes).toBe(limits.maxAllowanceBytes);
    // It falls back slowly while nobody needs it, in whole bytes: a part of one never reaches the sender.
    for (let n = 3; n < 60; n++) {
      out.send(100);
      out.mark(marks(n));
      out.marked(view(marks(n)), 0);
      expect(Number.isInteger(out.allowedBytes)).toBe(true);
    }
    expect(out.allowedBytes).toBe(limits.minAllowanceBytes);
  });

  it('[S5] doubles while grants wait for a peer that keeps up, and not for one that does not', () => {
    const grantAndProve = (out: Allowance, n: number, unread: number) => {
      out.creditChanged(0, out.grantable(2 ** 40, 0));
      out.send(1024);
      out.mark(marks(n));
      out.send(unread);
      out.marked(view(marks(n)), 0);
      return out.allowedBytes;
    };
    const quick = new Allowance(false);
    const grown = [1, 2, 3, 4].map((n) => grantAndProve(quick, n, 1024) / 1024 ** 2);
    expect(grown).toEqual([4, 8, 16, 16]);
    const slow = new Allowance(false);
    expect(grantAndProve(slow, 1, 1024 ** 2)).toBe(limits.minAllowanceBytes);
    // It had earned much, and then stops reading: what it may hold on to is not more than before.
    expect(grantAndProve(quick, 5, 9 * 1024 ** 2)).toBe(limits.minAllowanceBytes);
  });

  it('[S6] grants nothing after a wake before a mark of its own came back', () => {
    const out = new Allowance(true);
    expect(out.wantsMark).toBe(true);
    expect(out.grantable(1000, 0)).toBe(0);
    out.mark(marks(1));
    expect(out.wantsMark).toBe(false);
    expect(out.marked(view(marks(2)), 0)).toBe(false);
    expect(out.grantable(1000, 0)).toBe(0);
    expect(out.marked(view(marks(1)), 0)).toBe(true);
    expect(out.grantable(1000, 0)).toBe(1000);
  });

  it('[S5] whatever is held, granted, sent and proven, nothing passes beyond the allowance', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('send' as const), bytes: fc.integer({ min: 1, max: 500_000 }) }),
      fc.record({ kind: fc.constant('grant' as const), bytes: fc.integer({ min: 1, max: 2 ** 40 }) }),
      fc.record({ kind: fc.constant('prove' as const), bytes: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const out = new Allowance(false);
        let unused: number = limits.initialWindowBytes;
        let sentMarks = 0;
        let proven = 0;
        for (const { kind, bytes } of steps) {
          if (kind === 'send') {
            const size = Math.min(bytes, unused);
            if (size === 0) continue;
            out.creditChanged(unused, unused - size);
            unused -= size;
            if (out.send(size)) out.mark(marks(++sentMarks));
          } else if (kind === 'grant') {
            const grant = out.grantable(bytes, unused);
            expect(Number.isInteger(grant)).toBe(true);
            expect(grant).toBeLessThanOrEqual(bytes);
            out.creditChanged(unused, unused + grant);
            unused += grant;
            const ahead = out.unprovenBytes + Math.max(0, unused - limits.initialWindowBytes);
            if (grant > 0) expect(ahead).toBeLessThanOrEqual(out.allowedBytes + limits.initialWindowBytes);
          } else if (proven < sentMarks) expect(out.marked(view(marks(++proven)), 0)).toBe(true);
        }
      }),
    );
  });
});

/** Ids: their form, their order, and what can be read from them. */
import { describe, expect, it } from 'vitest';
import { idPattern, newAgentId, newId, newSessionId, parseAgentId, parseSessionId } from '../../schema/ids.ts';

const zeros = new Uint8Array(10);
const ones = new Uint8Array(10).fill(255);

describe('an id', () => {
  it('is time and then randomness, most significant first', () => {
    expect(newId('user', 0, zeros)).toBe(`usr_${'0'.repeat(26)}`);
    expect(newId('user', 0, ones)).toBe(`usr_${'0'.repeat(10)}${'z'.repeat(16)}`);
    expect(newId('user', 2 ** 48 - 1, zeros)).toBe(`usr_7${'z'.repeat(9)}${'0'.repeat(16)}`);
    // The example of the ULID specification.
    expect(newId('user', 1_469_918_176_385, zeros).slice(4, 14)).toBe('01aryz6s41');
    expect(newId('user', 0, Uint8Array.of(0, 0, 0, 0, 1, 8, 0, 0, 0, 0)).slice(14)).toBe('0000000110000000');
  });

  it('sorts by birth, over every carry of its bits', () => {
    const births = Array.from({ length: 47 }, (_, bit) => [2 ** (bit + 1) - 1, 2 ** (bit + 1)]).flat();
    const ids = births.map((nowMs, at) => newId('event', nowMs, at % 2 === 0 ? ones : zeros));
    expect(ids.toSorted()).toEqual(ids);
    for (const id of ids) expect(id).toMatch(idPattern('event'));
  });

  it('of a session names its ledger and its domain, that of an agent its ledger', () => {
    expect(parseSessionId(newSessionId(1, ones, 12, 345))).toEqual({ groupNumber: 12, domainNumber: 345 });
    expect(parseAgentId(newAgentId(1, ones, 12))).toEqual({ groupNumber: 12 });
    for (const wrong of ['', 'ses_', newId('session', 1, ones), `${newSessionId(1, ones, 1, 1)}_1`])
      expect(parseSessionId(wrong)).toBeUndefined();
  });
});

import { describe, expect, it } from 'vitest';
import { judgeVersion, ownVersion } from '../../schema/home-version.ts';

const own = ownVersion('1.2.0', ['0000_a.sql', '0001_b.sql']);

describe('a home meets a checkout', () => {
  it('of its own release: nothing is to be done', () => {
    expect(judgeVersion(own, own)).toEqual({ kind: 'same' });
  });

  it('that is newer: it says what changes', () => {
    const objects = { ...own.objects, Access: { version: 1, minReader: 1 } };
    expect(judgeVersion({ release: '1.1.9', migrations: ['0000_a.sql'], objects }, own)).toEqual({
      kind: 'older',
      steps: ['migration 0001_b.sql', 'Access objects to schema 2', 'release 1.1.9 to 1.2.0'],
    });
  });

  it.each([
    [{ ...own, release: '1.10.0' }, /release 1\.10\.0 wrote it/],
    [{ ...own, migrations: [...own.migrations, '0002_c.sql'] }, /0002_c\.sql/],
    [
      { ...own, objects: { ...own.objects, Ledger: { version: 9, minReader: 8 } } },
      /Ledger objects need a code of schema 8/,
    ],
    [{ ...own, objects: { ...own.objects, Console: { version: 1, minReader: 1 } } }, /Console/],
  ])('that is older: it is refused, with the reason', (found, why) => {
    const verdict = judgeVersion(found, own);
    expect(verdict.kind).toBe('newer');
    expect(verdict.kind === 'newer' && verdict.reasons.join()).toMatch(why);
  });

  it('that is older, but can read what newer objects write: only the release and the migrations count', () => {
    const objects = { ...own.objects, Ledger: { version: 9, minReader: 1 } };
    expect(judgeVersion({ ...own, objects }, own).kind).toBe('same');
  });
});

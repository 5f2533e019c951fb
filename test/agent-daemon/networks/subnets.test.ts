import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Range, findSubnet, overlaps, parseCidr, parseRoutes } from '../../../agent-daemon/networks/subnets.ts';

const pool = parseCidr('10.213.0.0/16') as Range;

it('finds a /28 inside the pool that touches nothing taken, wherever it starts', () => {
  const subnet = fc.record({ at: fc.nat(65_535), bits: fc.integer({ min: 16, max: 32 }) }).map(({ at, bits }) => {
    return parseCidr(`10.213.${at >>> 8}.${at & 255}/${bits}`) as Range;
  });
  fc.assert(
    fc.property(fc.array(subnet, { maxLength: 20 }), fc.nat(1_000_000), (taken, start) => {
      const found = findSubnet(pool, taken, start);
      if (found === undefined) {
        expect(taken.length).toBeGreaterThan(0);
        return;
      }
      const range = parseCidr(found) as Range;
      expect(range.last - range.first).toBe(15);
      expect([range.first >= pool.first, range.last <= pool.last]).toEqual([true, true]);
      expect(taken.some((each) => overlaps(each, range))).toBe(false);
    }),
  );
});

it('fills the whole pool and then says that it is full', () => {
  const small = parseCidr('10.213.4.0/26') as Range;
  const taken: Range[] = [];
  for (let count = 0; count < 4; count++) taken.push(parseCidr(findSubnet(small, taken, count * 7) ?? '') as Range);
  expect(new Set(taken.map((range) => range.first)).size).toBe(4);
  expect(findSubnet(small, taken, 3)).toBeUndefined();
});

it('reads the routes of the kernel, without the default route', () => {
  const table = [
    'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
    'eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\t0\t0\t0',
    'docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0',
    'br-1\t1004D50A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0',
    '',
  ].join('\n');
  expect(parseRoutes(table)).toEqual([parseCidr('172.17.0.0/16'), parseCidr('10.213.4.16/28')]);
});

it.each(['', '10.0.0', '10.0.0.0/33', '300.1.1.1', 'a.b.c.d/8', '1.2.3.4/8x'])('refuses "%s" as a range', (text) => {
  expect(parseCidr(text)).toBeUndefined();
});

import { describe, expect, it } from 'vitest';

import { HostGuard } from '../../../agent-daemon/networks/guard.ts';
import { keptLog } from '../ports.ts';

/** `/proc/net/route` with a bridge of 10.213.1.0/28. */
const routes =
  'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nbr-1\t0001D50A\t0\t1\t0\t0\t0\tF0FFFFFF\n';
const subnet = '10.213.1.0/28';

/** A packet filter that knows which rules stand, and can be forbidden to change. */
class Filter {
  readonly rules = new Set<string>();
  readonly chains = new Set(['INPUT', 'FORWARD', 'DOCKER-USER']);
  allowed = true;
  calls = 0;

  readonly run = (args: readonly string[]): Promise<string | undefined> => {
    this.calls += 1;
    const [, how, ...rest] = args;
    const rule = rest.join(' ');
    if (how === '-C') return Promise.resolve(this.rules.has(rule) ? undefined : 'no such rule');
    if (how === '-n') return Promise.resolve(this.chains.has(rest[1] ?? '') ? undefined : 'no such chain');
    if (!this.allowed) return Promise.resolve('Permission denied (you must be root)');
    if (how === '-N') this.chains.add(rest[0] ?? '');
    else this.rules.add(rule);
    return Promise.resolve(undefined);
  };
}

function guardOn(filter: Filter, table = routes) {
  const log = keptLog();
  const readRoutes = () => Promise.resolve(table);
  return { log, guard: new HostGuard({ pool: '10.213.0.0/16', readRoutes, iptables: filter.run, log }) };
}

describe('the guard of the host', () => {
  it('refuses what comes from the pool to the host and to link-local addresses, and lets answers pass', async () => {
    const filter = new Filter();
    const { guard } = guardOn(filter);
    await guard.ensure(subnet);
    expect([...filter.rules]).toEqual([
      'CAUSEWAY-INPUT -s 10.213.0.0/16 -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN',
      'CAUSEWAY-INPUT -s 10.213.0.0/16 -j REJECT',
      'INPUT -j CAUSEWAY-INPUT',
      'DOCKER-USER -s 10.213.0.0/16 -d 169.254.0.0/16 -j REJECT',
    ]);
    expect(guard.findings).toEqual([]);
    const { calls } = filter;
    await guard.ensure(subnet);
    expect(filter.calls).toBe(calls);
  });

  it('sets again what was taken away, and nothing twice', async () => {
    const filter = new Filter();
    const { guard } = guardOn(filter);
    await guard.ensure(subnet);
    const before = [...filter.rules];
    filter.rules.clear();
    await guard.check();
    expect([...filter.rules]).toEqual(before);
  });

  it('says once what it could not do, and does it as soon as it may', async () => {
    const filter = new Filter();
    filter.allowed = false;
    const { guard, log } = guardOn(filter);
    await guard.ensure(subnet);
    await guard.check();
    expect(guard.findings[0]?.detail).toMatch(/Permission denied.*iptables -I INPUT -s 10\.213\.0\.0\/16 -j REJECT/);
    expect(log.lines).toHaveLength(1);
    filter.allowed = true;
    await guard.check();
    expect(guard.findings).toEqual([]);
    expect(filter.rules.size).toBe(4);
  });

  it('touches nothing where the engine has a network of its own', async () => {
    const filter = new Filter();
    const { guard } = guardOn(filter, routes.replace('0001D50A', '0001D60A'));
    await guard.ensure(subnet);
    await guard.check();
    expect(filter.calls).toBe(0);
    expect(guard.findings).toEqual([]);
  });
});

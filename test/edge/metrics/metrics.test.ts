import { afterEach, describe, expect, it, vi } from 'vitest';
import { toExposition } from '../../../edge/manager/metrics/exposition.ts';
import { Ledger } from '../../../edge/manager/scheduler/ledger-object.ts';
import type { LedgerAgent } from '../../../edge/manager/scheduler/rpc.ts';
import { Host, newJoinToken } from '../agents/host.ts';
import { bootstrapped, call } from '../client.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

async function scraped(): Promise<{ text: string; admin: string; host: Host }> {
  const { token: admin } = await bootstrapped();
  const host = await Host.make();
  await host.enrol((await newJoinToken(admin)).token);
  await call('POST', '/v1/sessions', { token: admin, body: { type: 'batch', image: 'busybox', command: ['true'] } });
  const made = await call('POST', '/v1/tokens', {
    token: admin,
    body: { name: 'prometheus', scopes: ['metrics:read'] },
  });
  const answer = await call('GET', '/metrics', { token: String(made.body['token']) });
  expect(answer.status, answer.text).toBe(200);
  expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  return { text: answer.text, admin, host };
}

describe('/metrics', () => {
  it('counts what the ledgers hold', async () => {
    const { text } = await scraped();
    expect(text).toContain('causeway_ledger_up{group="default"} 1\n');
    expect(text).toContain('causeway_sessions_pending{group="default"} 1\n');
    expect(text).toContain('causeway_agents{group="default",state="unreachable"} 1\n');
    expect(text).toContain('causeway_cpu_cores{group="default",kind="approved"} 8\n');
    expect(text).toMatch(/causeway_memory_bytes\{group="default",kind="offered"\} \d+\n/);
  });
  it('is text that Prometheus reads: help and type once for each name, then its samples', async () => {
    const { text } = await scraped();
    const pattern = /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+]+)$/;
    const lines = text.trimEnd().split('\n');
    expect(lines.filter((line) => !pattern.test(line))).toEqual([]);
    const types = lines.filter((line) => line.startsWith('# TYPE'));
    expect(new Set(types).size).toBe(types.length);
  });
  it('follows the conventions of names: a prefix, base units at the end, counters as totals, few labels', async () => {
    const { text } = await scraped();
    const families = [...text.matchAll(/^# HELP (\S+) (.+)\n# TYPE (\S+) (gauge|counter)\n/gm)];
    expect(families.length).toBeGreaterThan(7);
    for (const [, name = '', help, typed, type] of families) {
      expect(typed).toBe(name);
      expect(name).toMatch(/^causeway_[a-z]+(_[a-z]+)*$/);
      expect(help, name).toMatch(/^[A-Z].*\.$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(name).not.toMatch(/milli|micro|_ms$|kib|mib|percent/);
    }
    const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    expect(new Set(samples.map((line) => line.replace(/ \S+$/, ''))).size).toBe(samples.length);
    const known = new Set(['group', 'state', 'kind', 'slot', 'sink', 'hub']);
    for (const [, label = ''] of text.matchAll(/[{,]([a-z_]+)="/g)) expect(known).toContain(label);
    // No id of what comes and goes: a scrape is as long in a year as today.
    expect(text).not.toMatch(/(ses|agt|usr|tok|prj)_[0-9a-z]{26}/);
  });
  it('shows at most so many kinds of devices of a group, and none that nobody approved', async () => {
    const { admin, host } = await scraped();
    const slots = Object.fromEntries(
      Array.from({ length: 40 }, (_, at) => [`x${String(at).padStart(2, '0')}.device`, at + 1]),
    );
    const agent = { agentId: host.agentId, state: 'active', reachable: true, draining: false } as const;
    const many = {
      ...agent,
      approved: { cpu: 2500, ...slots },
      offered: { cpu: 1e6, made: 7, ...slots },
      reserved: {},
    };
    vi.spyOn(Ledger.prototype, 'agents').mockResolvedValue([many as unknown as LedgerAgent]);
    const made = await call('POST', '/v1/tokens', { token: admin, body: { name: 'm', scopes: ['metrics:read'] } });
    const { text } = await call('GET', '/metrics', { token: String(made.body['token']) });
    expect(text).toContain('causeway_cpu_cores{group="default",kind="approved"} 2.5\n');
    expect(text.match(/^causeway_devices\{/gm)).toHaveLength(16 * 3);
    expect(text).not.toContain('made');
  });
  it('escapes what is in a label', () => {
    const samples = [{ labels: { group: 'a"b\\c\nd' }, value: 1 }];
    const text = toExposition([{ name: 'x', help: 'h', type: 'gauge', samples }]);
    expect(text).toContain(String.raw`x{group="a\"b\\c\nd"} 1`);
  });
  it('is good for nothing else, and only a superadmin makes such a token', async () => {
    const { admin } = await scraped();
    expect((await call('GET', '/metrics', { token: admin })).status).toBe(403);
    const user = await call('POST', '/v1/users', {
      token: admin,
      body: { email: 'a@causeway.test', role: 'domain-admin' },
    });
    const made = await call('POST', `/v1/users/${String(user.body['id'])}/tokens`, {
      token: admin,
      body: { name: 'a' },
    });
    const token = String(made.body['token']);
    expect((await call('POST', '/v1/tokens', { token, body: { name: 'm', scopes: ['metrics:read'] } })).status).toBe(
      403,
    );
  });
});

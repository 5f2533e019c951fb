/** The gateway as the supervisor runs it: a process of its own, with a redis-server beside it that may outlive it. */
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from '@upstash/redis';
import { afterEach, describe, expect, it } from 'vitest';
import { hasEnded } from '../../edge/serve/redis/owned-process.ts';
import { start, type Started } from '../support/process.ts';
import { startTime, tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

const program = join(import.meta.dirname, '../../edge/serve/redis/index.ts');
const token = 'a-token-of-the-process-test';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

function launch(args: string[], env: Record<string, string | undefined> = {}): Started {
  const started = start(process.execPath, [program, ...args], { env: { CAUSEWAY_REDIS_TOKEN: token, ...env } });
  ends.push(() => started.stop());
  return started;
}

interface Ready {
  readonly gateway: Started;
  readonly redis: Redis;
  readonly redisPid: number;
}

async function ready(args: string[]): Promise<Ready> {
  const gateway = launch(args);
  const line = await gateway.line('ready');
  const redis = new Redis({ url: String(line['url']), token, retry: false, enableTelemetry: false });
  return { gateway, redis, redisPid: Number(line['redisPid']) };
}

function scratch(name = 'redis'): string {
  const dir = tmpDir(name);
  ends.push(() => dir.remove());
  return join(dir.path, 'r');
}

describe('the process', () => {
  it('keeps data over a clean restart, and leaves no redis-server behind', async () => {
    const dir = scratch();
    const first = await ready(['--mode', 'server', '--dir', dir]);
    await first.redis.set('k', 'v');
    const owned = { pid: first.redisPid, startTime: startTime(first.redisPid) ?? '' };
    expect(await first.gateway.stop()).toEqual({ code: 0, signal: null });
    expect(hasEnded(owned)).toBe(true);
    const second = await ready(['--mode', 'server', '--dir', dir]);
    expect(await second.redis.get('k')).toBe('v');
  });

  it('takes over the redis-server of a gateway that was killed', async () => {
    const dir = scratch();
    const first = await ready(['--mode', 'server', '--dir', dir]);
    await first.redis.set('k', 'v');
    await first.gateway.kill9();
    const second = await ready(['--mode', 'server', '--dir', dir]);
    expect(second.redisPid).toBe(first.redisPid);
    expect(await second.redis.get('k')).toBe('v');
    await second.gateway.stop();
    expect(existsSync(join(dir, 'redis.pid'))).toBe(false);
  });

  it('leaves no redis-server behind when it is killed, where that was asked for', async () => {
    const dir = scratch();
    const first = await ready(['--mode', 'server', '--dir', dir, '--dies-with-parent']);
    await first.redis.set('k', 'v');
    const owned = { pid: first.redisPid, startTime: startTime(first.redisPid) ?? '' };
    await first.gateway.kill9();
    await until(() => hasEnded(owned), { what: 'redis-server to end' });
    const second = await ready(['--mode', 'server', '--dir', dir]);
    expect(await second.redis.get('k')).toBe('v');
  });

  it('kills one of an earlier run that does not answer, and starts another', async () => {
    const dir = scratch();
    const first = await ready(['--mode', 'server', '--dir', dir]);
    await first.gateway.kill9();
    process.kill(first.redisPid, 'SIGSTOP');
    const second = await ready(['--mode', 'server', '--dir', dir]);
    expect(second.redisPid).not.toBe(first.redisPid);
    expect(await second.redis.ping()).toBe('PONG');
  });

  it('starts redis-server again when that is killed, and the data of a second ago are there', async () => {
    const { gateway, redis, redisPid } = await ready(['--mode', 'server', '--dir', scratch()]);
    await redis.set('k', 'v');
    for (let round = 0, pid = redisPid; round < 2; round += 1) {
      // The append-only file is written before the answer and only its fsync is deferred: kill -9 loses nothing.
      process.kill(pid, 'SIGKILL');
      const lost = pid;
      pid = await until(
        () =>
          gateway.lines.filter((line) => line['msg'] === 'redis restarted').map((line) => Number(line['pid']))[round],
        { what: 'redis to be restarted' },
      );
      expect(pid).not.toBe(lost);
      expect(await redis.get('k')).toBe('v');
    }
  });

  it('moves data aside that redis refuses to load, says so, and starts empty', async () => {
    const dir = scratch();
    const first = await ready(['--mode', 'server', '--dir', dir]);
    await first.redis.set('k', 'v');
    await first.gateway.stop();
    const data = join(dir, 'appendonlydir');
    const base = readdirSync(data).find((name) => name.endsWith('.rdb')) ?? '';
    writeFileSync(join(data, base), 'this was a database');
    const second = await ready(['--mode', 'server', '--dir', dir]);
    expect(await second.redis.get('k')).toBeNull();
    expect(second.gateway.output()).toContain('moved aside, starting empty');
    expect(readFileSync(join(dir, 'appendonlydir.unreadable', base), 'utf8')).toBe('this was a database');
  });

  it('uses a loopback port where the path of a socket would be too long, and the password is asked for', async () => {
    const dir = join(scratch(), 'd'.repeat(100));
    const first = await ready(['--mode', 'server', '--dir', dir]);
    await first.redis.set('k', 'v');
    const port = Number(readFileSync(join(dir, 'port'), 'utf8'));
    expect(port).toBeGreaterThan(0);
    expect(statSync(join(dir, 'password')).mode & 0o777).toBe(0o600);
    const { RespClient, respClientDefaults } = await import('../../edge/serve/redis/resp-client.ts');
    const stranger = new RespClient({ ...respClientDefaults, address: () => ({ port }), commandTimeoutMs: 500 });
    await expect(stranger.run([[Buffer.from('GET'), Buffer.from('k')]])).rejects.toThrow('NOAUTH');
    stranger.close();
    await first.gateway.kill9();
    const second = await ready(['--mode', 'server', '--dir', dir]);
    expect(second.redisPid).toBe(first.redisPid);
  });

  it('shows neither token nor password in a process list', async () => {
    const dir = scratch();
    const { gateway, redisPid } = await ready(['--mode', 'server', '--dir', dir]);
    const password = readFileSync(join(dir, 'password'), 'utf8');
    for (const pid of [gateway.pid, redisPid]) {
      const shown = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      expect(shown).not.toContain(token);
      expect(shown).not.toContain(password);
    }
    expect(readFileSync(`/proc/${redisPid}/environ`, 'utf8')).not.toContain(token);
    expect(gateway.output()).not.toContain(token);
    expect(gateway.output()).not.toContain(password);
  });

  it('warns in one loud line when Redis is only memory', async () => {
    const { gateway, redis } = await ready(['--mode', 'memory']);
    await redis.set('k', 'v');
    expect(await redis.get('k')).toBe('v');
    expect(
      gateway.lines.filter((line) => String(line['msg']).startsWith('WARNING: Redis is a store in the memory')),
    ).toHaveLength(1);
  });

  it('ends subscriptions with a last event on SIGTERM and leaves with 0', async () => {
    const gateway = launch(['--mode', 'memory']);
    const { url } = await gateway.line('ready');
    const answer = await fetch(`${String(url)}/subscribe/news`, { headers: { authorization: `Bearer ${token}` } });
    const text = answer.text();
    expect((await gateway.stop()).code).toBe(0);
    expect(await text).toContain('data: error,news,the gateway is shutting down\n\n');
  });
});

describe('what it refuses', () => {
  const wrong: [args: string[], env: Record<string, string | undefined>, code: number, says: string][] = [
    [[], {}, 64, 'mode'],
    [['--mode', 'server'], {}, 64, 'needs a directory'],
    [['--mode', 'server', '--dir', 'relative'], {}, 64, 'absolute path'],
    [['--mode', 'memory', '--port', '99999'], {}, 64, 'port'],
    [['--mode', 'memory', '--colour', 'red'], {}, 64, '--colour'],
    [['--mode', 'memory'], { CAUSEWAY_REDIS_TOKEN: 'short' }, 64, 'token'],
    [['--mode', 'memory'], { CAUSEWAY_REDIS_TOKEN: undefined }, 64, 'token'],
    [['--mode', 'memory', '--max-memory', '12'], {}, 64, 'maxMemoryBytes'],
    [['--mode', 'memory', '--host', '203.0.113.7'], {}, 70, 'EADDRNOTAVAIL'],
  ];
  it.each(wrong)('%j %j with exit code %i, naming the fault', async (args, env, code, says) => {
    const gateway = launch(args, env);
    expect((await gateway.exited).code).toBe(code);
    expect(gateway.output()).toContain(says);
  });

  it('a directory that another gateway uses with exit code 75', async () => {
    const dir = scratch();
    const first = await ready(['--mode', 'server', '--dir', dir]);
    const second = launch(['--mode', 'server', '--dir', dir]);
    expect((await second.exited).code).toBe(75);
    expect(await first.redis.ping()).toBe('PONG');
  });

  it('a machine without redis-server with exit code 69 and the package to install', async () => {
    const gateway = launch(['--mode', 'server', '--dir', scratch()], { PATH: pathWithout('redis-server') });
    expect((await gateway.exited).code).toBe(69);
    expect(gateway.output()).toContain('install the Debian package redis-server');
  });
});

/** A search path with the few programs that a start needs, and not that one. */
function pathWithout(name: string): string {
  const bin = scratch('bin');
  mkdirSync(bin, { recursive: true });
  for (const tool of ['flock', 'setpriv', 'redis-server'].filter((word) => word !== name)) {
    symlinkSync(`/usr/bin/${tool}`, join(bin, tool));
  }
  return bin;
}

import { env } from 'cloudflare:workers';
import { runInDurableObject } from 'cloudflare:test';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { shardOf } from '../../../edge/http/shards.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call } from '../client.ts';
import { mendObject } from '../mend-object.ts';
import { evict } from '../evict.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('storage that newer code wrote', () => {
  it('is answered 503 by code that is too old for it, with when to come again', async () => {
    const { token, userId } = await bootstrapped();
    expect((await call('GET', '/v1/whoami', { token })).status).toBe(200);
    const stub = env.ACCESS.getByName(String(shardOf(userId)));
    const write = (sql: string) => runInDurableObject(stub, (_, state) => void state.storage.sql.exec(sql));
    await write('UPDATE schema_state SET version = 9, min_reader = 9');
    await evict(stub);
    passMs(3001);
    const refused = await call('GET', '/v1/whoami', { token });
    expect(refused).toMatchObject({ status: 503, body: { code: 'deploy_overlap' } });
    expect(refused.headers.get('retry-after')).toBe('2');
    await mendObject('Access', stub);
  });
  it('is read on by code that it still allows', async () => {
    const { token, userId } = await bootstrapped();
    await call('GET', '/v1/whoami', { token });
    const stub = env.ACCESS.getByName(String(shardOf(userId)));
    await runInDurableObject(
      stub,
      (_, state) => void state.storage.sql.exec('UPDATE schema_state SET version = 2, min_reader = 1'),
    );
    await evict(stub);
    passMs(3001);
    expect((await call('GET', '/v1/whoami', { token })).status).toBe(200);
  });
});

/** Whoever fails too often takes turns: exactly, in virtual time. */
import { describe, expect, it } from 'vitest';
import { clientNetworkOf } from '../../../edge/http/client-address.ts';
import { type TurnLimits, Turns } from '../../../edge/http/turns.ts';
import type { Refusal } from '../../../schema/errors.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

const limits: TurnLimits = {
  costMs: 10,
  burstMs: 100,
  waitMs: 50,
  holdMs: 80,
  mostKeys: 3,
  mostWaiting: 20,
  detail: 'Too often.',
};

/** Turns, their clock, and what becomes of each request: when it went on, or was refused. */
function world(changes: Partial<TurnLimits> = {}) {
  const time = new VirtualTime(1000);
  const ports = { clock: time, timers: time, random: { fraction: () => 0.5 } };
  const turns = new Turns({ ...limits, ...changes }, ports);
  const said: string[] = [];
  return {
    said,
    ask: (key: string): void => {
      void turns.take(key).then(
        (charged) => said.push(`${time.bootMs() - 1000} ${key} ${charged ? 'turn' : 'free'}`),
        (error: Refusal) => said.push(`${time.bootMs() - 1000} ${key} ${error.code} ${error.retryAfterSeconds}`),
      );
    },
    fail: (key: string, times: number): void => {
      for (let left = times; left > 0; left--) turns.charge(key);
    },
    pass: (ms: number): Promise<void> => time.pass(ms),
  };
}

describe('turns', () => {
  it('are free within the burst, then one after the other; who would wait too long is refused later, other keys are not touched', async () => {
    const { ask, fail, pass, said } = world();
    fail('a', 10);
    for (const key of ['a', 'a', 'b']) ask(key);
    await pass(0);
    expect(said.splice(0)).toEqual(['0 a free', '0 a free', '0 b free']);
    fail('a', 1);
    for (let count = 0; count < 6; count++) ask('a');
    ask('b');
    await pass(100);
    expect(said).toEqual([
      '0 b free',
      '10 a turn',
      '20 a turn',
      '30 a turn',
      '40 a turn',
      '60 a request_rate_limited 1',
      '60 a request_rate_limited 1',
    ]);
  });
  it('are free again when time has paid the debt, which no flood makes larger than burst and wait', async () => {
    const { ask, fail, pass, said } = world();
    fail('a', 1000);
    await pass(40);
    ask('a');
    await pass(20);
    ask('a');
    await pass(0);
    expect(said).toEqual(['50 a turn', '60 a free']);
  });
  it('are remembered for so many keys, those that failed last', async () => {
    const { ask, fail, pass, said } = world();
    fail('a', 15);
    fail('b', 15);
    fail('c', 15);
    fail('a', 1);
    fail('d', 15);
    ask('b');
    ask('a');
    await pass(0);
    expect(said).toEqual(['0 b free']);
  });
  it('are waited for by so many at once, the rest is refused at once; waits that nobody ends count no longer', async () => {
    const { ask, fail, pass, said } = world({ mostWaiting: 2, waitMs: 1000 });
    fail('a', 20);
    for (let count = 0; count < 3; count++) ask('a');
    await pass(0);
    expect(said).toEqual(['0 a request_rate_limited 1']);
    await pass(200);
    said.length = 0;
    fail('a', 20);
    ask('a');
    await pass(0);
    expect(said).toEqual([]);
  });
});

it('the network of a client is its IPv4 address or the /64 of its IPv6 address', () => {
  for (const [address, network] of [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:db8::9', '2001:db8:0:0::/64'],
    ['2001:0db8:0000:0000:1::', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['unknown', undefined],
  ] as const)
    expect(clientNetworkOf(address), address).toBe(network);
});

import { expect, it } from 'vitest';

import { agentName } from '../../../cli/instance/home.ts';
import { parseRoutes, pickPool } from '../../../cli/instance/network-pool.ts';

it('reads the ranges that a host routes, without its default route', () => {
  const table = [
    'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT',
    'eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0',
    'eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0',
  ].join('\n');
  expect(parseRoutes(`${table}\n`)).toEqual([{ first: 0xc0a80000, last: 0xc0a800ff }]);
});

it('gives an instance the same range each time, and never one that the host routes', () => {
  const free = pickPool('abcd1234', []);
  expect(free).toMatch(/^10\.2(1[4-9]|2[0-3])\.(0|64|128|192)\.0\/18$/);
  expect(pickPool('abcd1234', [])).toBe(free);
  const [a = 0, b = 0, c = 0] = free.split('.').map((part) => Number.parseInt(part, 10));
  const first = ((a * 256 + b) * 256 + c) * 256;
  expect(pickPool('abcd1234', [{ first: first + 16, last: first + 31 }])).not.toBe(free);
});

it('spreads instances over all ranges', () => {
  const pools = new Set(Array.from({ length: 400 }, (_, n) => pickPool(`id${n}`, [])));
  expect(pools.size).toBe(40);
});

it('makes an agent name that the API takes of any host name', () => {
  expect(agentName('Gpu_Box.lab', 'k3x9zzzz')).toBe('gpu-box-lab-k3x9');
  expect(agentName('---', 'k3x9zzzz')).toBe('machine-k3x9');
});

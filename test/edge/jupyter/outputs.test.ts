/** The log of a kernel over HTTP, with the agent's streams played by the test. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { joinRecord } from '../../../schema/protocol/jupyter-framing.ts';
import { call, send } from '../client.ts';
import { Gateway, type KernelStream, stream } from './gateway.ts';

const kernelId = `krn_${'0'.repeat(26)}`;
let gateway: Gateway;
let path: string;

beforeEach(async () => {
  gateway = new Gateway();
  await gateway.begin();
  const { token } = gateway;
  const made = await call('POST', '/v1/sessions', { token, body: { type: 'interactive', image: 'x' } });
  await gateway.run(String(made.body['id']));
  path = `/v1/sessions/${String(made.body['id'])}/kernels/${kernelId}/outputs`;
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** Asks, and plays the log of a kernel that ends at `end`. */
async function ask(query: string, end: number): Promise<{ answer: Promise<Response>; log: KernelStream }> {
  const answer = send('GET', path + query, { token: gateway.token });
  const first = await gateway.stream();
  expect(first.open).toEqual({ op: 'channels', kernelId });
  first.accept().begin(3, end);
  return { answer, log: (await gateway.stream()).accept() };
}

describe('the outputs of a kernel', () => {
  it('are its records from a place on, up to now', async () => {
    const records = [joinRecord(stream('a', 'r')), joinRecord(stream('b', 'r'))];
    const { answer, log } = await ask('?after=100', 100 + records[0]!.byteLength);
    expect(log.open.after).toEqual({ starts: 3, offset: 100 });
    log.begin(3, 100).write(records[0]!).write(records[1]!);
    const response = await answer;
    expect(response.status).toBe(200);
    expect([response.headers.get('causeway-starts'), response.headers.get('causeway-from')]).toEqual(['3', '100']);
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(new Uint8Array(records[0]!));
  });

  it('are followed until the start ends, and those of an earlier start to its end', async () => {
    for (const [query, starts] of [
      ['?follow=true', 3],
      ['?starts=2', 2],
    ] as const) {
      const record = joinRecord(stream('a', 'r'));
      const { answer, log } = await ask(query, 5);
      expect(log.open.after).toEqual({ starts, offset: 0 });
      log.begin(starts, 0).write(record).tell({ kind: 'ended', end: log.offset, reason: 'exited', restarts: true });
      log.end();
      expect(new Uint8Array(await (await answer).arrayBuffer())).toEqual(new Uint8Array(record));
    }
  });

  it('break off where some are missing, and are refused as the agent refuses them', async () => {
    const { answer, log } = await ask('', 1000);
    log.begin(3, 0).tell({ kind: 'gap', stream: 'stdout', from: 0, to: 500, reason: 'spool-full' });
    await expect((await answer).arrayBuffer()).rejects.toThrow();
    const refused = send('GET', path, { token: gateway.token });
    (await gateway.stream()).refuse('kernel_not_found');
    expect((await refused).status).toBe(404);
    expect((await send('GET', `${path}?after=-1`, { token: gateway.token })).status).toBe(400);
  });
});

/** A session's bytes through the front door, with an agent's data socket played by the test. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { channels, frameTypes } from '../../../schema/protocol/frame.ts';
import { clientProtocol } from '../../../schema/protocol/limits.ts';
import { hubHeaders } from '../../../edge/tunnel/rpc.ts';
import { bootstrapped, call, send } from '../client.ts';
import { BenchAgent } from '../scheduler/bench-agent.ts';
import { dialData, Peer } from '../tunnel/peers.ts';

const { open, opened, data, end, reset } = frameTypes;
const { input, stdout, stderr, control } = channels;
const text = (bytes: string) => new TextEncoder().encode(bytes);

let token: string;
let id: string;
let agent: Peer;
let bench: BenchAgent;

beforeEach(async () => {
  ({ token } = await bootstrapped());
  bench = new BenchAgent(1);
  await bench.enrol();
  const made = await call<{ id: string }>('POST', '/v1/sessions', {
    token,
    body: { type: 'batch', image: 'busybox', command: ['true'] },
  });
  id = made.body.id;
  const { dataHub, epoch, intents } = await bench.attach();
  await bench.acknowledge(intents.map(({ intentId }) => intentId));
  await bench.tell(id, 1, { kind: 'running', containerId: 'c1' });
  agent = await dialData(dataHub, { agentId: bench.agentId, purpose: 'bulk', epoch });
});

/** Waits for the OPEN of the request, and gives its stream and what was asked for. */
async function accept(answer: object = {}): Promise<{ stream: number; asked: unknown }> {
  const { stream, value } = await agent.until('OPEN', () => agent.jsonOf(open).at(-1));
  agent.json(opened, stream, answer);
  return { stream, asked: value['open'] };
}

/** Ends every channel of the agent, behind anything that was sent on it. */
function finish(stream: number): void {
  for (const channel of [stdout, stderr, control]) agent.end(stream, channel);
}

describe('logs', () => {
  it('are the bytes as they were written, with their first offsets in headers', async () => {
    const answering = send('GET', `/v1/sessions/${id}/logs?stream=stdout&offset=10`, { token });
    const { stream, asked } = await accept({ keptFrom: { stdout: 100, stderr: 0 } });
    expect(asked).toMatchObject({ op: 'logs', streams: 'stdout', after: { stdout: 10 }, follow: false });
    const bytes = crypto.getRandomValues(new Uint8Array(50_000));
    agent.data(stream, stdout, bytes, 100);
    finish(stream);
    const response = await answering;
    expect(response.headers.get('causeway-stdout-from')).toBe('100');
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes);
  });

  it('break off visibly when the agent is lost on the way', async () => {
    const answering = send('GET', `/v1/sessions/${id}/logs?follow=true`, { token });
    const { stream } = await accept();
    agent.data(stream, stdout, text('half'));
    const response = await answering;
    agent.socket.close(1001, 'gone');
    await expect(response.text()).rejects.toThrow();
  });

  it('break off where bytes are missing, and go on behind them when they are asked for from there', async () => {
    const gap = text('{"kind":"gap","stream":"stdout","from":3,"to":9,"reason":"retention"}');
    const answering = send('GET', `/v1/sessions/${id}/logs?stream=stdout`, { token });
    const { stream } = await accept({ keptFrom: { stdout: 0, stderr: 0 } });
    agent.data(stream, stdout, text('out'));
    agent.data(stream, control, gap);
    const reader = (await answering).body!.getReader();
    expect((await reader.read()).value).toEqual(text('out'));
    await expect(reader.read()).rejects.toThrow();
    const before = agent.jsonOf(open).length;
    const again = send('GET', `/v1/sessions/${id}/logs?stream=stdout&offset=3`, { token });
    await agent.until('the second OPEN', () => agent.jsonOf(open).length > before);
    const next = await accept({ keptFrom: { stdout: 9, stderr: 0 } });
    agent.data(next.stream, control, gap);
    agent.data(next.stream, stdout, text('more'), 9);
    finish(next.stream);
    const response = await again;
    expect(response.headers.get('causeway-stdout-from')).toBe('9');
    expect(await response.text()).toBe('more');
  });

  it.each([
    ['bytes', 'application/octet-stream'],
    ['events', 'text/event-stream'],
    ['objects', 'application/x-ndjson'],
    ['archives', undefined],
  ])('[S2] [S7] break off as %s where a piece, or the end, overtook some', async (_, accepts) => {
    const line = text('{"kind":"at","stdout":1,"stderr":1}\n');
    for (const isEnd of [false, true]) {
      const before = agent.jsonOf(open).length;
      const answering = accepts
        ? send('GET', `/v1/sessions/${id}/logs?stream=stdout`, { token, headers: { accept: accepts } })
        : send('GET', `/v1/sessions/${id}/files?path=.`, { token });
      await agent.until('its OPEN', () => agent.jsonOf(open).length > before);
      const { stream } = await accept();
      agent.data(stream, stdout, line);
      if (!isEnd) agent.data(stream, stdout, line, 2 * line.length);
      agent.end(stream, stdout, 3 * line.length);
      for (const channel of [stderr, control]) agent.end(stream, channel);
      await expect((await answering).text()).rejects.toThrow(/came where/);
    }
  });

  it('as events end after fifteen minutes with the cursor that goes on behind what was sent', async () => {
    const real = setTimeout;
    const timers = vi
      .spyOn(globalThis, 'setTimeout')
      .mockImplementation(((task: () => void, ms = 0) =>
        real(task, ms === 15 * 60_000 ? 500 : ms)) as typeof setTimeout);
    const headers = { accept: 'text/event-stream' };
    const answering = send('GET', `/v1/sessions/${id}/logs?follow=true`, { token, headers });
    const { stream } = await accept();
    agent.data(stream, stdout, text('out'));
    const reader = (await answering).body!.pipeThrough(new TextDecoderStream()).getReader();
    timers.mockRestore();
    let said = '';
    for (let part = await reader.read(); !part.done; part = await reader.read()) said += part.value;
    expect(said).toMatch(/event: cursor\nid: 1\.3\.0\ndata: .*"stdout":3.*\n\n$/);
  });

  it('as bytes break off at a process that says nothing for an hour, and let go of it', async () => {
    const real = setTimeout;
    const timers = vi
      .spyOn(globalThis, 'setTimeout')
      .mockImplementation(((task: () => void, ms = 0) =>
        real(task, ms === 60 * 60_000 ? 500 : ms)) as typeof setTimeout);
    const answering = send('GET', `/v1/sessions/${id}/logs?follow=true`, { token });
    const { stream } = await accept();
    agent.data(stream, stdout, text('out'));
    await expect((await answering).text()).rejects.toThrow();
    await agent.until('RESET', () => agent.jsonOf(reset).find((each) => each.stream === stream));
    timers.mockRestore();
  });

  it('as events let go of a process when who followed it has gone', async () => {
    const real = setInterval;
    const intervals = vi
      .spyOn(globalThis, 'setInterval')
      .mockImplementation(((task: () => void, ms = 0) => real(task, ms === 15_000 ? 100 : ms)) as typeof setInterval);
    const headers = { accept: 'text/event-stream' };
    const answering = send('GET', `/v1/sessions/${id}/logs?follow=true`, { token, headers });
    const { stream } = await accept();
    await (await answering).body!.cancel();
    await agent.until('RESET', () => agent.jsonOf(reset).find((each) => each.stream === stream));
    intervals.mockRestore();
  });

  it('are events with a cursor when asked for, gaps and exit included, and continue behind it', async () => {
    const headers = { accept: 'text/event-stream' };
    const answering = send('GET', `/v1/sessions/${id}/logs`, { token, headers });
    const { stream } = await accept();
    agent.data(stream, stdout, text('out'));
    agent.data(stream, stderr, text('err'));
    agent.data(stream, control, text('{"kind":"gap","stream":"stdout","from":3,"to":9,"reason":"retention"}'));
    finish(stream);
    const body = await (await answering).text();
    expect(body).toContain(`event: output\nid: 1.3.0\ndata: {"stream":"stdout","offset":0,"base64":"${btoa('out')}"}`);
    expect(body).toContain('id: 1.3.3\n');
    expect(body).toContain('event: gap\n');
    const before = agent.jsonOf(open).length;
    const again = send('GET', `/v1/sessions/${id}/logs`, { token, headers: { ...headers, 'last-event-id': '1.3.3' } });
    await agent.until('the second OPEN', () => agent.jsonOf(open).length > before);
    const next = await accept();
    expect(next.asked).toMatchObject({ after: { stdout: 3, stderr: 3 } });
    finish(next.stream);
    await (await again).text();
  });

  it('[S20] are searched at once for a pattern that counts what takes nothing', async () => {
    const pattern = '((((){9999}){9999}){9999}){9999}';
    const answering = send('GET', `/v1/sessions/${id}/logs?grep=${encodeURIComponent(pattern)}`, { token });
    const { stream, asked } = await accept();
    expect(asked).toMatchObject({ op: 'lines', match: { pattern } });
    finish(stream);
    expect(await (await answering).text()).toBe('');
  });

  it('are asked for by HEAD without a reader, and let go of', async () => {
    const answering = send('HEAD', `/v1/sessions/${id}/logs?follow=true`, { token });
    const { stream } = await accept();
    expect([(await answering).status, (await answering).headers.get('causeway-stdout-from')]).toEqual([200, '0']);
    agent.data(stream, stdout, text('out'));
    await agent.until('RESET', () => agent.jsonOf(reset).find((each) => each.stream === stream));
  });

  it('of a session that was purged are gone, wherever its agent is', async () => {
    await bench.tell(id, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
    await call('DELETE', `/v1/sessions/${id}?purge=true`, { token });
    const { status, body } = await call('GET', `/v1/sessions/${id}/logs`, { token });
    expect([status, body['code'], agent.jsonOf(open)]).toEqual([410, 'session_output_gone', []]);
  });

  it('answer the code of the agent before the first byte', async () => {
    const answering = call('GET', `/v1/sessions/${id}/logs`, { token });
    const { stream } = await agent.until('OPEN', () => agent.jsonOf(open)[0]);
    agent.json(reset, stream, { code: 'session_output_gone', detail: 'gone' });
    expect(await answering).toMatchObject({ status: 410, body: { code: 'session_output_gone' } });
  });

  it('[I5] are of the placement that is asked for, or refused', async () => {
    const answer = await call('GET', `/v1/sessions/${id}/logs?generation=2`, { token });
    expect(answer).toMatchObject({ status: 409, body: { code: 'session_generation_stale' } });
  });

  it('refuse an offset that belongs to no one stream', async () => {
    expect((await call('GET', `/v1/sessions/${id}/logs?offset=5`, { token })).status).toBe(400);
  });
});

describe('sockets', () => {
  it.each(['exec', 'logs', 'ssh', 'ports'])('[K3] [K4] %s speaks the client protocol only', async (kind) => {
    const path = `/v1/sessions/${id}/${kind}`;
    const wrong = { upgrade: 'websocket', 'sec-websocket-protocol': 'causeway.client.v9' };
    expect((await call('GET', path, { token, headers: wrong })).status).toBe(426);
    if (kind !== 'logs') expect((await call('GET', path, { token })).status).toBe(426);
    const right = { upgrade: 'websocket', 'sec-websocket-protocol': clientProtocol };
    const response = await send('GET', path, { token, headers: right });
    expect(response.status).toBe(101);
    expect(response.headers.get('sec-websocket-protocol')).toBe(clientProtocol);
    const client = new Peer(response.webSocket!);
    client.json(open, 1, { op: 'get', path: '' });
    expect((await client.until('RESET', () => client.jsonOf(reset)[0])).value['code']).toBe('tunnel_op_unknown');
    client.socket.close(1000, 'done');
  });

  it.each(['exec', 'execute', 'logs', 'ssh', 'ports'])(
    '[I6] %s leads to the placement that is asked for, or nowhere',
    async (kind) => {
      const headers = { upgrade: 'websocket', 'sec-websocket-protocol': clientProtocol };
      const path = `/v1/sessions/${id}/${kind}`;
      const response = await send('GET', `${path}?generation=1`, { token, headers });
      expect(response.status).toBe(101);
      expect(response.headers.get('causeway-generation')).toBe('1');
      response.webSocket!.accept();
      response.webSocket!.close(1000, 'done');
      const code = 'session_generation_stale';
      expect(await call('GET', `${path}?generation=2`, { token, headers })).toMatchObject({
        status: 409,
        body: { code },
      });
      expect((await call('GET', `${path}?generation=0`, { token, headers })).status).toBe(400);
    },
  );

  it("of a client that claims to be an agent are a client's all the same", async () => {
    const forged = JSON.stringify({ agentId: 'agt_1', groupNumber: 1, purpose: 'bulk', epoch: 1 });
    const headers = {
      upgrade: 'websocket',
      'sec-websocket-protocol': clientProtocol,
      [hubHeaders.agent]: forged,
      [hubHeaders.client]: '{}',
    };
    const response = await send('GET', `/v1/sessions/${id}/exec`, { token, headers });
    expect(response.headers.get('sec-websocket-protocol')).toBe(clientProtocol);
    const client = new Peer(response.webSocket!);
    client.json(open, 1, { op: 'get', path: '' });
    expect((await client.until('RESET', () => client.jsonOf(reset)[0])).value['code']).toBe('tunnel_op_unknown');
    client.socket.close(1000, 'done');
  });
});

describe('files', () => {
  it('go out as they come', async () => {
    const answering = send('GET', `/v1/sessions/${id}/files?path=a/b`, { token });
    const { stream, asked } = await accept();
    expect(asked).toEqual({ op: 'get', path: 'a/b' });
    agent.data(stream, stdout, text('tar'));
    finish(stream);
    expect(await (await answering).text()).toBe('tar');
  });

  it('come in at the offset of the part, and are answered when the agent has them', async () => {
    const query = 'path=a&uploadId=upload-1&offset=7&last=true';
    const answering = call('PUT', `/v1/sessions/${id}/files?${query}`, { token, body: 'part' });
    const { stream, asked } = await accept({ inputOffset: 7 });
    expect(asked).toEqual({ op: 'put', path: 'a', uploadId: 'upload-1', offset: 7, last: true });
    const part = await agent.until('DATA', () => agent.frames.find(({ type }) => type === data));
    expect(part).toMatchObject({ offset: 7, flags: input, payload: text('part') });
    await agent.until('END', () => agent.frames.filter(({ type }) => type === end).length === 2);
    finish(stream);
    expect((await answering).status).toBe(204);
  });

  it('answer the refusal of the agent', async () => {
    const query = 'path=a&uploadId=upload-1&offset=7&last=true';
    const answering = call('PUT', `/v1/sessions/${id}/files?${query}`, { token, body: 'part' });
    const { stream } = await agent.until('OPEN', () => agent.jsonOf(open)[0]);
    agent.json(reset, stream, { code: 'session_file_offset', detail: 'continue at 3' });
    expect(await answering).toMatchObject({ status: 409, body: { code: 'session_file_offset' } });
  });

  it('answer the refusal that comes when the agent has read it all', async () => {
    const query = 'path=a&uploadId=upload-2&offset=0&last=true';
    const answering = call('PUT', `/v1/sessions/${id}/files?${query}`, { token, body: 'part' });
    const { stream } = await accept();
    await agent.until('END', () => agent.frames.filter(({ type }) => type === end).length === 2);
    agent.json(reset, stream, { code: 'session_file_archive_unsafe', detail: 'a link out' });
    expect(await answering).toMatchObject({ status: 400, body: { code: 'session_file_archive_unsafe' } });
  });
});

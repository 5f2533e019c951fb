/** Code in, console out, through the front door, with the agent's sockets played by the test. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Executed } from '../../../schema/api/kernel.ts';
import type { ExecuteEvent } from '../../../schema/protocol/execute.ts';
import { channels, frameTypes } from '../../../schema/protocol/frame.ts';
import { joinRecord } from '../../../schema/protocol/jupyter-framing.ts';
import { ControlHub } from '../../../edge/tunnel/control-hub-object.ts';
import { bootstrapped, call } from '../client.ts';
import { BenchAgent } from '../scheduler/bench-agent.ts';
import { dialData, Peer } from '../tunnel/peers.ts';

const { open, opened } = frameTypes;
const { stdout, stderr, control } = channels;
const kernelId = `krn_${'0'.repeat(26)}`;
const bytes = (text: string) => new TextEncoder().encode(text);

let token: string;
let id: string;
let agent: Peer;
/** Bytes that the test's agent has sent of the log of the last stream. */
let at: { stdout: number; stderr: number };

beforeEach(async () => {
  ({ token } = await bootstrapped());
  const bench = new BenchAgent(1);
  await bench.enrol();
  const made = await call<{ id: string }>('POST', '/v1/sessions', { token, body: { type: 'interactive', image: 'x' } });
  id = made.body.id;
  const { dataHub, epoch, intents } = await bench.attach();
  await bench.acknowledge(intents.map(({ intentId }) => intentId));
  await bench.tell(id, 1, { kind: 'running', containerId: 'c1' });
  agent = await dialData(dataHub, { agentId: bench.agentId, purpose: 'interactive', epoch });
});

/** Sends one request, and waits for what is asked of the agent. */
async function ask(body: object) {
  const before = agent.jsonOf(open).length;
  const answer = call<Executed>('POST', `/v1/sessions/${id}/execute`, { token, body });
  const { stream, value } = await agent.until('OPEN', () => agent.jsonOf(open)[before]);
  agent.json(opened, stream, {});
  let told = 0;
  const tell = (event: ExecuteEvent) => {
    const said = bytes(JSON.stringify(event));
    agent.data(stream, control, said, told);
    told += said.byteLength;
  };
  return {
    asked: value['open'] as Record<string, unknown>,
    answer,
    tell,
    begin: (from = { stdout: 0, stderr: 0 }, more: { requests?: string } = {}) => {
      at = { ...from };
      tell({ kind: 'begun', kernelId, from, ...more });
    },
    write: (channel: typeof stdout | typeof stderr, text: string | Uint8Array) => {
      const said = typeof text === 'string' ? bytes(text) : text;
      const name = channel === stdout ? 'stdout' : 'stderr';
      agent.data(stream, channel, said, at[name]);
      at[name] += said.byteLength;
    },
  };
}

function record(fields: object): string {
  const json = JSON.stringify(fields);
  return `\x1e${kernelId} .${bytes(json).byteLength}:${json}`;
}

describe('a run', () => {
  it.each([
    ['its end', { kind: 'finished', outcome: { reason: 'finished', exitCode: 0 }, ends: { stdout: 9, stderr: 0 } }],
    ['a request for a line', { kind: 'waiting', at: 9, prompt: '? ', password: false }],
    ['a piece', undefined],
  ] as const)('[S2] [S15] is never answered with less than it wrote: %s overtook some', async (_, early) => {
    const { answer, begin, write, tell } = await ask({ mode: 'query', code: 'x', language: 'bash' });
    begin();
    write(stdout, 'one\n');
    if (early) tell(early);
    else {
      at.stdout += 4;
      write(stdout, 'three');
    }
    const after = { stdout: 4, stderr: 0 };
    expect((await answer).body).toMatchObject({ status: 'continued', console: [['stdout', 'one\n']], after });
  });

  it('is asked for by its code, and answered with its console and end', async () => {
    const { asked, answer, begin, write, tell } = await ask({
      mode: 'query',
      runId: 'r1',
      code: '6 * 7',
      language: 'python',
    });
    expect(asked).toEqual({
      op: 'execute',
      runId: 'r1',
      language: 'python',
      request: { mode: 'query', code: '6 * 7' },
    });
    begin({ stdout: 100, stderr: 5 });
    write(stdout, 'a');
    write(stderr, 'bad');
    write(stdout, 'b\n');
    write(stdout, record({ kind: 'result', id: 'r1', data: { 'text/plain': '42' } }));
    write(stdout, record({ kind: 'display', id: 'r1', data: { 'text/plain': 'x', 'text/html': '<b>' } }));
    write(stdout, record({ kind: 'display', id: 'r1', data: { 'text/plain': 'x', 'image/png': 'AAAA' } }));
    write(stdout, record({ kind: 'error', id: 'r1', name: 'E', message: 'm', traceback: 'at\n' }));
    write(stdout, record({ kind: 'finished', id: 'r1', exitCode: 1 }));
    tell({ kind: 'finished', outcome: { reason: 'finished', exitCode: 1 }, ends: at });
    const { status, body } = await answer;
    expect(status).toBe(200);
    expect(body).toEqual({
      runId: 'r1',
      kernel: kernelId,
      status: 'finished',
      exitCode: 1,
      reason: 'finished',
      console: [
        ['stdout', 'a'],
        ['stderr', 'bad'],
        ['stdout', 'b\n42\n'],
        ['html', '<b>'],
        ['media', ['image/png', 'AAAA']],
        ['stderr', 'at\n'],
      ],
      error: { name: 'E', message: 'm' },
      after: at,
    });
  });

  it('is answered in slices, and goes on behind what was answered, be it within a character or a record', async () => {
    const first = await ask({ mode: 'query', code: 'x', options: { sliceMs: 300 } });
    const text = bytes('caf\u00e9');
    first.begin();
    first.write(stdout, text.subarray(0, 4));
    const half = await first.answer;
    expect(half.body).toMatchObject({
      status: 'continued',
      console: [['stdout', 'caf']],
      after: { stdout: 3, stderr: 0 },
    });
    const { runId, after } = half.body;
    const second = await ask({ mode: 'continue', runId, after, options: { sliceMs: 300 } });
    expect(second.asked).toEqual({ op: 'execute', runId, after });
    const finished = record({ kind: 'finished', id: runId, exitCode: 0 });
    second.begin(after);
    second.write(stdout, text.subarray(3));
    second.write(stdout, finished.slice(0, 40));
    const more = (await second.answer).body;
    expect(more).toMatchObject({ status: 'continued', console: [['stdout', '\u00e9']], after: { stdout: 5 } });
    const third = await ask({ mode: 'continue', runId, after: more.after });
    third.begin(more.after);
    third.write(stdout, finished);
    third.tell({ kind: 'finished', outcome: { reason: 'finished', exitCode: 0 }, ends: at });
    expect((await third.answer).body).toMatchObject({ status: 'finished', exitCode: 0, console: [] });
  });

  it('on a kernel of Jupyter is read from its messages, and goes on behind a whole one', async () => {
    const said = (text: string, id = 'run.j1.1') => {
      const parts = [{ msg_type: 'stream' }, { msg_id: id }, {}, { name: 'stdout', text }];
      return joinRecord({ channel: 'iopub', parts: parts.map((part) => bytes(JSON.stringify(part))) });
    };
    const requests = 'run.j1.';
    const first = await ask({ mode: 'query', runId: 'j1', code: '6 * 7', spec: 'python3', options: { sliceMs: 300 } });
    expect(first.asked).toEqual({
      op: 'execute',
      runId: 'j1',
      spec: 'python3',
      request: { mode: 'query', code: '6 * 7' },
    });
    first.begin({ stdout: 1000, stderr: 0 }, { requests });
    first.write(stdout, said('one '));
    first.write(stdout, said('theirs', 'other'));
    const { stdout: behind } = at;
    first.write(stdout, said('two').subarray(0, 40));
    const half = (await first.answer).body;
    expect(half).toMatchObject({ status: 'continued', kernel: kernelId, console: [['stdout', 'one ']] });
    expect(half.after).toEqual({ stdout: behind, stderr: 0 });
    const second = await ask({ mode: 'continue', runId: 'j1', after: half.after });
    second.begin(half.after, { requests });
    second.write(stdout, said('two'));
    second.tell({ kind: 'waiting', at: at.stdout, prompt: '? ', password: false });
    expect((await second.answer).body).toMatchObject({
      status: 'waiting-input',
      console: [['stdout', 'two']],
      after: at,
    });
    const third = await ask({ mode: 'continue', runId: 'j1', after: at });
    third.begin(at, { requests });
    third.write(stdout, bytes('no record'.repeat(9)));
    third.tell({ kind: 'finished', outcome: { reason: 'finished', exitCode: 0 }, ends: at });
    expect((await third.answer).body).toMatchObject({
      status: 'finished',
      console: [['log', expect.stringContaining('can not be read')]],
    });
  });

  it('that waits for others is answered so, without a kernel', async () => {
    const { answer } = await ask({ mode: 'query', runId: 'r2', code: 'x', options: { sliceMs: 50 } });
    expect((await answer).body).toEqual({
      runId: 'r2',
      status: 'continued',
      console: [],
      after: { stdout: 0, stderr: 0 },
    });
  });

  it('asks for a line, which is answered at the place where it asks', async () => {
    const first = await ask({ mode: 'query', runId: 'r3', code: 'input()' });
    first.begin();
    first.write(stdout, record({ kind: 'input', id: 'r3', prompt: 'key: ', password: true }));
    first.tell({ kind: 'waiting', at: at.stdout, prompt: 'key: ', password: true });
    const { body } = await first.answer;
    expect(body).toMatchObject({ status: 'waiting-input', options: { prompt: 'key: ', isPassword: true }, after: at });
    const second = await ask({ mode: 'input', runId: 'r3', code: 'abc', after: body.after });
    expect(second.asked).toEqual({
      op: 'execute',
      runId: 'r3',
      after: body.after,
      input: { kind: 'input', at: body.after.stdout, text: 'abc' },
    });
    second.begin(body.after);
    second.tell({ kind: 'finished', outcome: { reason: 'oom', signal: 'SIGKILL' }, ends: at });
    expect((await second.answer).body).toMatchObject({
      status: 'finished',
      exitCode: null,
      reason: 'oom',
      console: [['log', 'the kernel ended (oom, SIGKILL)\n']],
    });
  });

  it('of a batch ends a slice at each step, and a slice that ends before it is told of one meets it again', async () => {
    const body = { mode: 'batch', runId: 'r4', options: { clean: 'rm x', build: 'make', sliceMs: 300, timeoutMs: 5 } };
    const first = await ask(body);
    const request = { mode: 'batch', clean: 'rm x', build: 'make', exec: '*' };
    expect(first.asked).toEqual({ op: 'execute', runId: 'r4', timeoutMs: 5, request });
    first.begin();
    first.write(stdout, 'out');
    first.write(stdout, record({ kind: 'finished', id: 'r4', exitCode: 0 }));
    const before = (await first.answer).body;
    expect(before).toMatchObject({ status: 'continued', after: { stdout: 3 } });
    const second = await ask({ mode: 'continue', runId: 'r4', after: before.after });
    second.begin(before.after);
    second.write(stdout, record({ kind: 'finished', id: 'r4', exitCode: 0 }));
    second.tell({ kind: 'step', step: 'clean', exitCode: 0 });
    expect((await second.answer).body).toMatchObject({ status: 'clean-finished', exitCode: 0, console: [], after: at });
    const third = await ask({ mode: 'continue', runId: 'r4', after: at });
    third.begin(at);
    third.tell({ kind: 'gap', stream: 'stderr', from: 0, to: 10, reason: 'spool-full' });
    third.tell({ kind: 'finished', outcome: { reason: 'timeout', exitCode: 130 }, ends: at });
    expect((await third.answer).body).toMatchObject({
      status: 'exec-timeout',
      console: [['log', '10 bytes of stderr are missing (spool-full)\n']],
      after: { stderr: 10 },
    });
  });

  it.each([
    [{ mode: 'continue', runId: 'r1' }, 'after'],
    [{ mode: 'input', runId: 'r1', code: 'x' }, 'after'],
    [{ mode: 'continue', after: { stdout: 0, stderr: 0 } }, 'runId'],
    [{ mode: 'query', code: 'a\0b' }, 'code'],
    [{ mode: 'query', runId: '-x', code: '' }, 'runId'],
  ])('is refused as %j', async (body, path) => {
    const answer = await call<{ code: string; errors: { path: string }[] }>('POST', `/v1/sessions/${id}/execute`, {
      token,
      body,
    });
    expect(answer.body.code).toBe('request_body_invalid');
    expect(answer.body.errors.map((each) => each.path)).toContain(path);
  });
});

describe('kernels', () => {
  it('are started, listed, interrupted, restarted and shut down by calls of the agent', async () => {
    const shown = { id: kernelId, language: 'python', state: 'idle', starts: 1, startedAtMs: 5, queued: 0 };
    const asked: unknown[] = [];
    vi.spyOn(ControlHub.prototype, 'call').mockImplementation((_agent, _id, op, input) => {
      asked.push([op, input]);
      return Promise.resolve({ ok: true, result: op === 'kernels' ? { kernels: [shown] } : { kernel: shown } });
    });
    const path = `/v1/sessions/${id}/kernels`;
    const made = await call('POST', path, { token, body: { id: kernelId, language: 'python' } });
    expect([made.status, made.body]).toEqual([201, shown]);
    expect((await call('GET', path, { token })).body).toEqual({ items: [shown] });
    for (const [method, tail, body] of [
      ['POST', '/interrupt', undefined],
      ['POST', '/restart', { starts: 1 }],
      ['DELETE', '', undefined],
    ] as const)
      expect((await call(method, `${path}/${kernelId}${tail}`, { token, ...(body ? { body } : {}) })).body).toEqual(
        shown,
      );
    const of = { sessionId: id, generation: 1 };
    expect(asked).toEqual([
      ['kernel', { ...of, kernelId, act: { kind: 'start', language: 'python' } }],
      ['kernels', of],
      ['kernel', { ...of, kernelId, act: { kind: 'interrupt' } }],
      ['kernel', { ...of, kernelId, act: { kind: 'restart', starts: 1 } }],
      ['kernel', { ...of, kernelId, act: { kind: 'shutdown' } }],
    ]);
    vi.restoreAllMocks();
  });

  it('of Jupyter are listed by their kernelspecs and started by one, with what starts them anew', async () => {
    const spec = {
      name: 'python3',
      displayName: 'P',
      language: 'python',
      argv: ['p'],
      env: {},
      interruptMode: 'signal',
      metadata: { debugger: true },
    };
    const shown = {
      id: kernelId,
      spec: 'python3',
      restarts: { perMinute: 5 },
      state: 'idle',
      starts: 1,
      startedAtMs: 5,
      queued: 0,
    };
    const acts: unknown[] = [];
    vi.spyOn(ControlHub.prototype, 'call').mockImplementation((_agent, _id, op, input) => {
      if (op === 'kernel') acts.push((input as { act: unknown }).act);
      return Promise.resolve({ ok: true, result: op === 'kernelspecs' ? { specs: [spec] } : { kernel: shown } });
    });
    expect((await call('GET', `/v1/sessions/${id}/kernelspecs`, { token })).body).toEqual({ items: [spec] });
    const start = (body: object) => call('POST', `/v1/sessions/${id}/kernels`, { token, body });
    expect((await start({ spec: 'python3' })).body).toEqual(shown);
    await start({ spec: 'python3', restarts: { perMinute: 1 } });
    await start({ spec: 'python3', restarts: null });
    expect(acts).toEqual([
      { kind: 'startSpec', spec: 'python3', restarts: { perMinute: 5 } },
      { kind: 'startSpec', spec: 'python3', restarts: { perMinute: 1 } },
      { kind: 'startSpec', spec: 'python3' },
    ]);
    for (const wrong of [
      {},
      { spec: 'a/b' },
      { spec: 'x', language: 'python' },
      { spec: 'x', restarts: { perMinute: 0 } },
    ])
      expect((await start(wrong)).body).toMatchObject({ code: 'request_body_invalid' });
    vi.restoreAllMocks();
  });

  it('of an agent of an earlier version are refused with what to do', async () => {
    vi.spyOn(ControlHub.prototype, 'call').mockResolvedValue({ ok: false, code: 'tunnel_op_unknown' });
    const refused = await call<{ code: string }>('GET', `/v1/sessions/${id}/kernels`, { token });
    expect([refused.status, refused.body.code]).toEqual([400, 'tunnel_op_unknown']);
    vi.restoreAllMocks();
  });
});

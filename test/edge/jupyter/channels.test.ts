/** The messages of a kernel through the gateway: a client's socket at one end, the agent's stream (SPEC rule S17) at the other. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { v1Protocol } from '../../../edge/manager/jupyter/client-socket.ts';
import { joinMessage, joinRecord, toRecord } from '../../../schema/protocol/jupyter-framing.ts';
import { fromText } from '../../../edge/manager/jupyter/text-dialect.ts';
import { type JupyterKernel, parseJupyterKernelId } from '../../../schema/api/jupyter.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { call } from '../client.ts';
import { makePerson } from '../accounts/people.ts';
import {
  type Client,
  dial,
  Gateway,
  idleKernel,
  jsonOf,
  type KernelStream,
  message,
  request,
  status,
  stream,
  summary,
  textOf,
  tryDial,
  until,
} from './gateway.ts';

const mebi = 1024 * 1024;
let gateway: Gateway;
let path: string;
let kernelId: string;
let sessionId: string;
let clients: Client[];

beforeEach(async () => {
  gateway = new Gateway();
  clients = [];
  await gateway.begin();
  const made = await call<JupyterKernel>('POST', '/jupyter/api/kernels', { token: gateway.token, body: {} });
  expect(made.status, made.text).toBe(201);
  path = `/jupyter/api/kernels/${made.body.id}/channels`;
  ({ kernelId, sessionId } = parseJupyterKernelId(made.body.id)!);
});
afterEach(async () => {
  for (const { socket, closed } of clients) if (!closed) socket.close(1000);
  await new Promise<void>((resolve) => void setTimeout(resolve, 50));
  vi.restoreAllMocks();
});

async function connect(more: { session?: string; protocol?: string } = { protocol: v1Protocol }): Promise<Client> {
  const client = await dial(path, { token: gateway.token, ...more });
  clients.push(client);
  return client;
}

/** A client at a kernel that runs, of which `offset` bytes were said before. */
async function connected(
  more: { session?: string; protocol?: string } = { protocol: v1Protocol },
): Promise<{ client: Client; kernel: KernelStream }> {
  await gateway.run(sessionId);
  const dialling = connect(more);
  const kernel = (await gateway.stream()).accept().begin(1, 0);
  return { client: await dialling, kernel };
}

const sees = (client: Client, count: number) =>
  until(`${count} messages, not ${client.seen.join(', ')}`, () => client.received.length >= count);

describe('a client', () => {
  it('is taken at once, told that the kernel starts, and heard when it has', async () => {
    const client = await connect({ protocol: v1Protocol, session: 'page-0' });
    client.say(message('shell', 'kernel_info_request', {}, { id: 'early' }));
    // It was placed. Its agent does not know of it yet and is not asked; then it prepares it.
    await until('a sign of life', () => client.seen.includes('iopub status starting'));
    await gateway.bench.acknowledge(await gateway.bench.openIntents(sessionId));
    (await gateway.stream()).refuse('session_not_running');
    await gateway.run(sessionId);
    const first = await gateway.stream();
    expect(first.open).toMatchObject({ op: 'channels', kernelId });
    expect(first.open.after).toBeUndefined();
    first.refuse('kernel_not_found');
    const kernel = (await gateway.stream()).accept().begin(1, 0);
    expect(gateway.asked.map(({ op, input }) => [op, input['act']])).toEqual([
      ['kernel', { kind: 'startSpec', spec: 'python3', restarts: { perMinute: 5 } }],
    ]);
    await until('what it said', () => kernel.said.length === 1);
    expect(kernel.said.map(summary)).toEqual(['shell kernel_info_request']);
    const reply = message('shell', 'kernel_info_reply', {}, { parent: { msg_id: 'early' } });
    kernel.say(reply);
    await sees(client, 2);
    expect(client.raw.at(-1)).toEqual(joinMessage(reply));
  });

  it('is spoken to in the dialect that it asks for, and messages pass byte for byte', async () => {
    const { client, kernel } = await connected();
    gateway.kernels = [idleKernel(kernelId)];
    const listed = await call<JupyterKernel[]>('GET', '/jupyter/api/kernels', { token: gateway.token });
    expect(listed.body.map(({ connections }) => connections)).toEqual([1]);
    const odd = message('iopub', 'display_data', { a: '\u2028' }, { buffers: [new Uint8Array(3), new Uint8Array(0)] });
    kernel.say(odd);
    await sees(client, 1);
    expect(client.raw[0]).toEqual(joinMessage(odd));
    client.socket.send(joinMessage(odd));
    client.say(message('control', 'interrupt_request'));
    await until('the control message', () => kernel.said.length === 1);
    // A client has no business on iopub.
    expect(kernel.said.map(summary)).toEqual(['control interrupt_request']);

    const dialling = connect({});
    const second = (await gateway.stream()).accept().begin(1, kernel.offset);
    const old = await dialling;
    expect(old.socket.protocol ?? '').toBe('');
    second.say(message('iopub', 'stream', { text: 'x' }), odd);
    await until('both', () => old.raw.length === 2);
    expect(JSON.parse(String(old.raw[0]))).toMatchObject({
      channel: 'iopub',
      msg_type: 'stream',
      msg_id: 'm-stream',
      buffers: [],
      content: { text: 'x' },
    });
    expect(fromText(old.raw[1]!).parts.slice(4)).toEqual(odd.parts.slice(4));
    old.socket.send(
      '{"channel":"shell","header":{"msg_id":"1","msg_type":"execute_request"},"content":{"code":"1e999"}}',
    );
    await until('the text', () => second.said.length === 1);
    expect(second.said[0]?.parts.map(textOf)).toEqual([
      '{"msg_id":"1","msg_type":"execute_request"}',
      '{}',
      '{}',
      '{"code":"1e999"}',
    ]);
  });

  it('has its token in a header or in the address, where nobody logs it, and is nobody else', async () => {
    await gateway.run(sessionId);
    const lines: string[] = [];
    for (const level of ['debug', 'info', 'warn', 'error', 'log'] as const)
      vi.spyOn(console, level).mockImplementation((...said: unknown[]) => void lines.push(JSON.stringify(said)));
    expect((await tryDial(path, { query: `x=${gateway.token}` })).status).toBe(400);
    expect((await tryDial(path, { protocol: v1Protocol })).status).toBe(401);
    expect((await tryDial(path, { query: 'token=cwt_no', protocol: v1Protocol })).status).toBe(401);
    expect((await tryDial(path, { token: gateway.token, headers: { upgrade: 'h2' } })).status).toBe(426);
    const byAddress = await tryDial(path, { query: `token=${gateway.token}&session_id=s&1700000000` });
    expect(byAddress.status).toBe(101);
    byAddress.webSocket?.accept();
    byAddress.webSocket?.close(1000);
    const other = await makePerson(gateway.token, 'other');
    const refused = await tryDial(path, { token: other.token, protocol: v1Protocol });
    expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([403, 'access_denied']);
    expect(lines.length).toBeGreaterThan(3);
    expect(lines.join('\n')).not.toContain(gateway.token);
  });

  it('loses nothing that it said last', async () => {
    const { client, kernel } = await connected();
    client.say(message('shell', 'execute_request', {}, { id: 'last' }));
    client.socket.close(1000);
    await until('its last words', () => kernel.said.length === 1);
    const before = gateway.agent.jsonOf(frameTypes.reset).length;
    kernel.tell({ kind: 'taken', offset: kernel.input.bytes.byteLength });
    await until('the end of the stream', () => gateway.agent.jsonOf(frameTypes.reset).length > before);
  });

  it('that is revoked is passed nothing more, and is told', async () => {
    const { client, kernel } = await connected();
    const { body } = await call<{ items: { id: string }[] }>('GET', '/v1/tokens', { token: gateway.token });
    await call('DELETE', `/v1/tokens/${body.items[0]!.id}`, { token: gateway.token });
    await new Promise<void>((resolve) => void setTimeout(resolve, 3_100));
    kernel.say(stream('secret', 'a'));
    await until('the close', () => client.closed !== undefined);
    expect([client.closed?.code, client.received]).toEqual([4401, []]);
  });
});

describe('[S17] a cut between the gateway and the agent', () => {
  it('is healed behind the back of the client: nothing is lost or said twice', async () => {
    const { client, kernel } = await connected();
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((text) => stream(text, 'r'));
    kernel.say(a!, b!);
    client.say(message('shell', 'execute_request', {}, { id: 'one' }));
    client.say(message('shell', 'execute_request', {}, { id: 'two' }));
    await until('both requests', () => kernel.said.length === 2);
    const first = joinRecord(kernel.said[0]!).byteLength;
    kernel.tell({ kind: 'taken', offset: first });
    // The begin of a record that is cut off.
    kernel.write(joinRecord(c!).subarray(0, 50));
    await sees(client, 2);
    gateway.agent.socket.close(1000);
    client.say(message('shell', 'execute_request', {}, { id: 'three' }));
    await gateway.dialAgent();
    const again = await gateway.stream();
    const offset = joinRecord(a!).byteLength + joinRecord(b!).byteLength;
    expect(again.open).toMatchObject({ after: { starts: 1, offset }, writer: kernel.open.writer });
    again.accept(first).begin(1, offset).say(c!, d!);
    await sees(client, 4);
    expect(client.seen.map((each) => each.at(-1))).toEqual(['a', 'b', 'c', 'd']);
    await until('what was not taken', () => again.said.length === 2);
    expect(again.input.offset).toBe(first);
    expect(again.said.map(({ parts }) => jsonOf(parts[0])['msg_id'])).toEqual(['two', 'three']);
    expect(client.closed).toBe(undefined);
  });

  it('by which output went missing is told, as is what the kernel could not be rid of', async () => {
    const { client, kernel } = await connected();
    kernel.say(stream('a', 'r'));
    kernel.write(joinRecord(stream('torn', 'r')).subarray(0, 30));
    kernel.tell({ kind: 'gap', stream: 'stdout', from: kernel.offset, to: 10_000, reason: 'spool-full' });
    kernel.offset = 10_000;
    kernel.say(stream('b', 'r'));
    kernel.note({ kind: 'ready' }).note({ kind: 'lost', messages: 3, bytes: 99 });
    kernel.note({ kind: 'too-large', channel: 'iopub', type: 'display_data', bytes: 40_000_000 }, request('r'));
    kernel.say(stream('c', 'r'));
    await sees(client, 6);
    expect(client.seen[0]).toMatch(/a$/);
    expect(client.seen[1]).toMatch(/^iopub stream \[causeway: \d+ bytes of the kernel's messages are missing here/);
    expect(client.seen[3]).toMatch(/3 messages \(99 bytes\)/);
    expect(client.seen[4]).toMatch(
      /^iopub stream r \[causeway: a message of 40000000 bytes \(display_data\) is too large/,
    );
    expect(client.seen[5]).toMatch(/c$/);
    // Clients take messages of another session for old ones.
    expect(new Set(client.received.map(({ parts }) => jsonOf(parts[0])['session']))).toEqual(
      new Set(['kernel-session']),
    );
  });
});

describe('a kernel', () => {
  it('that dies and starts anew is followed into its next start, also by who comes back when it hears of it', async () => {
    const more = { protocol: v1Protocol, session: 'page-0' };
    const { client, kernel } = await connected(more);
    kernel
      .say(stream('a', 'r'))
      .tell({ kind: 'ended', end: kernel.offset, reason: 'exited', exitCode: 1, restarts: true })
      .end();
    const next = await gateway.stream();
    expect(next.open).toMatchObject({ after: { starts: 2, offset: 0 }, writer: kernel.open.writer });
    next
      .accept()
      .begin(2, 0)
      .say(message('iopub', 'status', { execution_state: 'starting' }));
    await sees(client, 3);
    expect(client.seen).toEqual(['iopub stream r a', 'iopub status restarting', 'iopub status starting']);
    await connect(more);
    expect((await gateway.stream()).open.after).toEqual({ starts: 2, offset: next.offset });
  });

  it('that stays dead is dead, until it is started again', async () => {
    const { client, kernel } = await connected();
    kernel.tell({ kind: 'ended', end: kernel.offset, reason: 'oom', signal: 'SIGKILL', restarts: false }).end();
    await sees(client, 2);
    expect(client.seen).toEqual(['iopub stream [causeway: the kernel has ended (oom)]\n', 'iopub status dead']);
    const waits = await gateway.stream();
    expect(waits.open.after).toEqual({ starts: 2, offset: 0 });
    waits.refuse('session_output_gone');
    const back = await gateway.stream();
    back.accept().begin(2, 0).say(stream('b', 'r'));
    await sees(client, 3);
    expect([client.seen[2], client.closed]).toEqual(['iopub stream r b', undefined]);
  });

  it('that can not be started ends the socket with the reason in words', async () => {
    await gateway.run(sessionId);
    gateway.specs = [];
    const dialling = connect();
    (await gateway.stream()).refuse('kernel_not_found');
    const client = await dialling;
    await until('the close', () => client.closed !== undefined);
    expect(client.closed?.code).toBe(4404);
    expect(client.seen[0]).toMatch(/The image has no kernel of Jupyter for python, nor any other/);
    expect(client.seen[1]).toBe('iopub status dead');
  });

  it('that somebody restarts is followed without a word of death', async () => {
    const { client, kernel } = await connected();
    gateway.kernels = [{ ...idleKernel(kernelId), spec: 'python3' }];
    const restart = path.replace('/channels', '/restart');
    expect((await call('POST', restart, { token: gateway.token, body: {} })).status).toBe(200);
    kernel.tell({ kind: 'ended', end: kernel.offset, reason: 'exited', exitCode: 0, restarts: true }).end();
    (await gateway.stream())
      .accept()
      .begin(2, 0)
      .say(message('iopub', 'status', { execution_state: 'starting' }));
    await sees(client, 1);
    expect(client.seen).toEqual(['iopub status starting']);
  });
});

describe('a client that comes back', () => {
  /** Two executions of `page-1`: one that ended, and one that runs, asked and went on. */
  function talk(kernel: KernelStream): void {
    const mine = 'page-1';
    kernel.say(status('busy', 'done', mine), stream('old', 'done'), status('idle', 'done', mine));
    kernel.say(message('shell', 'execute_reply', {}, { parent: request('done', mine) }), status('busy', 'run', mine));
    kernel.say(stream('a', 'run'), message('iopub', 'comm_open', {}, { parent: request('run') }));
    kernel.say(message('stdin', 'input_request', {}, { id: 'q1', parent: request('run', mine) }), stream('b', 'run'));
    kernel.say(message('stdin', 'input_request', {}, { id: 'q2', parent: request('run', mine) }));
  }
  const toldAnew = [
    'iopub clear_output done',
    'iopub clear_output run',
    'iopub status done busy (replay)',
    'iopub stream done old (replay)',
    'iopub status done idle (replay)',
    'shell execute_reply done',
    'iopub status run busy (replay)',
    'iopub stream run a (replay)',
    'iopub stream run b (replay)',
    'stdin input_request run',
    'iopub stream run c',
    'iopub comm_msg run',
  ];
  const goOn = (kernel: KernelStream) =>
    kernel.say(stream('c', 'run'), message('iopub', 'comm_msg', {}, { parent: request('run') }));

  it('under its session_id goes on where it was, and what it asked for is told anew from its begin', async () => {
    const more = { protocol: v1Protocol, session: 'page-1' };
    const { client, kernel } = await connected(more);
    talk(kernel);
    await sees(client, 10);
    client.socket.close(1000);
    const back = await connect(more);
    const again = await gateway.stream();
    // Of `done` nobody knows whether it was read.
    expect(again.open.after).toEqual({ starts: 1, offset: 0 });
    expect(again.open.writer).not.toBe(kernel.open.writer);
    talk(again.accept().begin(1, 0));
    expect(again.offset).toBe(kernel.offset);
    goOn(again);
    await until('all of it', () => back.seen.includes('iopub comm_msg run'));
    expect(back.seen).toEqual(toldAnew);
  });

  it('and is remembered nowhere is known by what it asked for', async () => {
    await gateway.run(sessionId);
    const client = await connect({ protocol: v1Protocol, session: 'page-1' });
    const [first, kernel] = [(await gateway.stream()).accept(), { offset: 0 }];
    // Where such a log ends.
    const sizes = [status('busy', 'done', 'page-1'), stream('old', 'done'), status('idle', 'done', 'page-1')];
    kernel.offset = sizes.reduce((sum, each) => sum + joinRecord(each).byteLength, 0);
    first.begin(1, kernel.offset);
    const log = (await gateway.stream()).accept().begin(1, 0);
    log.say(...sizes);
    const again = (await gateway.stream())
      .accept()
      .begin(1, 0)
      .say(...sizes);
    again.say(stream('c', 'run'));
    await until('all of it', () => client.seen.includes('iopub stream run c'));
    expect(client.seen).toEqual([toldAnew[0], ...toldAnew.slice(2, 5), 'iopub stream run c']);
  });

  it('under another one is shown what runs and what ran last, marked, and is told nothing twice', async () => {
    const { kernel } = await connected();
    kernel.say(
      status('busy', 'zero'),
      status('idle', 'zero'),
      status('busy', 'one'),
      stream('1', 'one'),
      status('idle', 'one'),
    );
    kernel.say(status('busy', 'two'), stream('2', 'two'));
    const end = kernel.offset;
    const from = joinRecord(status('busy', 'zero')).byteLength + joinRecord(status('idle', 'zero')).byteLength;
    const client = await connect({ protocol: v1Protocol, session: 'page-2' });
    (await gateway.stream()).accept().begin(1, end);
    let again = await gateway.stream();
    if (again.open.after?.offset === 0) {
      // It had to look what is in the log.
      again.accept().begin(1, 0);
      again.say(
        status('busy', 'zero'),
        status('idle', 'zero'),
        status('busy', 'one'),
        stream('1', 'one'),
        status('idle', 'one'),
      );
      again.say(status('busy', 'two'), stream('2', 'two'));
      again = await gateway.stream();
    }
    expect(again.open.after).toEqual({ starts: 1, offset: from });
    again.accept().begin(1, from).say(status('busy', 'one'), stream('1', 'one'), status('idle', 'one'));
    again.say(status('busy', 'two'), stream('2', 'two'), stream('3', 'two'));
    await until('the news', () => client.seen.includes('iopub stream two 3'));
    expect(client.seen).toEqual([
      'iopub status one busy (replay)',
      'iopub stream one 1 (replay)',
      'iopub status one idle (replay)',
      'iopub status two busy (replay)',
      'iopub stream two 2 (replay)',
      'iopub stream two 3',
    ]);
  });

  it('while its old socket is still there, takes its place', async () => {
    const more = { protocol: v1Protocol, session: 'page-3' };
    const { client, kernel } = await connected(more);
    const second = await connect(more);
    (await gateway.stream()).accept().begin(1, 0).say(stream('a', 'r'));
    kernel.say(stream('a', 'r'));
    await sees(second, 1);
    await until('the end of the old one', () => client.closed !== undefined);
    expect([client.closed?.code, client.received]).toEqual([1001, []]);
  });
});

describe('limits', () => {
  it('let a message of 25 MiB pass both ways', async () => {
    const { client, kernel } = await connected();
    const large = message('iopub', 'display_data', {}, { buffers: [new Uint8Array(25 * mebi).fill(7)] });
    const sending = sendUnderCredit(kernel, toRecord(joinMessage(large)));
    await sees(client, 1);
    await sending;
    expect((client.raw[0] as Uint8Array).byteLength).toBe(joinMessage(large).byteLength);
    client.say({ ...large, channel: 'shell' });
    gateway.agent.grant(kernel.stream, 64 * mebi);
    const size = joinRecord({ ...large, channel: 'shell' }).byteLength;
    await until('all of it', () => gateway.agent.dataBytes >= size);
  });

  it('close with a code and a reason what is larger, no message, or too much', async () => {
    const { client } = await connected();
    client.socket.send(new Uint8Array(30 * mebi + 1));
    await until('the close', () => client.closed !== undefined);
    expect(client.closed).toEqual({ code: 1009, reason: `a message has at most ${30 * mebi} bytes` });
    for (const [said, protocol] of [
      ['text', v1Protocol],
      [new Uint8Array(100), v1Protocol],
      ['no JSON', ''],
    ] as const) {
      const other = await connect({ session: 'page-1', ...(protocol === '' ? {} : { protocol }) });
      other.socket.send(said);
      await until('the close', () => other.closed !== undefined);
      expect(other.closed?.code).toBe(1007);
    }
    const eager = await connect({ protocol: v1Protocol, session: 'page-2' });
    const large = message('shell', 'comm_msg', {}, { buffers: [new Uint8Array(25 * mebi)] });
    for (let at = 0; at < 3; at++) eager.say(large);
    await until('the close', () => eager.closed !== undefined);
    expect(eager.closed).toMatchObject({ code: 1008 });
  });

  it('take from the agent no more than a silent client may have unread', async () => {
    const { client, kernel } = await connected();
    // Time that stands still refills nothing, however long this takes.
    const nowMs = performance.now();
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
    const record = toRecord(joinMessage(message('iopub', 'stream', {}, { buffers: [new Uint8Array(mebi)] })));
    let sent = 0;
    const credit = () => gateway.agent.grantedTo(kernel.stream) + 255 * 1024 - sent;
    const pump = async (most: number) => {
      for (let idle = 0; idle < 100 && sent < most;) {
        const at = sent % record.byteLength;
        const part = record.subarray(at, at + Math.min(65_536, credit()));
        kernel.write(part);
        sent += part.byteLength;
        idle = part.byteLength > 0 ? 0 : idle + 1;
        if (part.byteLength === 0) await new Promise<void>((resolve) => void setTimeout(resolve, 10));
      }
    };
    await pump(200 * mebi);
    // 32 MiB of budget, and at most a window of 16 MiB under way.
    expect(sent).toBeGreaterThan(31 * mebi);
    expect(sent).toBeLessThan(50 * mebi);
    const before = sent;
    client.say(message('shell', 'kernel_info_request'));
    await pump(before + 20 * mebi);
    expect(sent).toBeGreaterThan(before + 15 * mebi);
  });

  /** Sends a record as the gateway takes it. */
  async function sendUnderCredit(kernel: KernelStream, record: Uint8Array): Promise<void> {
    for (let at = 0; at < record.byteLength;) {
      const credit = gateway.agent.grantedTo(kernel.stream) + 255 * 1024 - at;
      const part = record.subarray(at, at + Math.min(65_536, credit));
      if (part.byteLength > 0) kernel.write(part);
      else await new Promise<void>((resolve) => void setTimeout(resolve, 5));
      at += part.byteLength;
    }
  }
});

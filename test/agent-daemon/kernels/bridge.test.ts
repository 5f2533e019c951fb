/** `init kernel` against a kernel that does what no kernel should, and against a real one where there is one. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseKernelspecs } from '../../../agent-daemon/kernels/kernelspecs.ts';
import { executeRequest, printed, request, toJupyterRecord } from '../../support/jupyter-messages.ts';
import { byTier, tier } from '../../support/tier.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { initBinary } from '../init/harness.ts';
import { BridgeProcess } from './bridge-process.ts';

const hasIpykernel = spawnSync('python3', ['-c', 'import ipykernel']).status === 0;
const residentKiB = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

describe('the bridge to a kernel', () => {
  it('[J1] [J4] is ready when nothing published is missed, and carries messages both ways', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    const id = bridge.cell({ do: 'print', text: 'hello' }, { do: 'ping' }, { do: 'print', text: ' world' });
    await bridge.whenDone(id);
    expect(printed(bridge.messages, id)).toBe('hello world');
    const types = bridge.messages.map(({ channel, header }) => `${channel} ${String(header['msg_type'])}`);
    expect(types.toSorted()).toEqual(
      [
        'causeway note',
        'iopub status',
        'iopub status',
        'iopub stream',
        'iopub stream',
        'shell execute_reply',
      ].toSorted(),
    );
    const big = request('comm_msg', {}, { buffers: [Buffer.alloc(20_000_000, 7), Buffer.alloc(0), Buffer.from('x')] });
    bridge.say(big.record);
    await bridge.whenDone(big.id);
    const answer = bridge.messages.find(({ channel, parent }) => channel === 'shell' && parent['msg_id'] === big.id);
    expect(answer?.content['buffers']).toEqual([20_000_000, 0, 1]);
  });

  it('carries questions and answers on stdin, and large messages with buffers', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    const id = bridge.cell({ do: 'ask', prompt: 'name? ' }, { do: 'display', bytes: 25_000_000 });
    await until(() => bridge.messages.some(({ channel }) => channel === 'stdin'), { what: 'the question' });
    bridge.say(request('input_reply', { value: 'Ada', status: 'ok' }, { channel: 'stdin' }).record);
    await bridge.whenDone(id);
    expect(printed(bridge.messages, id)).toBe('Ada');
    const display = bridge.messages.find(({ header }) => header['msg_type'] === 'display_data');
    expect(display?.buffers.map((each) => each.byteLength)).toEqual([25_000_000]);
    expect(display?.buffers[0]?.equals(Buffer.alloc(25_000_000, 'b'))).toBe(true);
  });

  it('[J5] drops what the key did not sign, says how much, and goes on', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    const forged = (['key', 'none', 'short'] as const).map((how) => ({ do: 'forge' as const, how }));
    const id = bridge.cell(...forged, { do: 'print', text: 'true' });
    await bridge.whenDone(id);
    expect(printed(bridge.messages)).toBe('true');
    const told = bridge.notes.flatMap((note) => (note['kind'] === 'forged' ? [Number(note['messages'])] : []));
    expect(told.reduce((sum, each) => sum + each, 0)).toBe(3);
  });

  it('[J6] says what a message was that is larger than a record may be', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    const id = bridge.cell({ do: 'display', bytes: 60_000_000 }, { do: 'print', text: 'after' });
    await bridge.whenDone(id);
    expect(printed(bridge.messages, id)).toBe('after');
    const [note] = bridge.notes.filter(({ kind }) => kind === 'too-large');
    expect(note).toMatchObject({ channel: 'iopub', type: 'display_data' });
    expect(Number(note?.['bytes'])).toBeGreaterThan(60_000_000);
    expect(residentKiB(bridge.child.pid ?? 0)).toBeLessThan(64 * 1024);
  });

  it('refuses what is no message of a client, and takes the next', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    const head = (size: number) => Buffer.from([size >>> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255]);
    const bad = [
      toJupyterRecord('iopub', [Buffer.from('{}'), Buffer.from('{}'), Buffer.from('{}'), Buffer.from('{}')]),
      toJupyterRecord('shell', [Buffer.from('{}'), Buffer.from('{}'), Buffer.from('{}')]),
      Buffer.concat([head(3), Buffer.from('abc')]),
      Buffer.concat([head(100), Buffer.alloc(100, 0xff)]),
      head(0),
    ];
    for (const record of bad) bridge.say(record);
    const id = bridge.cell({ do: 'print', text: 'good' });
    await bridge.whenDone(id);
    expect(bridge.notes.filter(({ kind }) => kind === 'refused')).toHaveLength(bad.length);
    expect(printed(bridge.messages, id)).toBe('good');
  });

  it('takes records and frames in pieces of any size', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    const { id, record } = executeRequest(JSON.stringify([{ do: 'print', text: 'piecemeal' }]));
    for (const byte of record) bridge.child.stdin.write(Buffer.from([byte]));
    await bridge.whenDone(id);
    expect(printed(bridge.messages, id)).toBe('piecemeal');
  });

  it(
    '[J7] takes what is published although nobody reads, in bounded memory, and says what is missing',
    { timeout: 600_000 },
    async () => {
      using home = tmpDir('spill');
      await using bridge = await new BridgeProcess({ env: { HOME: home.path } }).whenReady();
      const times = byTier({ daily: 6500, full: 1_000_000 });
      const text = 'x'.repeat(byTier({ daily: 50_000, full: 500 }));
      bridge.child.stdout.pause();
      const id = bridge.cell({ do: 'flood', text, times });
      const after = bridge.cell({ do: 'stderr', text: 'flood is over' });
      await until(() => bridge.stderr.includes('flood is over'), { what: 'the kernel to be free', timeoutMs: 300_000 });
      expect(residentKiB(bridge.child.pid ?? 0)).toBeLessThan(64 * 1024);
      expect(readdirSync(home.path)).toEqual(['.owner']);
      bridge.child.stdout.resume();
      await bridge.whenDone(id, 200_000);
      await bridge.whenDone(after);
      const came = bridge.messages.filter(({ header }) => header['msg_type'] === 'stream').length;
      const lost = bridge.notes.flatMap((note) => (note['kind'] === 'lost' ? [Number(note['messages'])] : []));
      expect(lost.length).toBeGreaterThan(0);
      expect(came + lost.reduce((sum, each) => sum + each, 0)).toBe(times);
      // Once it is read, nothing is missing any more.
      const last = bridge.cell({ do: 'print', text: 'still here' });
      await bridge.whenDone(last);
      expect(printed(bridge.messages, last)).toBe('still here');
    },
  );

  it('[J8] ends as the kernel did, behind all that it said', async () => {
    for (const [step, end] of [
      [
        { do: 'die', code: 3 },
        { code: 3, signal: null },
      ],
      [
        { do: 'die', signal: 'SIGKILL' },
        { code: null, signal: 'SIGKILL' },
      ],
      [
        { do: 'die', code: 0, inMessage: true },
        { code: 0, signal: null },
      ],
    ] as const) {
      await using bridge = await new BridgeProcess().whenReady();
      const id = bridge.cell({ do: 'print', text: 'last words' }, step);
      await bridge.whenClosed();
      expect(bridge.exit).toEqual(end);
      expect(printed(bridge.messages, id)).toBe('last words');
      expect(bridge.reader.rest).toBe(0);
      const how = end.code === null ? { signal: 9 } : { exitCode: end.code };
      expect(bridge.notes.at(-1)).toEqual({ kind: 'ended', ...how });
      expect(bridge.notes.some(({ kind }) => kind === 'lost')).toBe('inMessage' in step);
    }
  });

  it('tells a program that is not there, and one that ends at once', async () => {
    for (const [argv, code] of [
      [['/nowhere/kernel'], 127],
      [['/etc/passwd'], 126],
      [['false'], 1],
    ] as const) {
      await using bridge = new BridgeProcess({ argv: [...argv] });
      await bridge.whenClosed();
      expect(bridge.exit).toEqual({ code, signal: null });
    }
  });

  it('[J9] interrupts by signal or by message, and shuts down politely', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    bridge.child.kill('SIGINT');
    await until(() => bridge.stderr.includes('interrupted'), { what: 'the signal' });
    bridge.child.kill('SIGTERM');
    await bridge.whenClosed();
    expect(bridge.exit).toEqual({ code: 0, signal: null });
    await using left = await new BridgeProcess().whenReady();
    left.child.stdin.end();
    await left.whenClosed();
    expect(left.exit).toEqual({ code: 0, signal: null });
    await using other = await new BridgeProcess({ options: ['--interrupt', 'message'] }).whenReady();
    other.child.kill('SIGINT');
    const id = other.cell({ do: 'print', text: 'alive' });
    await other.whenDone(id);
    expect(other.stderr).not.toContain('interrupted');
  });

  it('survives bytes that are no frames', async () => {
    await using bridge = await new BridgeProcess().whenReady();
    bridge.cell({ do: 'garbage', bytes: 100_000 });
    await until(() => bridge.notes.some(({ kind }) => kind === 'lost'), { what: 'the note' });
    // It connects again, and hears what comes then.
    await until(
      async () => {
        const id = bridge.cell({ do: 'print', text: 'again' });
        await new Promise((resolve) => setTimeout(resolve, 20));
        return printed(bridge.messages, id) === 'again';
      },
      { what: 'output on a new connection' },
    );
  });

  it('leaves nothing behind: no file, no kernel', async () => {
    using home = tmpDir('tidy');
    const bridge = new BridgeProcess({
      argv: ['sh', '-c', 'cat {connection_file} >&2; exit 4'],
      env: { TMPDIR: home.path },
    });
    await bridge.whenClosed();
    expect(bridge.exit).toEqual({ code: 4, signal: null });
    const file = JSON.parse(bridge.stderr) as Record<string, unknown>;
    expect(file).toMatchObject({ ip: '127.0.0.1', transport: 'tcp', signature_scheme: 'hmac-sha256' });
    expect(String(file['key'])).toMatch(/^[0-9a-f]{32}$/);
    expect(readdirSync(home.path)).toEqual(['.owner']);
  });

  it.runIf(hasIpykernel)('drives ipykernel', { timeout: 60_000 }, async () => {
    using home = tmpDir('ipy');
    const argv = ['python3', '-m', 'ipykernel_launcher', '-f', '{connection_file}'];
    await using bridge = await new BridgeProcess({ argv, env: { HOME: home.path } }).whenReady();
    const say = async (code: string) => {
      const { id, record } = executeRequest(code);
      bridge.say(record);
      await bridge.whenDone(id);
      return printed(bridge.messages, id);
    };
    expect(await say('import sys; sys.stdout.write("x" * 50_000_000); print(6 * 7)')).toBe(`${'x'.repeat(5e7)}42\n`);
    const asking = executeRequest('print("hi " + input("name? "))');
    bridge.say(asking.record);
    await until(() => bridge.messages.some(({ channel }) => channel === 'stdin'), { what: 'the question' });
    bridge.say(request('input_reply', { value: 'Ada', status: 'ok' }, { channel: 'stdin' }).record);
    await bridge.whenDone(asking.id);
    expect(printed(bridge.messages, asking.id)).toBe('hi Ada\n');
    const sleeping = executeRequest('print("begun", flush=True); import time; time.sleep(1000)');
    bridge.say(sleeping.record);
    await until(() => printed(bridge.messages, sleeping.id) === 'begun\n', { what: 'the cell to begin' });
    bridge.child.kill('SIGINT');
    await bridge.whenDone(sleeping.id);
    expect(await say('print("state:", 1)')).toBe('state: 1\n');
    bridge.child.kill('SIGTERM');
    await bridge.whenClosed();
    expect(bridge.exit).toEqual({ code: 0, signal: null });
  });
});

describe('the list of kernelspecs', () => {
  const list = (env: Record<string, string>) => {
    const run = spawnSync(initBinary, ['kernelspecs', '--'], { env, encoding: 'utf8' });
    expect(run.stderr).toBe('');
    return parseKernelspecs(run.stdout);
  };

  it('has what lies where Jupyter looks, of a name the first, and nothing that is no kernelspec', () => {
    using root = tmpDir('specs');
    const put = (folder: string, name: string, text: string) => {
      mkdirSync(`${root.path}/${folder}/${name}`, { recursive: true });
      writeFileSync(`${root.path}/${folder}/${name}/kernel.json`, text);
    };
    const spec = (name: string, more: object = {}) =>
      JSON.stringify({
        argv: ['run', '{connection_file}', '{resource_dir}'],
        display_name: name,
        language: 'x',
        ...more,
      });
    put(
      'first/kernels',
      'same',
      spec('First "quoted" \\ and\nmore é', { env: { A: '$HOME/x' }, interrupt_mode: 'message' }),
    );
    put('home/.local/share/jupyter/kernels', 'same', spec('Second'));
    put('home/.local/share/jupyter/kernels', 'mine', spec('Mine'));
    put('venv/share/jupyter/kernels', 'venv', spec('Venv'));
    put('home/.local/share/jupyter/kernels', 'broken', '{"argv":');
    put('home/.local/share/jupyter/kernels', 'empty', '{"argv":[]}');
    put('home/.local/share/jupyter/kernels', 'huge', spec('x'.repeat(100_000)));
    mkdirSync(`${root.path}/venv/bin`);
    writeFileSync(`${root.path}/venv/bin/python3`, '#!/bin/sh\n', { mode: 0o755 });
    const found = list({
      HOME: `${root.path}/home`,
      JUPYTER_PATH: `${root.path}/none:${root.path}/first`,
      PATH: `/bin:${root.path}/venv/bin`,
    });
    const ours = found.filter(({ folder }) => folder.startsWith(root.path));
    expect(ours.map(({ spec: { name } }) => name)).toEqual(['same', 'mine', 'venv']);
    expect(ours[0]?.folder).toBe(`${root.path}/first/kernels/same`);
    expect(ours[0]?.spec).toEqual({
      name: 'same',
      displayName: 'First "quoted" \\ and\nmore é',
      language: 'x',
      argv: ['run', '{connection_file}', '{resource_dir}'],
      env: { A: '$HOME/x' },
      interruptMode: 'message',
      metadata: {},
    });
  });

  it.runIf(tier === 'full')('has at most 64', () => {
    using root = tmpDir('specs');
    for (let i = 0; i < 100; i++) {
      const folder = `${root.path}/kernels/k${i}`;
      mkdirSync(folder, { recursive: true });
      writeFileSync(`${folder}/kernel.json`, '{"argv":["x"]}');
    }
    expect(list({ JUPYTER_PATH: root.path })).toHaveLength(64);
  });
});

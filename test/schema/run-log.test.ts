/** What of a Jupyter kernel's log is a run's, and how it reads: the same from any place, in pieces of any size. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { joinRecord } from '../../schema/protocol/jupyter-framing.ts';
import { openRunLog, type RunItem } from '../../schema/protocol/run-log.ts';

const kernelId = `krn_${'0'.repeat(26)}`;
const from = { stdout: 100, stderr: 0 };
const begun = { kind: 'begun' as const, kernelId, from, requests: 'run.r1.' };
const bytes = (text: string) => new TextEncoder().encode(text);

function message(
  type: string,
  content: object | string,
  { channel = 'iopub', id = 'run.r1.1' }: { channel?: string; id?: string } = {},
): Uint8Array {
  const said = typeof content === 'string' ? content : JSON.stringify(content);
  const parts = [JSON.stringify({ msg_type: type }), JSON.stringify({ msg_id: id }), '{}', said].map(bytes);
  return joinRecord({ channel, parts });
}

const stream = (text: string, name = 'stdout', id?: string) =>
  message('stream', { name, text }, id === undefined ? {} : { id });

function read(log: Uint8Array): RunItem[] {
  return openRunLog(begun, 'r1').push('stdout', from.stdout, log);
}

/** Without places, adjacent text of a stream joined. */
function told(items: readonly RunItem[]): unknown[] {
  return items.map((item) => {
    if (item.kind === 'bytes') return [item.stream, new TextDecoder().decode(item.bytes)];
    return item.kind === 'record' ? item.record : item.words;
  });
}

describe('the log of a run on a kernel of Jupyter', () => {
  it('has output and records of the run, and nothing of others', () => {
    const items = read(
      Buffer.concat([
        message('status', { execution_state: 'busy' }),
        stream('caf\u00e9 \ud83d\ude00'),
        stream('theirs', 'stdout', 'run.r1x.1'),
        stream('theirs', 'stdout', 'other'),
        stream('bad', 'stderr', 'run.r1.2'),
        message('comm_msg', { data: {} }),
        message('input_request', { prompt: '?' }, { channel: 'stdin' }),
        message('update_display_data', { data: { 'text/html': ['<b>', '</b>'], 'application/x+json': ['a'] } }),
        message('error', { ename: 'E', evalue: 'v', traceback: [] }),
        message('complete_reply', { matches: ['a', 5, 'b'], cursor_start: 2, cursor_end: 5 }, { channel: 'shell' }),
        message(
          'execute_reply',
          { payload: [{ source: 'page', data: { 'text/plain': 'help' } }] },
          { channel: 'shell' },
        ),
      ]),
    );
    expect(told(items)).toEqual([
      ['stdout', 'caf\u00e9 \ud83d\ude00'],
      ['stderr', 'bad'],
      { kind: 'display', id: 'r1', data: { 'text/html': '<b></b>', 'application/x+json': '["a"]' } },
      { kind: 'error', id: 'r1', name: 'E', message: 'v', traceback: 'E: v\n' },
      { kind: 'completion', id: 'r1', matches: ['a', 'b'], replaces: 3 },
      { kind: 'display', id: 'r1', data: { 'text/plain': 'help' } },
    ]);
  });

  it('reads the same in pieces of any size, and behind any item that was returned', () => {
    const records = [stream('one'), stream('x', 'stdout', 'other'), stream('two'), message('error', { ename: 'E' })];
    const log = Buffer.concat(records);
    const whole = told(read(log));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), fc.nat(3), (sizes, stop) => {
        let reader = openRunLog(begun, 'r1');
        const items: RunItem[] = [];
        for (let at = 0, turn = 0; at < log.byteLength; turn++) {
          const size = sizes[turn % sizes.length]!;
          items.push(...reader.push('stdout', from.stdout + at, log.subarray(at, at + size)));
          at += size;
          if (turn !== stop) continue;
          // A cut: another reader goes on from there.
          const { position } = reader;
          at = position.stdout - from.stdout;
          reader = openRunLog({ ...begun, from: position }, 'r1');
        }
        expect(told(items)).toEqual(whole);
        expect(reader.position).toEqual({ stdout: from.stdout + log.byteLength, stderr: 0 });
      }),
    );
  });

  it('says what is missing: notes of the bridge, and what can not be read', () => {
    const note = (content: object) => message('note', content, { channel: 'causeway', id: '' });
    const items = read(
      Buffer.concat([
        note({ kind: 'ready' }),
        note({ kind: 'lost', messages: 3, bytes: 999 }),
        message('stream', '{"name":"stdout","text":NaN}'),
        stream('on'),
      ]),
    );
    expect(told(items)).toEqual([
      '3 messages (999 bytes) of the kernel are missing here',
      'a message of the kernel (stream) could not be read',
      ['stdout', 'on'],
    ]);
  });

  it('never fails, whatever comes, and goes on where bytes are missing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
        const reader = openRunLog(begun, 'r1');
        reader.push('stdout', from.stdout, noise);
        reader.skip('stdout', 5000);
        expect(told(reader.push('stdout', 5000, stream('behind')))).toEqual([['stdout', 'behind']]);
      }),
    );
    const reader = openRunLog(begun, 'r1');
    const lost = told(reader.push('stdout', from.stdout, Buffer.alloc(64, 0xff)));
    expect(lost).toEqual(['the log of the kernel can not be read behind 100']);
    expect(reader.push('stdout', from.stdout + 64, stream('x'))).toEqual([]);
  });
});

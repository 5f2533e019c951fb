/** Jupyter's messages as bytes: whatever is said in one form is said in the others, and what is broken is refused. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  FramingError,
  joinMessage,
  joinRecord,
  type Message,
  RecordReader,
  splitMessage,
  toRecord,
} from '../../../schema/protocol/jupyter-framing.ts';
import { fromText, toText } from '../../../edge/manager/jupyter/text-dialect.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (part: Uint8Array | undefined) => new TextDecoder().decode(part);
const jsonPart = fc.json().map(bytes);
const header = fc
  .record({ msg_id: fc.string(), msg_type: fc.string(), session: fc.uuid(), date: fc.string() })
  .map((value) => bytes(JSON.stringify(value)));
const buffers = fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 4 });
const channel = fc.constantFrom('shell', 'iopub', 'stdin', 'control', 'ünï');
const message: fc.Arbitrary<Message> = fc
  .record({ channel, header, others: fc.tuple(jsonPart, jsonPart, jsonPart), buffers })
  .map((parts) => ({ channel: parts.channel, parts: [parts.header, ...parts.others, ...parts.buffers] }));
const plain = ({ channel, parts }: Message) => ({ channel, parts: parts.map((part) => [...part]) });

describe('a message', () => {
  it('comes out of the v1 framing as it went in', () => {
    fc.assert(
      fc.property(message, (each) => {
        const joined = joinMessage(each);
        expect(plain(splitMessage(joined))).toEqual(plain(each));
        expect(joinRecord(each)).toEqual(toRecord(joined));
      }),
    );
  });

  it('is framed as jupyter-server and JupyterLab do', () => {
    const joined = joinMessage({ channel: 'shell', parts: ['{"a":1}', '{}', '{}', '{}', 'BUF'].map(bytes) });
    const view = new DataView(joined.buffer);
    const words = Array.from({ length: 8 }, (_, at) => Number(view.getBigUint64(8 * at, true)));
    // The number of offsets, then where channel, four parts and a buffer begin, and where the last ends.
    expect(words).toEqual([7, 64, 69, 76, 78, 80, 82, 85]);
    expect(text(joined.subarray(64))).toBe('shell{"a":1}{}{}{}BUF');
  });

  it('that is no message is refused, whatever it is', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (each) => {
        try {
          splitMessage(each);
        } catch (error) {
          expect(error).toBeInstanceOf(FramingError);
        }
      }),
    );
    const joined = joinMessage({ channel: 'shell', parts: ['{}', '{}', '{}', '{}'].map(bytes) });
    for (const damage of [
      (view: DataView) => view.setBigUint64(0, 5n, true),
      (view: DataView) => view.setBigUint64(0, 2n ** 60n, true),
      (view: DataView) => view.setBigUint64(8, 7n, true),
      (view: DataView) => view.setBigUint64(16, 2n ** 40n, true),
      (view: DataView) => view.setBigUint64(48, 1000n, true),
      (view: DataView) => view.setBigUint64(24, 57n, true),
    ]) {
      const damaged = joined.slice();
      damage(new DataView(damaged.buffer));
      expect(() => splitMessage(damaged)).toThrow(FramingError);
    }
    expect(() => splitMessage(joined.subarray(0, 20))).toThrow(FramingError);
  });
});

describe('records', () => {
  it('are put together from pieces of any size, at their offsets', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 8 }),
        fc.nat({ max: 1_000_000 }),
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }),
        (messages, start, sizes) => {
          const log = joinAll(messages.map(toRecord));
          const reader = new RecordReader(start);
          const read: { offset: number; end: number; message: number[] }[] = [];
          for (let at = 0, turn = 0; at < log.byteLength; turn++) {
            const size = sizes[turn % sizes.length]!;
            for (const record of reader.push(log.slice(at, at + size)))
              read.push({ ...record, message: [...record.message] });
            at += size;
          }
          let offset = start;
          const expected = messages.map((each) => {
            const record = { offset, end: offset + 4 + each.byteLength, message: [...each] };
            offset = record.end;
            return record;
          });
          expect(read).toEqual(expected);
          expect(reader.position).toBe(offset);
        },
      ),
    );
  });

  it('go on behind a gap, and none is as large as it likes', () => {
    const reader = new RecordReader(0);
    expect([...reader.push(toRecord(bytes('whole')).slice(0, 6))]).toEqual([]);
    reader.skip(500);
    expect([...reader.push(toRecord(bytes('next')))]).toMatchObject([{ offset: 500, end: 508 }]);
    expect(() => [...reader.push(Uint8Array.of(2, 0, 0, 1, 0))]).toThrow(FramingError);
  });
});

function joinAll(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

describe('the dialect without a subprotocol', () => {
  it('says every message, and takes back what it said', () => {
    fc.assert(
      fc.property(message, (each) => {
        const said = toText(each);
        expect(typeof said === 'string').toBe(each.parts.length === 4);
        const taken = fromText(said);
        const orEmpty = (part: Uint8Array) => (text(part).trim() === 'null' ? bytes('{}') : bytes(text(part).trim()));
        expect(plain(taken)).toEqual(
          plain({ channel: each.channel, parts: each.parts.map((part, at) => (at < 4 ? orEmpty(part) : part)) }),
        );
      }),
    );
  });

  it('has the keys that jupyter_client looks for, and buffers behind the JSON', () => {
    const parts = ['{"msg_id":"m1","msg_type":"status"}', '{"p":1}', '{}', '{"big":12345678901234567890,"x":NaN}'];
    const said = toText({ channel: 'iopub', parts: parts.map(bytes) });
    expect(said).toBe(
      '{"header":{"msg_id":"m1","msg_type":"status"},"msg_id":"m1","msg_type":"status","parent_header":{"p":1},' +
        '"metadata":{},"content":{"big":12345678901234567890,"x":NaN},"buffers":[],"channel":"iopub"}',
    );
    const binary = toText({ channel: 'iopub', parts: [...parts.map(bytes), bytes('B1'), bytes('')] }) as Uint8Array;
    const view = new DataView(binary.buffer);
    const [count, first, second, third] = [0, 4, 8, 12].map((at) => view.getUint32(at));
    expect([count, first, third]).toEqual([3, 16, binary.byteLength]);
    expect(text(binary.subarray(second))).toBe('B1');
    expect(JSON.parse(text(binary.subarray(first, second)).replace('NaN', '0'))).toMatchObject({ channel: 'iopub' });
  });

  it('takes values as the texts that they are, in any order and with any spaces', () => {
    const said = ` { "content" : {"s":"}\\"]{", "n":1e400} ,\n"channel":"control","header":{"a":[1,{"b":"\\\\"}]} , "x":[1,2], "metadata":null}`;
    const { channel, parts } = fromText(said);
    expect([channel, ...parts.map(text)]).toEqual([
      'control',
      '{"a":[1,{"b":"\\\\"}]}',
      '{}',
      '{}',
      '{"s":"}\\"]{", "n":1e400}',
    ]);
    expect(fromText('{}')).toMatchObject({ channel: 'shell' });
  });

  it.each([
    '',
    'x',
    '[]',
    '{',
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":}',
    '{"a":,"b":1}',
    '{"a":"x}',
    '{a:1}',
    '{"channel":7}',
    '{"channel":"\\x"}',
  ])('refuses %j', (said) => {
    expect(() => fromText(said)).toThrow(FramingError);
  });

  it('refuses whatever binary is none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (each) => {
        expect(() => fromText(each)).toThrow(FramingError);
      }),
    );
    expect(() => toText({ channel: 'iopub', parts: ['x', '{}', '{}', '{}'].map(bytes) })).toThrow(FramingError);
  });
});

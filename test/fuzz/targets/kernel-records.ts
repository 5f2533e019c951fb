/** The log of a Jupyter kernel: read in any pieces it is the same, and whoever lost its place finds the next record. */
import { RecordReader } from '../../../agent-daemon/kernels/records.ts';
import { toJupyterRecord } from '../../support/jupyter-messages.ts';
import { hold, type Target } from '../fuzzer.ts';

const json = (value: object) => Buffer.from(JSON.stringify(value));
const record = (channel: string, ...buffers: Buffer[]) =>
  toJupyterRecord(channel, [
    json({ msg_type: 'status' }),
    json({}),
    json({}),
    json({ execution_state: 'idle' }),
    ...buffers,
  ]);

export const kernelRecords: Target = {
  name: 'kernel-records',
  maxBytes: 4 * 1024,
  seeds: () => [
    Buffer.concat([record('iopub'), record('shell'), record('causeway')]),
    Buffer.concat([record('stdin', Buffer.alloc(100), Buffer.alloc(0)), record('control', record('iopub'))]),
    Buffer.concat([Buffer.alloc(50), record('iopub')]),
  ],
  run(input, rng) {
    const whole = read(new RecordReader(0), input, input.byteLength || 1);
    hold(read(new RecordReader(0), input, rng.integer(1, 64)) === whole, 'the same in pieces');
    const lost = new RecordReader(0, { isLost: true });
    read(lost, Buffer.concat([input, record('iopub')]), 100);
    hold(
      lost.boundary === undefined || lost.boundary <= input.byteLength + record('iopub').byteLength,
      'it is not beyond what came',
    );
  },
};

function read(reader: RecordReader, bytes: Buffer, size: number): string {
  const found: string[] = [];
  for (let at = 0; at < bytes.byteLength; at += size)
    for (const { offset, end, channel, header, content } of reader.push(bytes.subarray(at, at + size))) {
      hold(end > offset && end <= bytes.byteLength, 'a record that came');
      found.push(`${offset} ${end} ${channel} ${header.toString('hex')} ${content?.toString('hex')}`);
    }
  return found.join('\n');
}

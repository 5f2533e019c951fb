/** The stream engine: two endpoints over memory, every byte accounted for. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  channels,
  decodeFrames,
  encodeFrame,
  encodeFrames,
  FrameError,
  frameTypes,
} from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { Stream } from '../../../schema/protocol/stream.ts';
import type { StreamOpened } from '../../../schema/protocol/streams.ts';
import { Pipe } from './pipe.ts';

const echo = { op: 'echo' } as const;
const { input, stdout, stderr, control } = channels;

/** A pipe whose far end hands each accepted stream out. */
function pair(options: { maxWindowBytes?: number } = {}) {
  const accepted: Stream[] = [];
  const pipe = new Pipe(options, { accept: (stream) => void accepted.push(stream), ...options });
  return { pipe, accepted };
}

async function openPair({ opens }: { opens: StreamOpened | undefined } = { opens: {} }) {
  const { pipe, accepted } = pair();
  const near = pipe.a.endpoint.open(echo);
  await pipe.settle();
  const far = accepted[0]!;
  if (opens) far.opened(opens);
  await pipe.settle();
  return { pipe, near, far };
}

/** Reads a stream to its end; bytes by channel, with their offsets checked for holes. */
async function readAll(stream: Stream): Promise<Record<number, number[]>> {
  const got: Record<number, number[]> = { 0: [], 1: [], 2: [], 3: [] };
  for await (const item of stream.read()) {
    if (!item.end) expect(item.offset).toBe(got[item.channel]!.length);
    for (const byte of item.bytes) got[item.channel]!.push(byte);
  }
  return got;
}

describe('streams', () => {
  it('[S1] opens with an id that is fresh, and answers OPENED', async () => {
    const { pipe, accepted } = pair();
    const one = pipe.a.endpoint.open(echo);
    const two = pipe.a.endpoint.open(echo);
    expect(one.id).not.toBe(two.id);
    await pipe.settle();
    accepted[0]!.opened({ inputOffset: 42 });
    await pipe.settle();
    expect(await one.whenOpened).toEqual({ inputOffset: 42 });
  });

  it('[S1] a refused stream rejects with the code of its RESET', async () => {
    const { pipe, accepted } = pair();
    const near = pipe.a.endpoint.open(echo);
    await pipe.settle();
    accepted[0]!.reset('process_not_found', 'no such process');
    await pipe.settle();
    await expect(near.whenOpened).rejects.toMatchObject({ code: 'process_not_found', detail: 'no such process' });
    await expect(near.write(input, new Uint8Array(1))).rejects.toMatchObject({ code: 'process_not_found' });
    expect(pipe.a.endpoint.streams + pipe.b.endpoint.streams).toBe(0);
  });

  it('[S2] [S3] carries any bytes in order on all channels, however they were cut', async () => {
    const piece = fc.record({ channel: fc.constantFrom(stdout, stderr), size: fc.integer({ min: 1, max: 90_000 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 30 }), async (pieces) => {
        const { pipe, near, far } = await openPair();
        const reading = readAll(near);
        const sent: Record<number, number[]> = { 1: [], 2: [] };
        const writing = (async () => {
          let next = 0;
          for (const { channel, size } of pieces) {
            const bytes = Uint8Array.from({ length: size }, () => next++ & 255);
            for (const byte of bytes) sent[channel]!.push(byte);
            await far.write(channel, bytes);
          }
          far.finish();
        })();
        await pipe.settle();
        await writing;
        const got = await reading;
        expect(got[1]).toEqual(sent[1]);
        expect(got[2]).toEqual(sent[2]);
        await pipe.settle();
        expect(far.over).toEqual({ code: 'ended' });
        expect(near.over).toEqual({ code: 'ended' });
        expect(pipe.largest).toBeLessThanOrEqual(limits.messageBytes);
      }),
      { numRuns: 15 },
    );
  });

  it('[S2] is done with a lent buffer when it says so, and not before', async () => {
    const { pipe, near, far } = await openPair();
    const buffer = new Uint8Array(100_000);
    const reading = readAll(near);
    const lending = (async () => {
      for (let round = 1; round <= 8; round++) {
        buffer.fill(round);
        await far.lend(stdout, buffer);
        buffer.fill(255);
      }
      far.finish();
    })();
    await pipe.settle();
    await lending;
    await pipe.settle();
    const got = (await reading)[1]!;
    expect(got.length).toBe(800_000);
    expect(got.every((byte, at) => byte === Math.floor(at / 100_000) + 1)).toBe(true);
    const late = await openPair();
    const waiting = late.far.lend(stdout, new Uint8Array(1_000_000));
    late.near.reset('client_done');
    await Promise.all([late.pipe.settle(), expect(waiting).rejects.toMatchObject({ code: 'client_done' })]);
  });

  it('[S2] a gap is a jump of the offset, never a step back', async () => {
    const { pipe, near, far } = await openPair();
    void far.write(stdout, new Uint8Array(10));
    void far.writeControl({ kind: 'gap', stream: 'stdout', from: 10, to: 500, reason: 'spool-full' });
    far.seek(stdout, 500);
    void far.write(stdout, new Uint8Array(5));
    far.finish();
    await pipe.settle();
    const seen: string[] = [];
    for await (const { channel, offset, bytes, end } of near.read())
      if (!end) seen.push(`${channel} ${offset} ${bytes.length}`);
    expect(seen).toEqual(['1 0 10', expect.stringMatching(/^3 0 /), '1 500 5']);
    const back = await openPair();
    back.far.seek(stdout, 100);
    void back.far.write(stdout, new Uint8Array(1));
    back.far.seek(stdout, 50);
    void back.far.write(stdout, new Uint8Array(1));
    await back.pipe.settle();
    expect(back.near.over?.code).toBe('tunnel_frame_invalid');
  });

  it.each([
    ['before a piece', [0, 10, 30], undefined],
    ['before its end', [0, 10], 30],
    ['before its begin', [20], undefined],
    ['before all of it', [], 20],
  ])('[S2] [S7] input of which some is missing %s is refused, and never looks whole', async (_, pieces, end) => {
    for (const isOpenedFirst of [true, false]) {
      const { pipe, near, far } = await openPair({ opens: isOpenedFirst ? { inputOffset: 10 } : undefined });
      for (const at of pieces) {
        near.seek(input, at);
        void near.write(input, new Uint8Array(10));
      }
      if (end !== undefined) {
        near.seek(input, end);
        near.end(input);
      }
      await pipe.settle();
      if (!isOpenedFirst && far.over === undefined) far.opened({ inputOffset: 10 });
      await pipe.settle();
      expect(far.over?.code).toBe('tunnel_frame_invalid');
      expect(near.over?.code).toBe('tunnel_frame_invalid');
    }
  });

  it('[S2] [S9] input goes on from where it was taken, or from before that', async () => {
    for (const from of [7, 10]) {
      const { pipe, near, far } = await openPair({ opens: { inputOffset: 10 } });
      near.seek(input, from);
      void near.write(input, new Uint8Array(10));
      near.end(input);
      await pipe.settle();
      const seen: string[] = [];
      for await (const { channel, offset, bytes, end } of far.read()) {
        if (channel !== input) continue;
        seen.push(end ? `end ${offset}` : `${offset} ${bytes.length}`);
        if (end) break;
      }
      expect(seen).toEqual([`${from} 10`, `end ${from + 10}`]);
    }
  });

  it('[S3] stops at 256 KiB while nothing is consumed, whatever the writer wants', async () => {
    const { pipe, near, far } = await openPair();
    void far.write(stdout, new Uint8Array(5_000_000));
    await pipe.settle();
    expect(near.heldBytes).toBe(limits.initialWindowBytes);
    expect(pipe.a.endpoint.heldBytes).toBe(limits.initialWindowBytes);
  });

  it('[S3] who sends beyond the window is reset, others are not', async () => {
    const { pipe, accepted } = pair();
    const [bad, good] = [pipe.a.endpoint.open(echo), pipe.a.endpoint.open(echo)];
    await pipe.settle();
    for (const stream of accepted) stream.opened({});
    await pipe.settle();
    const frame = { type: frameTypes.data, flags: 0, stream: bad.id };
    for (let at = 0; at < 5; at++)
      pipe.b.endpoint.receive(encodeFrame({ ...frame, offset: at * 65_536, payload: new Uint8Array(65_536) }));
    await pipe.settle();
    expect(bad.over?.code).toBe('tunnel_window_exceeded');
    expect(good.over).toBeUndefined();
  });

  it('[S4] grants at a quarter of the window, and grows a bulk window', async () => {
    const run = async (maxWindowBytes: number) => {
      const { pipe, accepted } = pair({ maxWindowBytes });
      const near = pipe.a.endpoint.open(echo);
      await pipe.settle();
      accepted[0]!.opened({});
      near.receive((item) => near.consumed(item.bytes.byteLength));
      void accepted[0]!.write(stdout, new Uint8Array(40_000_000));
      await pipe.settle();
      return near.windowBytes;
    };
    expect(await run(limits.initialWindowBytes)).toBe(limits.initialWindowBytes);
    const grown = await run(limits.maxWindowBytes);
    expect(grown).toBeGreaterThan(limits.initialWindowBytes);
    expect(grown).toBeLessThanOrEqual(limits.maxWindowBytes);
  });

  it('[S5] answers a MARK with the same bytes, behind what was granted before', async () => {
    const { pipe } = await openPair();
    const mark = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    pipe.a.endpoint.receive(encodeFrame({ type: frameTypes.mark, flags: 0, stream: 0, offset: 0, payload: mark }));
    for (const task of pipe.a.tasks.splice(0)) task();
    const frames = decodeFrames(pipe.a.out[0]!.message);
    expect(frames.at(-1)).toMatchObject({ type: frameTypes.marked, stream: 0, payload: mark });
  });

  it('[S7] half-closes: input ends, output goes on, and the stream is over when both have ended', async () => {
    const { pipe, near, far } = await openPair();
    near.end(input);
    await pipe.settle();
    const seen: boolean[] = [];
    const reading = (async () => {
      for await (const item of far.read()) seen.push(item.end);
    })();
    await far.write(stdout, Uint8Array.of(1));
    await pipe.settle();
    expect(seen).toEqual([true]);
    expect(near.over).toBeUndefined();
    far.finish();
    await pipe.settle();
    expect(near.over).toEqual({ code: 'ended' });
    expect(far.over).toEqual({ code: 'ended' });
    await reading;
  });

  it('[S7] DATA behind END, on a channel of the other end, or without a byte breaks the socket', async () => {
    for (const [channel, ended, payload] of [
      [input, true, new Uint8Array(1)],
      [stdout, false, new Uint8Array(1)],
      [input, false, new Uint8Array(0)],
    ] as const) {
      const { pipe, near } = await openPair();
      if (ended) near.end(channel);
      await pipe.settle();
      const frame = { type: frameTypes.data, flags: channel << 1, stream: near.id, offset: 0, payload };
      expect(() => pipe.b.endpoint.receive(encodeFrame(frame))).toThrow(FrameError);
    }
  });

  it('[S8] drops frames of unknown streams, and answers DATA with RESET', async () => {
    const { pipe } = pair();
    const on = (type: 5 | 6 | 4) => ({ type, flags: 0, stream: 99, offset: 0, payload: new Uint8Array(4) });
    pipe.b.endpoint.receive(encodeFrames([on(frameTypes.window), on(frameTypes.end)]));
    expect(pipe.b.tasks).toHaveLength(0);
    pipe.b.endpoint.receive(encodeFrame(on(frameTypes.data)));
    for (const task of pipe.b.tasks.splice(0)) task();
    expect(decodeFrames(pipe.b.out[0]!.message)[0]).toMatchObject({ type: frameTypes.reset, stream: 99 });
  });

  it('[S14] a small stream passes many large ones: each turn is at most 64 KiB', async () => {
    const { pipe, accepted } = pair();
    for (let n = 0; n < 11; n++) pipe.a.endpoint.open(echo);
    await pipe.settle();
    for (const stream of accepted) stream.opened({});
    await pipe.settle();
    for (const stream of accepted.slice(0, 10)) void stream.write(stdout, new Uint8Array(200_000));
    void accepted[10]!.write(stdout, Uint8Array.of(7));
    for (const task of pipe.b.tasks.splice(0)) task();
    const order = pipe.b.out
      .flatMap(({ message }) => decodeFrames(message))
      .map(({ stream, payload }) => ({ stream, length: payload.length }));
    const small = order.findIndex(({ stream }) => stream === accepted[10]!.id);
    expect(small).toBe(10);
    expect(order.every(({ length }) => length <= limits.payloadBytes)).toBe(true);
  });

  it('[K3] carries at most 64 streams, and refuses the next without harm', async () => {
    const { pipe, accepted } = pair();
    for (let n = 0; n < 64; n++) pipe.a.endpoint.open(echo);
    expect(() => pipe.a.endpoint.open(echo)).toThrow(FrameError);
    await pipe.settle();
    expect(accepted).toHaveLength(64);
    const frame = {
      type: frameTypes.open,
      flags: 0,
      stream: 1000,
      offset: 0,
      payload: new TextEncoder().encode('{"op":"echo"}'),
    };
    pipe.b.endpoint.receive(encodeFrame(frame));
    for (const task of pipe.b.tasks.splice(0)) task();
    expect(decodeFrames(pipe.b.out.at(-1)!.message)[0]).toMatchObject({ type: frameTypes.reset, stream: 1000 });
    expect(pipe.b.endpoint.streams).toBe(64);
  });

  it('sends no more than the socket takes: what waits stays with its writer', async () => {
    const accepted: Stream[] = [];
    const pipe = new Pipe(
      {},
      { accept: (stream) => void accepted.push(stream), inFlightBytes: 128 * 1024, messageBytes: 96 * 1024 },
    );
    for (let n = 0; n < 8; n++) pipe.a.endpoint.open(echo);
    await pipe.settle();
    for (const stream of accepted) stream.opened({});
    await pipe.settle();
    for (const stream of accepted) void stream.write(stdout, new Uint8Array(200_000));
    for (const task of pipe.b.tasks.splice(0)) task();
    const underWay = pipe.b.out.reduce((sum, { message }) => sum + message.byteLength, 0);
    expect(underWay).toBeLessThan(256 * 1024);
  });

  it('gathers many small writes into few frames', async () => {
    const { pipe, far } = await openPair();
    for (let n = 0; n < 1000; n++) void far.write(stdout, new Uint8Array(60));
    for (const task of pipe.b.tasks.splice(0)) task();
    const frames = pipe.b.out.flatMap(({ message }) => decodeFrames(message));
    expect(frames).toHaveLength(1);
    expect(frames[0]!.payload.length).toBe(60_000);
  });

  it('holds little more than the bytes themselves when they come one by one', async () => {
    const { pipe, near, far } = await openPair();
    for (let at = 0; at < 20_000; at++)
      pipe.b.endpoint.receive(
        encodeFrame({ type: frameTypes.data, flags: 0, stream: near.id, offset: at, payload: Uint8Array.of(at & 255) }),
      );
    const items = far.read();
    const first = await items.next();
    expect(first.value?.bytes.byteLength).toBe(20_000);
  });

  it('[K6] a peer that asks and never reads is cut off, not remembered', async () => {
    const { pipe } = pair();
    const mark = encodeFrame({ type: frameTypes.mark, flags: 0, stream: 0, offset: 0, payload: new Uint8Array(8) });
    expect(() => {
      for (let n = 0; n < 100_000; n++) pipe.b.endpoint.receive(mark);
    }).toThrow(FrameError);
  });

  it('[K6] garbage never throws anything but FrameError, and holds nothing', async () => {
    const near = { id: 1 };
    const frame = fc.record({
      type: fc.constantFrom(...Object.values(frameTypes)),
      flags: fc.integer({ min: 0, max: 7 }),
      stream: fc.constantFrom(0, near.id, 5, 6),
      offset: fc.integer({ min: 0, max: 1000 }),
      payload: fc.oneof(
        fc.uint8Array({ maxLength: 50 }),
        fc.constantFrom('{"op":"echo"}', '{}', '{"code":"x"}', '[').map((text) => new TextEncoder().encode(text)),
      ),
    });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 40 }), (frames) => {
        const accepted: Stream[] = [];
        const fresh = new Pipe({}, { accept: (stream) => void accepted.push(stream) });
        const target = fresh.b.endpoint;
        try {
          for (const each of frames) {
            target.receive(encodeFrame(each));
            for (const stream of accepted.splice(0)) if (!stream.over) stream.opened({});
          }
        } catch (error) {
          if (!(error instanceof FrameError)) throw error;
        }
        expect(target.heldBytes).toBeLessThanOrEqual(40 * 50);
        expect(target.streams).toBeLessThanOrEqual(3);
      }),
      { numRuns: 500 },
    );
  });

  it('[S12] the loss of the socket ends every stream with its code, writers and readers included', async () => {
    const { pipe, near, far } = await openPair();
    const writing = far.write(stdout, new Uint8Array(5_000_000));
    const reading = readAll(near);
    pipe.b.endpoint.close('tunnel_closed', 'gone');
    pipe.a.endpoint.close('tunnel_closed');
    await expect(writing).rejects.toMatchObject({ code: 'tunnel_closed', detail: 'gone' });
    await expect(reading).rejects.toMatchObject({ code: 'tunnel_closed' });
    expect(await near.whenOver).toEqual({ code: 'tunnel_closed' });
  });

  it('a control message is one frame, and goes whole or waits', async () => {
    const { pipe, near, far } = await openPair();
    void far.write(stdout, new Uint8Array(limits.initialWindowBytes - 10));
    void far.writeControl({ kind: 'exit', exitCode: 0, reason: 'exited' });
    await pipe.settle();
    const seen: unknown[] = [];
    for await (const item of near.read()) {
      if (item.channel === control) {
        seen.push(JSON.parse(new TextDecoder().decode(item.bytes)));
        break;
      }
      await pipe.settle();
    }
    expect(seen).toEqual([{ kind: 'exit', exitCode: 0, reason: 'exited' }]);
  });
});

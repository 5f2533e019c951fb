/** A terminal looked at against a far end made of the real stream engine, cut at chosen moments. */
import { expect, it } from 'vitest';
import { InputLog } from '../../../schema/protocol/input-log.ts';
import { TerminalViewer } from '../../../cli/terminals/viewer.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { Stream } from '../../../schema/protocol/stream.ts';
import type { TerminalEvent } from '../../../schema/protocol/terminal.ts';
import { farEnd, type ServeStream } from '../../support/far-end.ts';

const terminalId = `trm_${'0'.repeat(26)}`;
const window = { rows: 24, columns: 80 };
const bytes = (text: string) => new TextEncoder().encode(text);
const say = (stream: Stream, event: TerminalEvent) => stream.writeControl(event);
const exit = (end: number): TerminalEvent => ({ kind: 'exit', exitCode: 3, reason: 'exited', end });

async function screen(stream: Stream, at: number, text: string): Promise<void> {
  await say(stream, { kind: 'screen', at, bytes: text.length, ...window });
  await stream.write(channels.stderr, bytes(text));
  stream.seek(channels.stdout, at);
}

function look(serve: ServeStream<'terminal'>, log?: InputLog) {
  const seen = { shown: '', cuts: 0 };
  const viewer = new TerminalViewer(
    farEnd(serve),
    { terminalId, window: () => window, ...(log === undefined ? {} : { typing: { log, writer: 'writer-1' } }) },
    {
      clear: () => Promise.resolve(void (seen.shown += '|')),
      write: (piece) => Promise.resolve(void (seen.shown += new TextDecoder().decode(piece))),
      cut: () => void seen.cuts++,
    },
  );
  return { viewer, seen };
}

it('[S18] goes on behind the last byte after a short cut, with the screen where its bytes are gone', async () => {
  const asked: unknown[] = [];
  const { viewer, seen } = look(async (stream, { after }, cut, visit) => {
    asked.push(after);
    stream.opened({});
    if (visit === 0) {
      await screen(stream, 10, 'screen');
      await stream.write(channels.stdout, bytes('ab'));
      setTimeout(cut, 20);
    } else if (visit === 1) {
      stream.seek(channels.stdout, 12);
      await stream.write(channels.stdout, bytes('cd'));
      await say(stream, { kind: 'gap', stream: 'stdout', from: 14, to: 100, reason: 'spool-full' });
      await screen(stream, 100, 'later');
      await stream.write(channels.stdout, bytes('ef'));
      await say(stream, exit(102));
    }
  });
  expect(await viewer.run()).toEqual({ exitCode: 3, signal: undefined, reason: 'exited' });
  expect(asked).toEqual([undefined, 12]);
  expect(seen).toEqual({ shown: '|screenabcd|lateref', cuts: 0 });
  expect(viewer.missedBytes).toBe(86);
});

it('asks for the screen again when one did not come whole, or bytes came where they should not', async () => {
  const asked: unknown[] = [];
  const { viewer, seen } = look(async (stream, { after }, cut, visit) => {
    asked.push(after);
    stream.opened({});
    if (visit === 0) {
      await say(stream, { kind: 'screen', at: 5, bytes: 100, ...window });
      await stream.write(channels.stderr, bytes('half'));
      setTimeout(cut, 20);
    } else if (visit === 1) {
      await screen(stream, 5, 'whole');
      stream.seek(channels.stdout, 9);
      await stream.write(channels.stdout, bytes('lost'));
    } else {
      stream.seek(channels.stdout, 5);
      await stream.write(channels.stdout, bytes('found'));
      await say(stream, exit(10));
    }
  });
  await viewer.run();
  expect(asked).toEqual([undefined, undefined, 5]);
  expect(seen.shown).toBe('|half|wholefound');
});

it('[S19] sends what is typed on from where the far end is, under one name', async () => {
  const log = new InputLog();
  log.push(bytes('typed'), () => undefined);
  const heard: string[] = [];
  const writers: unknown[] = [];
  const { viewer } = look(async (stream, { input }, cut, visit) => {
    writers.push(input);
    const from = visit === 0 ? 0 : 3;
    stream.opened({ inputOffset: from });
    await screen(stream, 0, 's');
    for await (const { channel, bytes: said, end } of stream.read()) {
      if (end || channel !== channels.input) continue;
      heard.push(new TextDecoder().decode(said));
      if (visit === 0) return cut();
      break;
    }
    await say(stream, exit(0));
  }, log);
  await viewer.run();
  expect(heard).toEqual(['typed', 'ed']);
  expect(writers).toEqual([
    { writer: 'writer-1', from: 0 },
    { writer: 'writer-1', from: 5 },
  ]);
});

it('fails for good where waiting does not help, and leaves when it is told to', async () => {
  const refused = look(async (stream) => stream.reset('terminal_not_found', 'no'));
  await expect(refused.viewer.run()).rejects.toMatchObject({ code: 'terminal_not_found' });
  const { viewer } = look(async (stream) => {
    stream.opened({});
    await screen(stream, 0, 's');
    setTimeout(() => viewer.leave(), 20);
  });
  expect(await viewer.run()).toBeUndefined();
});

/** How much the gateway takes for a page that does not read its terminal, over the real stream engine. */
import { afterEach, expect, it } from 'vitest';
import { TerminalBridge } from '../../../edge/manager/jupyter/terminal-bridge.ts';
import { TerminalSocket } from '../../../edge/manager/jupyter/terminal-socket.ts';
import { Unproven } from '../../../edge/manager/jupyter/unproven.ts';
import { Endpoint } from '../../../schema/protocol/endpoint.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { Stream } from '../../../schema/protocol/stream.ts';
import { VirtualTime } from '../../support/virtual-time.ts';
import { until } from './gateway.ts';
import { Page } from './terminal-agent.ts';

const mebi = 1024 * 1024;
const windowBytes = 256 * 1024;
const limits = { capacityBytes: mebi, refillBytesPerSecond: 1024, silenceMs: 60_000 };
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
let page: Page;
afterEach(() => page.leave());

/** A terminal that writes as fast as it is read; `taken`: bytes that went its way. */
function flood() {
  const seen = { taken: 0, asked: [] as (number | undefined)[] };
  const open = async (after: number | undefined) => {
    seen.asked.push(after);
    const ends: { near?: Endpoint; far?: Endpoint } = {};
    const ports = (other: () => Endpoint | undefined) => ({
      send: (message: Uint8Array, sent: () => void) => {
        setTimeout(() => {
          other()?.receive(message);
          sent();
        }, 0);
      },
      soon: (task: () => void) => void setTimeout(task, 0),
      nowMs: () => performance.now(),
    });
    const write = async (far: Stream) => {
      far.opened({ inputOffset: 0 });
      await far.writeControl({ kind: 'screen', at: 0, bytes: 0, rows: 24, columns: 80 });
      const piece = new TextEncoder().encode('x'.repeat(32 * 1024));
      for (;;) {
        await far.write(channels.stdout, piece);
        seen.taken += piece.byteLength;
      }
    };
    const options = { maxWindowBytes: windowBytes };
    ends.near = new Endpoint(
      ports(() => ends.far),
      options,
    );
    ends.far = new Endpoint(
      ports(() => ends.near),
      { ...options, accept: (far) => void write(far).catch(() => undefined) },
    );
    const stream = ends.near.open({ op: 'terminal', terminalId: `trm_${'0'.repeat(26)}` });
    return { stream, opened: await stream.whenOpened, close: () => stream.reset('tunnel_closed') };
  };
  return { seen, open };
}

it('is a budget, and then no more than what its stream holds, until the page says something or is given up', async () => {
  const time = new VirtualTime();
  const { seen, open } = flood();
  const { 0: theirs, 1: ours } = new WebSocketPair();
  ours.accept();
  page = new Page(theirs);
  const bridge = new TerminalBridge(new TerminalSocket(ours, new Unproven(limits, { clock: time, timers: time })), {
    timers: time,
    log,
    open: ({ after }) => open(after),
    stillAllowed: () => Promise.resolve(true),
    isDraining: () => false,
  });
  void bridge.run();
  page.say('set_size', 24, 80);
  const quiet = async () => {
    for (let before = -1; before !== seen.taken;) {
      before = seen.taken;
      await new Promise<void>((resolve) => void setTimeout(resolve, 200));
    }
  };
  await until('a flood', () => seen.taken >= mebi);
  await quiet();
  // What is queued at either end of the stream is bounded by its window and one write.
  const held = 4 * windowBytes;
  expect(seen.taken).toBeLessThan(mebi + held);
  const before = seen.taken;
  page.say('stdin', '');
  await until('more', () => seen.taken >= before + mebi / 2);
  await quiet();
  expect(seen.taken).toBeLessThan(before + mebi + held);
  await time.pass(61_000);
  await until('the close', () => page.closed !== undefined);
  expect(page.closed?.code).toBe(1008);
  expect(seen.asked).toEqual([undefined]);
});

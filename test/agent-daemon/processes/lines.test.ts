/** The operation `lines` over real spools, without a container. */
import { afterEach, expect, it } from 'vitest';
import { LineItem, type LinesOpen } from '../../../schema/protocol/lines.ts';
import type { Soon } from '../../../agent-daemon/init/link-options.ts';
import { Loops } from '../../../agent-daemon/loops.ts';
import type { ProcessSpool } from '../../../agent-daemon/output/process-spool.ts';
import { Spools } from '../../../agent-daemon/output/spools.ts';
import { systemClock, systemDisk, systemSoon } from '../../../agent-daemon/platform.ts';
import { linesStream } from '../../../agent-daemon/processes/lines.ts';
import { mainProcessId, recordOf } from '../../../agent-daemon/sessions/main-process.ts';
import { seededRandom } from '../../support/random.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { keptLog, ManualTimers, noFailpoints } from '../ports.ts';
import { TestStream } from './test-stream.ts';

const sessionId = `ses_${'0'.repeat(26)}_1_1`;
const ref = { sessionId, generation: 1, processId: mainProcessId(sessionId, 1) };
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

interface Bench {
  spool: ProcessSpool;
  lines: ReturnType<typeof linesStream>;
  put(stream: 'stdout' | 'stderr', timeMs: number, text: string | Uint8Array): Promise<void>;
}

async function bench(spoolBytes = 1024 * 1024, soon: Soon = systemSoon): Promise<Bench> {
  const dir = tmpDir('lines');
  const ports = { disk: systemDisk, clock: systemClock, timers: new ManualTimers(), log: keptLog() };
  const loops = new Loops(ports);
  const spools = new Spools({ root: dir.path, totalBytes: 1e9, ...ports, failpoints: noFailpoints, loops });
  await spools.start();
  closing.push(() => spools.stop());
  const spawn = { processId: ref.processId, argv: ['x'], env: {}, cwd: '/', stdin: 'null' as const };
  const record = recordOf(
    { ...spawn, output: { onFull: 'drop', blockMs: 0 } },
    { onFull: 'drop', blockMs: 0, spoolBytes },
    1,
  );
  const spool = await spools.create(ref, record);
  const put: Bench['put'] = async (stream, timeMs, text) => {
    await spool.log(stream).append(spool.log(stream).end, timeMs, Buffer.from(text));
  };
  return { spool, lines: linesStream({ find: () => undefined, spools, nowMs: () => 0, soon }), put };
}

type Asked = Partial<Omit<LinesOpen, 'op'>>;

function open({ lines }: Bench, asked: Asked, stream = new TestStream()) {
  const line: LinesOpen = { op: 'lines', processId: 'main', streams: 'both', follow: false, ...asked };
  const done = lines({ sessionId, generation: 1, actorId: 'usr_test', open: line }, stream);
  done.catch(() => undefined);
  return { stream, done };
}

const itemsOf = (stream: TestStream) =>
  stream
    .text()
    .split('\n')
    .filter((text) => text !== '')
    .map((text) => LineItem.parse(JSON.parse(text)));

async function ask(on: Bench, asked: Asked): Promise<LineItem[]> {
  const { stream, done } = open(on, asked);
  await done;
  return itemsOf(stream);
}
const textsOf = (items: readonly LineItem[]) => items.flatMap((item) => (item.kind === 'line' ? [item.text] : []));
const match = (pattern: string, ignoreCase = false) => ({ match: { pattern, ignoreCase } });

it('[S20] gives both streams in the order of their times, with offsets, times and levels, and the exit behind them', async () => {
  const on = await bench();
  await on.put('stdout', 10, 'one\n');
  await on.put('stderr', 11, 'ERROR: two\n');
  await on.put('stdout', 12, 'three\nfour');
  await on.spool.exited({ exitCode: 3, reason: 'exited', atMs: 13 });
  expect(await ask(on, {})).toEqual([
    { kind: 'line', stream: 'stdout', offset: 0, next: 4, timeMs: 10, text: 'one' },
    { kind: 'line', stream: 'stderr', offset: 0, next: 11, timeMs: 11, level: 'error', text: 'ERROR: two' },
    { kind: 'line', stream: 'stdout', offset: 4, next: 10, timeMs: 12, text: 'three' },
    { kind: 'line', stream: 'stdout', offset: 10, next: 14, timeMs: 12, text: 'four' },
    { kind: 'exit', exitCode: 3, reason: 'exited', ends: { stdout: 14, stderr: 11 } },
  ]);
  expect(textsOf(await ask(on, { streams: 'stderr' }))).toEqual(['ERROR: two']);
});

it('[S20] sends only lines of the pattern, of the times, and the last of those', async () => {
  const on = await bench();
  for (let at = 0; at < 100; at++) await on.put('stdout', 1000 + at, `step ${at} ${at % 10 === 0 ? 'Saved' : 'ran'}\n`);
  await on.spool.exited({ exitCode: 0, reason: 'exited', atMs: 2000 });
  expect(textsOf(await ask(on, match('saved', true)))).toHaveLength(10);
  expect(textsOf(await ask(on, match('saved')))).toEqual([]);
  expect(textsOf(await ask(on, { sinceMs: 1095, untilMs: 1097 }))).toEqual(['step 95 ran', 'step 96 ran']);
  expect(textsOf(await ask(on, { ...match('Saved'), tailLines: 2 }))).toEqual(['step 80 Saved', 'step 90 Saved']);
  expect(textsOf(await ask(on, { ...match('Saved'), tailLines: 1, untilMs: 1050 }))).toEqual(['step 40 Saved']);
  expect(textsOf(await ask(on, { tailLines: 0 }))).toEqual([]);
});

it('[S20] finds a time by the beginnings of files, and reads at most one of them for nothing', async () => {
  const on = await bench(64 * 1024);
  for (let at = 0; at < 60; at++) await on.put('stdout', at, `${String(at).padEnd(1022)}\n`);
  expect(on.spool.log('stdout').segments.length).toBeGreaterThan(6);
  const items = await ask(on, { sinceMs: 50 });
  expect(textsOf(items).map((text) => Number(text))).toEqual([50, 51, 52, 53, 54, 55, 56, 57, 58, 59]);
  const { length } = on.spool.log('stdout').segments.filter(({ firstTimeMs }) => firstTimeMs >= 50);
  expect(length).toBeLessThan(10);
});

it('[S20] shows what is missing in its place, whatever is searched for', async () => {
  const on = await bench(16 * 1024);
  for (let at = 0; at < 40; at++) await on.put('stdout', at, `${String(at).padEnd(1022)}\n`);
  const [first, ...rest] = await ask(on, match('^39'));
  expect(first).toMatchObject({ kind: 'gap', stream: 'stdout', from: 0, reason: 'spool-full' });
  expect(textsOf(rest)).toHaveLength(1);
});

it('[S20] cuts a long line into marked pieces, and carries bytes that are no text', async () => {
  const on = await bench();
  await on.put('stdout', 1, `${'x'.repeat(100_000)}\n`);
  await on.put('stdout', 2, Buffer.from([0xff, 0xfe, 10]));
  const items = await ask(on, {});
  expect(items.map((item) => (item.kind === 'line' ? [item.cut, item.continues, item.next] : []))).toEqual([
    [true, undefined, 65_536],
    [undefined, true, 100_001],
    [undefined, undefined, 100_004],
  ]);
  expect(items[2]).toMatchObject({ base64: Buffer.from([0xff, 0xfe]).toString('base64') });
});

it('[S20] follows, tells how far it has looked, and goes on behind that without a line twice', async () => {
  const on = await bench();
  await on.put('stdout', 1, 'no\nhit 1\nno\n');
  const first = open(on, { ...match('hit'), follow: true });
  await until(() => itemsOf(first.stream).some(({ kind }) => kind === 'at'), { what: 'the place to be told' });
  expect(itemsOf(first.stream).at(-1)).toEqual({ kind: 'at', stdout: 12, stderr: 0 });
  await on.put('stdout', 2, 'hit');
  first.stream.cut();
  await first.done.catch(() => undefined);
  const second = open(on, { ...match('hit'), follow: true, after: { stdout: 12, stderr: 0 } });
  await on.put('stdout', 3, ' 2\n');
  await on.spool.exited({ exitCode: 0, reason: 'exited', atMs: 4 });
  await second.done;
  expect(textsOf(itemsOf(second.stream))).toEqual(['hit 2']);
  expect(itemsOf(second.stream).at(-1)).toMatchObject({ kind: 'exit' });
});

it('[S20] refuses a pattern in words', async () => {
  const on = await bench();
  await expect(open(on, match('(')).done).rejects.toMatchObject({ code: 'session_logs_pattern_invalid' });
});

it('[S20] lets others have their turn by what a search costs, and goes on with one search at a time', async () => {
  let turns = 0;
  let waiting = 0;
  let mostWaiting = 0;
  const on = await bench(1024 * 1024, (task) => {
    turns++;
    mostWaiting = Math.max(mostWaiting, ++waiting);
    systemSoon(() => {
      waiting--;
      task();
    });
  });
  const letters = Array.from(seededRandom(3).bytes(4096), (byte) => (byte % 2 === 0 ? 'a' : 'b')).join('');
  for (let at = 0; at < 4; at++) await on.put('stdout', at, `${letters}\n`);
  await on.spool.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  // Each character leads to places that were met nowhere before.
  const costly = match('a[ab]{150}Z');
  const found = await Promise.all([ask(on, costly), ask(on, costly), ask(on, { ...costly, tailLines: 3 })]);
  expect(found.flatMap(textsOf)).toEqual([]);
  expect(turns).toBeGreaterThan(8);
  expect(mostWaiting).toBe(1);
});

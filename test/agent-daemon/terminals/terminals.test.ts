/** The terminals of a session as clients see them, over a real init and real programs. */
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InitRefusal } from '../../../agent-daemon/init/refusal.ts';
import { newId } from '../../../schema/ids.ts';
import { TerminalRequest } from '../../../schema/api/terminal-parts.ts';
import { until } from '../../support/wait.ts';
import { byTier } from '../../support/tier.ts';
import { TerminalBench, typing } from './bench.ts';

let bench: TerminalBench;
beforeAll(async () => {
  bench = await new TerminalBench().start();
});
afterAll(async () => {
  await bench?.stop();
});

/** Says what it is given, as lines. */
const echo = 'stty -echo; while read -r line; do echo "[$line]"; done';

describe('a terminal', () => {
  it('[S18] shows its exact screen to whoever comes, and goes on byte for byte', async () => {
    const id = await bench.open(`printf '\\e[31mred\\e[0m\\r\\n\\e[5;10Hhere\\e[7m'; ${echo}`);
    const first = bench.view(id, typing());
    await first.whenText('here');
    const second = bench.view(id);
    expect(await second.event('screen')).toMatchObject({ rows: 24, columns: 80 });
    first.stream.input('one\n');
    await Promise.all([first.whenText('[one]'), second.whenText('[one]')]);
    expect(await second.drawn()).toBe(await first.drawn());
    expect((await second.rows())[4]).toMatch(/^ {0,9}.*here/);
    const after = first.position;
    first.stream.cut();
    bench.view(id, typing()).stream.input('two\n');
    await second.whenText('[two]');
    const back = bench.view(id, { after });
    await back.whenText('[two]');
    expect(back.events.filter(({ kind }) => kind === 'screen')).toEqual([]);
    expect(back.stream.writes.find(({ channel }) => channel === 1)?.offset).toBe(after);
  });

  it('[S18] is there as it was when the agent comes back, and nothing is typed twice', async () => {
    const id = await bench.open(`printf '\\e[?1049h\\e[2J\\e[3;5Hfull\\e[?25l\\e[2;8r'; ${echo}`);
    const writer = 'steady-writer';
    const first = bench.view(id, typing(undefined, writer));
    await first.whenText('full');
    first.stream.input('before\n');
    await first.whenText('[before]');
    const wanted = await first.drawn();
    await bench.restart();
    const again = bench.view(id, { input: { writer, from: 7 } });
    await again.event('screen');
    expect(again.stream.info?.inputOffset).toBe(7);
    expect(await again.drawn()).toBe(wanted);
    // Sent again by a client that did not hear that it was taken.
    again.stream.inputAt(0, 'before\nafter\n');
    await again.whenText('[after]');
    expect(again.stream.text().match(/\[before\]/g)).toBeNull();
    expect((await bench.list()).find((each) => each.id === id)).toMatchObject({
      state: 'running',
      viewers: 1,
      writers: 1,
    });
  });

  it('tells its end behind all that it wrote, and shows its last screen afterwards', async () => {
    const id = await bench.open('echo bye; exit 7');
    const first = bench.view(id);
    expect(await first.event('exit')).toMatchObject({ exitCode: 7, reason: 'exited', end: 5 });
    await first.done;
    const later = bench.view(id);
    expect(await later.event('exit')).toMatchObject({ exitCode: 7, end: 5 });
    expect((await later.rows())[0]).toBe('bye');
    await bench.restart();
    const last = bench.view(id, typing());
    expect(await last.event('exit')).toMatchObject({ exitCode: 7, end: 5 });
    expect((await last.rows())[0]).toBe('bye');
    expect((await bench.list()).find((each) => each.id === id)).toMatchObject({
      state: 'ended',
      exit: { exitCode: 7 },
    });
  });

  it('has the size of the window of who typed last, and tells it to all', async () => {
    const id = await bench.open(echo.replace('echo "[$line]"', 'stty size'));
    const wide = bench.view(id, typing({ rows: 30, columns: 100 }));
    await wide.event('screen');
    const narrow = bench.view(id, typing({ rows: 10, columns: 40 }));
    await narrow.event('screen');
    narrow.stream.input('a\n');
    await narrow.whenText('10 40');
    wide.stream.input('b\n');
    await wide.whenText('30 100');
    wide.stream.control({ kind: 'resize', rows: 31, columns: 101 });
    wide.stream.input('c\n');
    await narrow.whenText('31 101');
    expect(narrow.events.filter(({ kind }) => kind === 'window')).toContainEqual({
      kind: 'window',
      rows: 31,
      columns: 101,
    });
    await bench.restart();
    expect(await bench.view(id).event('screen')).toMatchObject({ rows: 31, columns: 101 });
  });

  it('has the size that was kept, also where the agent died before it was told', async () => {
    const id = await bench.open(`echo ready; ${echo.replace('echo "[$line]"', 'stty size')}`);
    await bench.view(id).whenText('ready');
    bench.supervisor.link.resize = () => new Promise(() => undefined);
    bench.view(id, typing({ rows: 33, columns: 103 }));
    const kept = () => readFileSync(join(bench.dir.path, 'terminals'), 'latin1');
    await until(() => kept().includes('"rows":33'), { what: 'the size to be kept' });
    await bench.restart();
    const viewer = bench.view(id, typing({ rows: 33, columns: 103 }));
    await viewer.event('screen');
    viewer.stream.input('a\n');
    await viewer.whenText('33 103');
  });

  it('is answered by the agent when it asks, whoever looks', async () => {
    const id = await bench.open(
      `stty raw -echo; printf 'ab\\e[6n'; head -c 6 | od -An -c; printf '\\e[c'; head -c 3 | od -An -c`,
    );
    const viewers = [bench.view(id), bench.view(id)];
    for (const viewer of viewers) await viewer.whenText('033   [   1   ;   3   R');
  });

  it('keeps few answers for who does not read them, and answers again who has', async () => {
    const id = await bench.open(
      `stty raw -echo min 0 time 20; yes $'\\e[c' | head -c 1000000; printf asked; until [ -e go ]; do sleep 0.1; done
      cat > answers; stty min 1 time 0; printf '\\e[c'; head -c 3 | od -An -c`,
    );
    const viewer = bench.view(id);
    await viewer.whenText('asked');
    // What has been shown has been drawn.
    await bench.view(id).event('screen');
    writeFileSync(join(bench.dir.path, 'home/go'), '');
    await viewer.whenText('033   [   ?');
    const { size } = statSync(join(bench.dir.path, 'home/answers'));
    expect(size).toBeGreaterThan(0);
    // With what the terminal itself holds.
    expect(size).toBeLessThan(256 * 1024);
  });

  it('is made once for an id, and refused under the id of another', async () => {
    const id = newId('terminal', Date.now(), randomBytes(10));
    const request = TerminalRequest.parse({ argv: ['/bin/cat'] });
    const [one, two] = await Promise.all([1, 2].map(() => bench.act(id, { kind: 'start', request })));
    expect(one).toEqual({ ...two, startedAtMs: one!.startedAtMs });
    const other = TerminalRequest.parse({ argv: ['/bin/true'] });
    await expect(bench.act(id, { kind: 'start', request: other })).rejects.toMatchObject({ code: 'terminal_conflict' });
    expect(await bench.act(id, { kind: 'close' })).toMatchObject({ state: 'ended' });
    await expect(bench.act(id, { kind: 'close' })).rejects.toMatchObject({ code: 'terminal_not_found' });
    await expect(bench.view(id).done).rejects.toMatchObject({ code: 'terminal_not_found' });
  });

  it('is started under its id after a start that was refused', async () => {
    const id = newId('terminal', Date.now(), randomBytes(10));
    const request = TerminalRequest.parse({ argv: ['/bin/bash', '--norc', '-c', `echo ready; ${echo}`] });
    const { link } = bench.supervisor;
    const spawn = link.spawn.bind(link);
    link.spawn = () => Promise.reject(new InitRefusal('limit', 'there are too many processes'));
    await expect(bench.act(id, { kind: 'start', request })).rejects.toMatchObject({ code: 'process_limit' });
    link.spawn = spawn;
    expect(await bench.list()).not.toContainEqual(expect.objectContaining({ id }));
    expect(await bench.act(id, { kind: 'start', request })).toMatchObject({ id, state: 'running' });
    await bench.view(id).whenText('ready');
    await bench.restart();
    expect(await bench.act(id, { kind: 'close' })).toMatchObject({ state: 'ended' });
  });

  /** A terminal that is asked for, and whose agent dies before its program is started. */
  async function startAndDie(when: 'is kept' | 'has a place for output') {
    const id = newId('terminal', Date.now(), randomBytes(10));
    const request = TerminalRequest.parse({ argv: ['/bin/bash', '--norc', '-c', `echo ready; ${echo}`] });
    const { supervisor } = bench;
    const reached = Promise.withResolvers<void>();
    const never = () => {
      reached.resolve();
      return new Promise<never>(() => undefined);
    };
    if (when === 'is kept') supervisor.spawn = never;
    else supervisor.link.spawn = never;
    void bench.act(id, { kind: 'start', request });
    await reached.promise;
    await bench.restart();
    return { id, request };
  }

  it.each(['is kept', 'has a place for output'] as const)(
    'is started under its id after the agent died when it %s',
    async (when) => {
      const { id, request } = await startAndDie(when);
      for (const _ of ['once', 'twice'])
        expect(await bench.act(id, { kind: 'start', request })).toMatchObject({ id, state: 'running' });
      const viewer = bench.view(id, typing());
      await viewer.whenText('ready');
      viewer.stream.input('heard\n');
      await viewer.whenText('[heard]');
      expect(await bench.act(id, { kind: 'close' })).toMatchObject({ state: 'ended' });
      // What was closed is not started again.
      await bench.act(id, { kind: 'start', request });
      await expect(bench.view(id).done).rejects.toMatchObject({ code: 'terminal_not_found' });
    },
  );

  it('[S19] is started by the next agent, also when nobody asks again, and takes what is typed', async () => {
    const { id } = await startAndDie('has a place for output');
    const viewer = bench.view(id, typing());
    viewer.stream.input('heard\n');
    await viewer.whenText('[heard]');
    expect(await bench.act(id, { kind: 'close' })).toMatchObject({ state: 'ended' });
  });

  it('has a name that no other one has while it runs, and says when it was busy last', async () => {
    const before = Date.now();
    const id = await bench.open(`echo up; ${echo}`, { name: 'build' });
    await bench.view(id).whenText('up');
    await expect(bench.open('true', { name: 'build' })).rejects.toMatchObject({ code: 'terminal_conflict' });
    await expect(bench.open('true', { name: 'main' })).rejects.toMatchObject({ code: 'terminal_conflict' });
    const shown = async () => (await bench.list()).find((each) => each.id === id)!;
    expect((await shown()).name).toBe('build');
    const active = await until(async () => (await shown()).activeAtMs, { what: 'it to have been busy' });
    expect(active).toBeGreaterThanOrEqual(before);
    await bench.restart();
    expect((await shown()).name).toBe('build');
    await bench.act(id, { kind: 'close' });
    await bench.act(await bench.open(echo, { name: 'build' }), { kind: 'close' });
  });

  it('keeps room for who may type, however many only look', async () => {
    const id = await bench.open(echo);
    const lookers = Array.from({ length: 48 }, () => bench.view(id));
    await Promise.all(lookers.map((each) => each.event('screen')));
    await expect(bench.view(id).done).rejects.toMatchObject({ code: 'tunnel_stream_limit' });
    const typist = bench.view(id, typing());
    await typist.event('screen');
    for (const { stream } of [...lookers, typist]) stream.cut();
    await bench.act(id, { kind: 'close' });
  });

  it('is hung up when nobody has looked for so long, and its end is told', async () => {
    const id = await bench.open('cat', { closeAfterMs: 1000 });
    const viewer = bench.view(id);
    await viewer.event('screen');
    viewer.stream.cut();
    await until(async () => (await bench.list()).find((each) => each.id === id)?.state === 'ended', {
      what: 'its end',
    });
    expect(await bench.view(id).event('exit')).toMatchObject({ signal: 'SIGHUP' });
  });

  it('is hung up after the longest time that can be asked for, and not before', async () => {
    const id = await bench.open('cat', { closeAfterMs: 2_592_000_000 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    const viewer = bench.view(id, typing());
    await viewer.event('screen');
    viewer.stream.input('here\n');
    await viewer.whenText('here');
    viewer.stream.cut();
    expect(await bench.act(id, { kind: 'close' })).toMatchObject({ state: 'ended' });
  });

  it('kills what does not heed a hang-up', async () => {
    const id = await bench.open(`trap '' HUP TERM; echo deaf; while :; do sleep 1; done`);
    await bench.view(id).whenText('deaf');
    expect(await bench.act(id, { kind: 'close' })).toMatchObject({ state: 'ended', exit: { signal: 'SIGKILL' } });
  });

  it('takes one writer at a time if it was made so, and the same one again', async () => {
    const id = await bench.open(echo, { exclusive: true });
    const first = bench.view(id, typing(undefined, 'one-writer'));
    await first.event('screen');
    await expect(bench.view(id, typing()).done).rejects.toMatchObject({ code: 'terminal_busy' });
    const watcher = bench.view(id);
    await watcher.event('screen');
    watcher.stream.input('not mine\n');
    const again = bench.view(id, typing(undefined, 'one-writer'));
    await again.event('screen');
    expect(first.stream.closed.aborted).toBe(true);
    again.stream.input('mine\n');
    await again.whenText('[mine]');
    expect(again.stream.text()).not.toContain('not mine');
  });
});

describe('what is typed', () => {
  it('[S19] arrives whole when two writers paste, over the death of the agent', async () => {
    const bytes = byTier({ daily: 128 * 1024, full: 8 * 1024 * 1024 });
    const id = await bench.open(`stty raw -echo; printf ready; head -c ${2 * bytes} > pasted; sleep 1000`);
    await bench.view(id).whenText('ready');
    // Each client sends on from where the terminal is, is cut at any moment, and comes again.
    const paste = async (text: string, writer: string): Promise<void> => {
      for (let taken = 0; taken < bytes;) {
        const viewer = bench.view(id, { input: { writer, from: taken } });
        const { stream, done } = viewer;
        const isDone = () => stream.info !== undefined || stream.closed.aborted || viewer.error !== undefined;
        await until(isDone, { what: 'opened, or refused', everyMs: 2 });
        if (stream.info !== undefined) {
          taken = stream.info.inputOffset ?? 0;
          for (let at = taken; at < Math.min(bytes, taken + 64 * 1024); at += 4096)
            stream.inputAt(at, text.slice(at, at + 4096));
        }
        await new Promise((resolve) => setTimeout(resolve, 30));
        stream.cut();
        await done.catch(() => undefined);
      }
    };
    const [letters = '', digits = ''] = ['abcdefghijk', '01234567899'].map((each) =>
      each.repeat(bytes / 8).slice(0, bytes),
    );
    const pasting = Promise.all([paste(letters, 'writer-of-letters'), paste(digits, 'writer-of-digits')]);
    await until(() => bench.terminals.list().then((all) => (all.find((each) => each.id === id)?.writers ?? 0) > 0), {
      what: 'a paste',
    });
    await bench.restart();
    await pasting;
    const pasted = () => readFileSync(join(bench.dir.path, 'home/pasted'), 'latin1');
    await until(() => pasted().length === 2 * bytes, { what: 'all of it', timeoutMs: 90_000 });
    expect(pasted().replaceAll(/\d/g, '') === letters).toBe(true);
    expect(pasted().replaceAll(/\D/g, '') === digits).toBe(true);
  });

  it('[S19] is refused while the agent ends: who typed it could not be kept', async () => {
    const id = await bench.open('stty raw -echo; printf ready; head -c 5 > typed; sleep 1000');
    await bench.view(id).whenText('ready');
    const ended = bench.terminals.stop();
    const late = bench.view(id, { input: { writer: 'late-writer', from: 0 } });
    late.stream.input('early');
    await expect(late.done).rejects.toMatchObject({ code: 'session_not_running' });
    await ended;
    await bench.restart();
    const again = bench.view(id, { input: { writer: 'late-writer', from: 0 } });
    await until(() => again.stream.info, { what: 'opened' });
    expect(again.stream.info?.inputOffset).toBe(0);
    again.stream.input('typed');
    const typed = () => readFileSync(join(bench.dir.path, 'home/typed'), 'latin1');
    expect(await until(() => typed().length === 5 && typed(), { what: 'all of it' })).toBe('typed');
  });

  it('[S19] arrives, also where its client leaves behind it at once', async () => {
    const id = await bench.open(`echo ready; ${echo}`);
    const [typist, viewer] = [bench.view(id, typing()), bench.view(id)];
    await Promise.all([typist.whenText('ready'), viewer.whenText('ready')]);
    typist.stream.input('last\n');
    typist.stream.cut();
    await viewer.whenText('[last]');
    await bench.act(id, { kind: 'close' });
  });

  it('interrupts a flood', async () => {
    const id = await bench.open(`trap 'stty sane; printf "\\r\\nheard\\r\\n"; exit 3' INT; yes 0123456789 `);
    const viewer = bench.view(id, typing());
    await until(() => viewer.position > 1024 * 1024, { what: 'a flood', timeoutMs: 90_000 });
    viewer.stream.input('\x03');
    expect(await viewer.event('exit')).toMatchObject({ exitCode: 3 });
    await viewer.done;
    expect((await viewer.rows()).join('\n')).toContain('heard');
  });
});

describe('who can not follow', () => {
  it('[S18] is told what it misses, and gets the screen in its place', async () => {
    const id = await bench.open(`printf '\\e[?1h\\e[3;20r'; seq 1 500000; printf 'last\\e[?25l'; sleep 1000`);
    const slow = bench.view(id);
    slow.stream.windowBytes = 64 * 1024;
    const fast = bench.view(id);
    await fast.whenText('last');
    slow.stream.windowBytes = Number.POSITIVE_INFINITY;
    slow.stream.take(1e9);
    await until(() => slow.position >= fast.position, { what: 'the same place', timeoutMs: 90_000 });
    expect(await slow.drawn()).toBe(await fast.drawn());
    expect(await slow.event('gap')).toMatchObject({ stream: 'stdout', reason: 'spool-full' });
    expect((await slow.event('gap')).to).toBeGreaterThan(512 * 1024);
    const late = bench.view(id);
    await late.event('screen');
    expect(await late.drawn()).toBe(await fast.drawn());
    await bench.restart();
    const later = bench.view(id);
    await later.event('screen');
    expect(await later.drawn()).toBe(await late.drawn());
  });
});

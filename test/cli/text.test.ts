import { describe, expect, it } from 'vitest';
import { dataText, parseEvents } from '../../cli/events.ts';
import { bytesText, plain, slotsText, tableLines } from '../../cli/terminal/table.ts';

it('shows control characters of others instead of obeying them', () => {
  expect(plain('a\x1b]0;evil\x07b\u202e')).toBe('a\\u001b]0;evil\\u0007b\\u202e');
  expect(plain('tab\tand\nline')).toBe('tab\tand\nline');
});

it('writes quantities for people', () => {
  expect([bytesText(0), bytesText(1536), bytesText(4 * 1024 ** 3)]).toEqual(['0 B', '1.50 KiB', '4 GiB']);
  expect(slotsText({ cpu: 1500, mem: 2 * 1024 ** 3 })).toBe('cpu 1.5, mem 2 GiB');
});

it('parses server-sent events cut at any byte', async () => {
  const wire =
    'id: g.1\nevent: message\ndata: {"a":\ndata: 1}\n\n: heartbeat\n\nid: g.2\r\ndata: x\r\n\r\n' +
    ': alive\nid: g.3\n\n: alive\nid: g.3\n\n';
  for (const size of [1, 3, 1000]) {
    const body = (async function* () {
      const all = new TextEncoder().encode(wire);
      for (let at = 0; at < all.length; at += size) yield all.subarray(at, at + size);
    })();
    const found = [];
    for await (const event of parseEvents(body)) found.push(event);
    expect(found).toEqual([
      { id: 'g.1', event: 'message', data: '{"a":\n1}' },
      { id: 'g.2', event: 'message', data: 'x' },
      // From where to go on, although there was nothing to show.
      { id: 'g.3', event: 'message', data: '' },
    ]);
  }
});

it('refuses an endless line', async () => {
  const body = (async function* () {
    for (let at = 0; at < 40; at++) yield new TextEncoder().encode('x'.repeat(65_536));
  })();
  await expect(parseEvents(body).next()).rejects.toThrow('1 MiB');
});

describe('a table', () => {
  const headings = ['NAME', 'ID', 'WHAT'];
  const rows = [['lab', 'ses_0123456789', 'x'.repeat(30)]];

  it('is written whole where there is room', () => {
    expect(tableLines(headings, rows, ['ID'], 80)).toEqual([
      'NAME   ID               WHAT',
      `lab    ses_0123456789   ${'x'.repeat(30)}`,
    ]);
  });

  it('leaves out what can be spared, then cuts the widest, and is never wider than the terminal', () => {
    expect(tableLines(headings, rows, ['ID'], 40)).toEqual(['NAME   WHAT', `lab    ${'x'.repeat(30)}`]);
    expect(tableLines(headings, rows, ['ID'], 20)).toEqual(['NAME   WHAT', `lab    ${'x'.repeat(12)}…`]);
    expect(tableLines(headings, rows, [], 30)[1]!.length).toBeLessThanOrEqual(30);
  });
});

it.each([
  [{ state: 'RUNNING', generation: 1 }, 'RUNNING'],
  [
    { state: 'TERMINATED', reason: { code: 'exited' }, result: { reason: 'exited', exitCode: 3 } },
    'TERMINATED (exited 3)',
  ],
  [{ state: 'PENDING', reason: { code: 'full', detail: '2 wait before it' } }, 'PENDING (2 wait before it)'],
  [{ draining: true }, '{"draining":true}'],
  [{}, ''],
])('an event with %j reads %s', (data, text) => {
  expect(dataText(data)).toBe(text);
});

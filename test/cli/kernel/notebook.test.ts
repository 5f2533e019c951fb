/** Notebooks as files: what a run changes of them, and what it leaves alone. */
import { expect, it } from 'vitest';
import {
  CellOutputs,
  clearOutputs,
  codeOf,
  mayRaise,
  notebookText,
  parseNotebook,
} from '../../../cli/kernel/notebook.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const code = (source: string | string[], more: object = {}) => ({
  cell_type: 'code',
  source,
  metadata: {},
  outputs: [],
  execution_count: null,
  ...more,
});
const notebookOf = (...cells: object[]) =>
  JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: { kernelspec: { name: 'python3' } }, cells });

it('keeps all that has nothing to do with a run, keys that it does not know among them', () => {
  const text = notebookOf(
    { cell_type: 'markdown', source: ['# a\n', 'b'], metadata: { mine: 1 }, id: 'x' },
    code('1', { id: 'y' }),
  );
  expect(JSON.parse(notebookText(parseNotebook(text)))).toEqual(JSON.parse(text));
});

it('refuses in words what is no notebook of format 4', () => {
  expect(() => parseNotebook('nonsense')).toThrow('it is not JSON');
  expect(() => parseNotebook('{"nbformat":3,"metadata":{},"cells":[]}')).toThrow(
    'nbformat: must be a notebook of format 4',
  );
  expect(() => parseNotebook('{"nbformat":4,"metadata":{},"cells":[{}]}')).toThrow(/^cells\.0\.cell_type: /);
});

it('runs cells with code alone, but for those that their author wants skipped, and forgets only their outputs', () => {
  const old = { outputs: [{ output_type: 'stream', name: 'stdout', text: 'old' }], execution_count: 7 };
  const notebook = parseNotebook(
    notebookOf(
      code(['a = 1\n', 'a'], old),
      code(' \n', old),
      code('secret()', { metadata: { tags: ['skip-execution'] }, ...old }),
      { cell_type: 'raw', source: 'raw' },
      code('1 / 0', { metadata: { tags: ['raises-exception'] } }),
    ),
  );
  clearOutputs(notebook);
  expect(notebook.cells.map(codeOf)).toEqual(['a = 1\na', undefined, undefined, undefined, '1 / 0']);
  expect(notebook.cells.map(mayRaise)).toEqual([false, false, false, false, true]);
  expect(notebook.cells.map(({ execution_count }) => execution_count)).toEqual([null, 7, 7, undefined, null]);
});

it('has streams joined, values, displays and errors as nbformat has them, in their order', () => {
  const outputs = new CellOutputs(3);
  const euro = bytes('€\n');
  outputs.write('stdout', bytes('one\ntw'));
  outputs.write('stdout', bytes('o '));
  outputs.write('stdout', euro.subarray(0, 1));
  outputs.write('stdout', euro.subarray(1));
  outputs.write('stderr', bytes('oh'));
  outputs.record({ kind: 'display', id: 'r', data: { 'image/png': 'AAAA', 'application/json': '{"a":[1]}' } });
  outputs.record({ kind: 'result', id: 'r', data: { 'text/plain': 'a\nb' } });
  outputs.record({ kind: 'error', id: 'r', name: 'E', message: 'm', traceback: 'Traceback\nE: m\n' });
  expect(outputs.finish('the kernel ended: oom\n')).toEqual([
    { output_type: 'stream', name: 'stdout', text: ['one\n', 'two €\n'] },
    { output_type: 'stream', name: 'stderr', text: ['oh'] },
    { output_type: 'display_data', data: { 'image/png': 'AAAA', 'application/json': { a: [1] } }, metadata: {} },
    { output_type: 'execute_result', data: { 'text/plain': ['a\n', 'b'] }, metadata: {}, execution_count: 3 },
    { output_type: 'error', ename: 'E', evalue: 'm', traceback: ['Traceback', 'E: m'] },
    { output_type: 'stream', name: 'stderr', text: ['the kernel ended: oom\n'] },
  ]);
});

it('keeps 32 MiB of the output of a cell, and says how much more there was', () => {
  const outputs = new CellOutputs(1);
  const piece = new Uint8Array(1024 * 1024).fill(0x61);
  for (let at = 0; at < 40; at++) outputs.write('stdout', piece);
  const [text, remark] = outputs.finish();
  expect((text!['text'] as string[]).join('').length).toBe(32 * 1024 * 1024);
  expect(remark).toEqual({
    output_type: 'stream',
    name: 'stderr',
    text: [`${8 * 1024 * 1024} bytes more are not kept in this notebook\n`],
  });
});

/** Output for a viewer's terminal: cut or whole it says the same, and nothing of what is left out can be made of it. */
import { OutputFilter } from '../../../schema/terminal/filter.ts';
import { hold, type Target } from '../fuzzer.ts';

export const terminalFilter: Target = {
  name: 'terminal-filter',
  maxBytes: 512,
  seeds: () => [
    Buffer.from('a\x1b[31mb\x1b]8;;https://x\x1b\\c\x1b[?1049h\u009b1m\u009d52;c;eA==\u009c'),
    Buffer.from('\x1b]52;c;eA==\x07\x1bPq1\x1b\\\x1b_Gt=f;eA==\x1b\\\x1b[21t\x1b[c\x1b%@'),
    Buffer.from('\xe2\x82\x9b\xc2\x1b]5\x1b]2;x\x07', 'latin1'),
  ],
  run(input) {
    const queries = input.length % 2 === 0;
    const whole = through(input, queries, input.length);
    hold(whole.equals(through(input, queries, 1)), 'byte by byte it says the same');
    hold(whole.equals(through(input, queries, 1 + ((input[0] ?? 0) % 7))), 'in pieces it says the same');
    const text = whole.toString('latin1');
    // What introduces a string that passes is a link or a mark; of the others not even the introduction does.
    for (const [, body = ''] of text.matchAll(/(?:\x1b\]|\xc2\x9d)([^]{0,5})/g))
      hold(/^(8;|133;)/.test(body), 'only links and marks pass');
    hold(!/\x1b[PX^_kZ%]|\xc2[\x90\x98\x9a\x9e\x9f]|\x05/.test(text), 'nothing else is introduced');
    hold(
      !/\x1b\[[0-9;]*(i|x|[0-9;]*\*y)/.test(text) && !/\x1b\[2?[01]?t/.test(text),
      'no printing, no reports of titles',
    );
  },
};

function through(input: Uint8Array, queries: boolean, size: number): Buffer {
  const filter = new OutputFilter({ queries });
  const passed: Uint8Array[] = [];
  for (let at = 0; at < input.length; at += size) passed.push(filter.push(input.subarray(at, at + size)).slice());
  return Buffer.concat(passed);
}

/** Runs a program of this checkout to its end and hands on the JSON lines that it prints. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CliFailure } from '../../exit.ts';
import { root, SMALL_HEAP } from '../parts.ts';

export type ProgramLine = { msg: string; [key: string]: unknown };

/** @throws CliFailure with what the program said last, when it fails */
export async function runProgram(args: readonly string[], onLine: (line: ProgramLine) => void): Promise<void> {
  const [entry, ...rest] = args;
  const child = spawn(process.execPath, [...SMALL_HEAP, join(root, entry ?? ''), ...rest], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints = (complaints + text).slice(-2_000)));
  const closed = once(child, 'close') as Promise<[number | null]>;
  for await (const text of createInterface({ input: child.stdout })) {
    const line = JSON.parse(text) as ProgramLine;
    if (line.msg === 'failed') complaints = String(line['error']);
    else onLine(line);
  }
  const [code] = await closed;
  if (code !== 0) throw new CliFailure(complaints.trim() || `${entry} ended with ${code}`);
}

/** How the test command runs other programs and what it says meanwhile: one line a step, its output only when it failed. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

/** The checkout. */
export const root = join(import.meta.dirname, '..');

export type Outcome = { code: number; output: string };

/** Runs a program in the checkout and gathers stdout and stderr together; a signal counts as code 1. */
export function capture(command: string, args: string[], env: Record<string, string> = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.on('error', (error) => resolve({ code: 127, output: `${output}${error.message}\n` }));
    child.on('close', (code) => resolve({ code: code ?? 1, output: stripVTControlCharacters(output) }));
  });
}

/** What a step found: a short remark for its line, or a refusal with the reason. */
export type Finding = { ok: true; remark: string } | { ok: false; why: string };

/** Runs one step and prints its line with the seconds it took. A step that throws has failed. */
export async function step(name: string, work: () => Promise<Finding>): Promise<boolean> {
  const started = performance.now();
  const found = await work().catch((error: unknown): Finding => ({
    ok: false,
    why: error instanceof Error ? (error.stack ?? error.message) : String(error),
  }));
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (found.ok) console.log(`ok    ${name} (${seconds} s)${found.remark ? `  ${found.remark}` : ''}`);
  else console.log(`FAIL  ${name} (${seconds} s)\n${found.why.trimEnd().replace(/^/gm, '      ')}`);
  return found.ok;
}

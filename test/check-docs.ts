/**
 * Every command that the documents show must exist: `causeway VERB --option` in a code block is resolved against the
 * registered commands, `npm run NAME` against package.json.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';

import { buildProgram } from '../cli/program.ts';
import { type Finding, root } from './steps.ts';

type Shown = { file: string; line: number; words: string[] };

/** The commands in the fenced code blocks of a markdown text: what stands after a prompt, a pipe or `&&`, unquoted. */
export function commandsIn(file: string, text: string): Shown[] {
  const shown: Shown[] = [];
  let fenced = false;
  for (const [index, raw] of text.split('\n').entries()) {
    if (/^\s*```/.test(raw)) fenced = !fenced;
    else if (fenced)
      for (const part of raw.replace(/(^|\s)#\s.*$/, '').split(/\|\||&&|[|;&]|\$\(/)) {
        const words = part
          .trim()
          .replace(/^[$#>]\s+/, '')
          .replace(/^(?:[A-Z_]+=\S*\s+)+/, '')
          .split(/\s+/);
        if (words[0] === 'npx') words.shift();
        if (/^(?:\.\/)?causeway$/.test(words[0] ?? '') || words[0] === 'npm')
          shown.push({ file, line: index + 1, words });
      }
  }
  return shown;
}

/** Why this `causeway ...` line can not be typed as shown, or undefined. */
function refuseCommand(program: Command, words: string[]): string | undefined {
  let command = program;
  const rest = words.slice(1);
  for (;;) {
    const next = command.commands.find((c) => c.name() === rest[0] || c.aliases().includes(rest[0] ?? ''));
    if (!next) break;
    command = next;
    rest.shift();
  }
  const name = command === program ? 'causeway' : `causeway ${command.name()}`;
  const first = rest[0];
  if (command.commands.length > 0 && first !== undefined && !first.startsWith('-') && !/^[[<.…]/.test(first))
    return `${name} has no command "${first}"`;
  for (const word of rest) {
    if (word === '--') break;
    const flag = /^(--[a-z][a-z-]*|-[A-Za-z])(?:=.*)?$/.exec(word.replace(/^\[|\]$/g, ''))?.[1];
    if (!flag || ['--help', '-h', '--version', '-V'].includes(flag)) continue;
    if (!command.options.some((option) => option.short === flag || option.long === flag))
      return `${name} has no option ${flag}`;
  }
  return undefined;
}

function refuseScript(scripts: Record<string, string>, words: string[]): string | undefined {
  const name = words[1] === 'run' ? words[2] : ['start', 'test'].includes(words[1] ?? '') ? words[1] : undefined;
  return name !== undefined && !(name in scripts) ? `package.json has no script "${name}"` : undefined;
}

function documents(): string[] {
  const docs = readdirSync(root).filter((name) => name.endsWith('.md'));
  try {
    for (const name of readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }))
      if (name.endsWith('.md')) docs.push(join('docs', name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return docs;
}

export async function checkDocs(): Promise<Finding> {
  const program = await buildProgram();
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const files = documents();
  const shown = files.flatMap((file) => commandsIn(file, readFileSync(join(root, file), 'utf8')));
  const wrong = shown.flatMap(({ file, line, words }) => {
    const why = words[0] === 'npm' ? refuseScript(scripts, words) : refuseCommand(program, words);
    return why === undefined ? [] : [`${file}:${line}: ${why}: ${words.join(' ')}`];
  });
  if (wrong.length > 0) return { ok: false, why: wrong.join('\n') };
  return { ok: true, remark: `${shown.length} commands in ${files.length} documents` };
}

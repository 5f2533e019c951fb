/** `causeway doctor`: each prerequisite of an instance on this machine, with its remedy. Changes nothing. */
import type { Command } from 'commander';

import { paint } from '../terminal/table.ts';
import { type Finding, prerequisites } from './prerequisites.ts';
import { readSettings } from './settings.ts';

/** Registers `doctor`. */
export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description(
      'check what an instance on this machine needs, and say how to mend it (exit 1 when something is missing)',
    )
    .option('--json', 'as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const findings: Finding[] = [];
      for (const look of prerequisites) findings.push(await look(readSettings()));
      const failed = findings.some(({ verdict }) => verdict === 'missing');
      if (json) process.stdout.write(`${JSON.stringify({ ok: !failed, findings }, null, 2)}\n`);
      else print(findings);
      process.exitCode = failed ? 1 : 0;
    });
}

const marks = { ok: paint('green', 'ok     '), weak: paint('yellow', 'weak   '), missing: paint('red', 'MISSING') };

function print(findings: readonly Finding[]): void {
  for (const { name, verdict, what, remedy } of findings) {
    process.stdout.write(`${marks[verdict]}  ${name.padEnd(12)} ${what}\n`);
    if (remedy !== undefined) process.stdout.write(`${' '.repeat(22)} try: ${remedy}\n`);
  }
}

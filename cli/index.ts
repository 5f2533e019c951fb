#!/usr/bin/env node
/** The binary: parses the command line, runs the verb, and turns a failure into words and an exit status. */
import { CommanderError } from 'commander';
import { exitStatus, reportFailure } from './exit.ts';
import { programFor } from './program.ts';
import './startup.ts';

const args = process.argv.slice(2);
const own = args.includes('--') ? args.slice(0, args.indexOf('--')) : args;
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0); // the reader has seen enough: `causeway ps | head`
    throw error;
  });
try {
  await (await programFor(own)).exitOverride().parseAsync(args, { from: 'user' });
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : exitStatus.usage;
  else process.exitCode = reportFailure(error, own.includes('--json'));
}

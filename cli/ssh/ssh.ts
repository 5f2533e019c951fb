/** `causeway ssh`: the system's OpenSSH, led into a session, with a key that lasts as long as it runs. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Api } from '../http/api.ts';
import { findSession } from '../session/find.ts';
import { hostSuffix, makeIdentity, missingClient, ownIdentity } from './identity.ts';
import { hostOptions } from './options.ts';

/** OpenSSH says nothing of it. */
const noAgent = 'no SSH agent runs here that could be asked; start one: eval "$(ssh-agent)" && ssh-add';

/** Registers `ssh`. */
export function registerSsh(program: Command): void {
  program
    .command('ssh')
    .description('open a shell in a running session, or run a command, by OpenSSH')
    .passThroughOptions()
    .option('-t, --tty', 'give the command a terminal')
    .option('-i, --identity <file>', 'sign in by this key, which you have uploaded')
    .option('-A, --forward-agent', 'let programs of the session sign by your SSH agent, as long as you are in it')
    .argument('<session>', 'name or id')
    .argument('[command...]', 'the command; a shell of the session gets it as one line')
    .action(ssh);
}

interface Options {
  tty?: boolean;
  identity?: string;
  forwardAgent?: boolean;
}

async function ssh(name: string, command: string[], options: Options): Promise<void> {
  const { forwardAgent } = options;
  if (forwardAgent && !process.env['SSH_AUTH_SOCK']) process.stderr.write(`causeway: ${noAgent}\n`);
  const identity = options.identity === undefined ? undefined : ownIdentity(options.identity);
  const session = await findSession(new Api(), name);
  const dir = mkdtempSync(join(tmpdir(), 'causeway-ssh-'));
  try {
    if (identity === undefined) makeIdentity(dir);
    const main = join(import.meta.dirname, '../index.ts');
    const words = hostOptions([process.execPath, main], dir, { identity, forwardAgent }).flatMap(([key, value]) => [
      '-o',
      `${key}=${value}`,
    ]);
    const argv = command[0] === '--' ? command.slice(1) : command;
    // By its id: what was found is what is reached.
    const host = `${session.id}${hostSuffix}`;
    process.exitCode = await run([...words, ...(options.tty ? ['-t'] : []), '--', host, ...argv]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Runs `ssh` on this terminal and answers its status. What ends us ends it first, so that nothing is left behind. */
function run(args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('ssh', args, { stdio: 'inherit' });
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
    // A terminal's Ctrl-C reaches the child by itself.
    const ignore = (): void => undefined;
    process.on('SIGINT', ignore).on('SIGTERM', pass).on('SIGHUP', pass);
    child.on('error', (error: NodeJS.ErrnoException) => reject(error.code === 'ENOENT' ? missingClient('ssh') : error));
    child.on('close', (status, signal) => {
      process.off('SIGINT', ignore).off('SIGTERM', pass).off('SIGHUP', pass);
      resolve(status ?? 128 + constants.signals[signal ?? 'SIGKILL']);
    });
  });
}

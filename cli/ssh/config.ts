/** `causeway ssh-config`: one marked block in OpenSSH's configuration, after which every program that uses it reaches sessions. */
import { chmodSync, mkdirSync, readFileSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { CliFailure } from '../exit.ts';
import { hostSuffix, makeIdentity, ownIdentity } from './identity.ts';
import { type HostChoice, hostOptions } from './options.ts';

const begin = '# --- begin causeway: written by `causeway ssh-config`, which replaces it ---';
const end = '# --- end causeway ---';

/** Registers `ssh-config`. */
export function registerSshConfig(program: Command): void {
  program
    .command('ssh-config')
    .description(`let ssh, scp, sftp, rsync, git and editors reach sessions as NAME${hostSuffix}`)
    .option('--print', 'only print the block')
    .option('--file <path>', 'write to this file, not to ~/.ssh/config')
    .option('-i, --identity <file>', 'sign in by this key, which you have uploaded')
    .option('-A, --forward-agent', 'let programs of every session sign by your SSH agent, as long as you are in it')
    .action(sshConfig);
}

interface Options {
  print?: boolean;
  file?: string;
  identity?: string;
  forwardAgent?: boolean;
}

function sshConfig(options: Options): void {
  const { forwardAgent } = options;
  const identity = options.identity === undefined ? undefined : ownIdentity(options.identity);
  // OpenSSH goes by the user's entry in the system, whatever HOME says.
  const path = resolve(options.file ?? join(userInfo().homedir, '.ssh/config'));
  const dir = join(dirname(path), 'causeway');
  const block = blockText(join(import.meta.dirname, '../../causeway'), dir, { identity, forwardAgent });
  if (options.print) {
    process.stdout.write(block);
    return;
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (identity === undefined) makeIdentity(dir);
  const before = readIfThere(path);
  const after = withBlock(before, block);
  if (after === before) {
    process.stderr.write(`causeway: ${path} has it already\n`);
    return;
  }
  replaceFile(path, after);
  process.stderr.write(`causeway: ${path} is written; try: ssh NAME${hostSuffix}\n`);
}

/** The block, with `launcher` as the program to run and `dir` for its files. */
export function blockText(launcher: string, dir: string, choice: HostChoice = {}): string {
  const options = hostOptions([launcher], dir, choice).map(([name, value]) => `  ${name} ${value}\n`);
  // What follows a block belongs to it, until the next one: what stood there before is for all hosts again.
  return `${begin}\nHost *${hostSuffix}\n${options.join('')}Match all\n${end}\n`;
}

/** `config` with `block` in the place of an older one, or before everything else, since OpenSSH takes what it reads first. */
export function withBlock(config: string, block: string): string {
  const from = config.indexOf(begin);
  if (from < 0) return config === '' ? block : `${block}\n${config}`;
  const to = config.indexOf(end, from);
  if (to < 0)
    throw new CliFailure('the block of causeway has no end', {
      hint: `remove it by hand, from the line: ${begin}`,
    });
  const behind = config.slice(to + end.length).replace(/^\n/, '');
  return `${config.slice(0, from)}${block}${behind}`;
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

/** In one step, and where a link leads to, with the rights that it has. */
function replaceFile(path: string, text: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  const target = stat === undefined ? path : realpathSync(path);
  const fresh = `${target}.causeway-${process.pid}`;
  writeFileSync(fresh, text, { mode: 0o600 });
  if (stat !== undefined) chmodSync(fresh, stat.mode & 0o777);
  renameSync(fresh, target);
}

/** `causeway ssh-key`: public keys that one uploads, to sign in to sessions by them. */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { SshKey, SshKeyList } from '../../schema/api/ssh-key.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { durationSeconds } from '../options.ts';
import { readStdin } from '../terminal/ask.ts';
import { plain, printTable } from '../terminal/table.ts';

/** In the order of OpenSSH's own defaults, the kinds that are taken. */
const defaultFiles = ['id_rsa.pub', 'id_ecdsa.pub', 'id_ecdsa_sk.pub', 'id_ed25519.pub', 'id_ed25519_sk.pub'];
const ttlSeconds = [60, 31_536_000] as const;

interface AddOptions {
  name?: string;
  ttl?: string;
}

/** Registers `ssh-key`. */
export function registerSshKey(program: Command): void {
  const keys = program.command('ssh-key').description('public keys by which you sign in to sessions over ssh');
  keys
    .command('add')
    .description('upload a public key')
    .argument('[file]', 'its file, which ends in .pub; - for standard input; default: the one in ~/.ssh')
    .option('--name <name>', 'what it is called in lists; default: its comment')
    .option('--ttl <time>', 'it ends after so long: 8h, 30d')
    .action(add);
  keys.command('list').description('list them').option('--json', 'as JSON').action(list);
  keys
    .command('remove')
    .description('remove one; your open connections by ssh end')
    .argument('<key>', 'id, name or fingerprint')
    .action(remove);
}

async function add(file: string | undefined, { name, ttl }: AddOptions): Promise<void> {
  const publicKey = await readKey(file ?? defaultFile());
  const made = await new Api().json(SshKey, 'POST', '/v1/ssh-keys', {
    body: {
      publicKey,
      ...(name === undefined ? {} : { name }),
      ...(ttl === undefined ? {} : { ttlSeconds: Math.floor(durationSeconds('--ttl', ttl, ttlSeconds)) }),
    },
    typed: { name: '--name', publicKey: file ?? 'the key' },
  });
  process.stderr.write(`causeway: ${plain(made.name)} is uploaded: ${made.fingerprint}\n`);
}

/** What is not public does not leave this machine. */
async function readKey(file: string): Promise<string> {
  const text = file === '-' ? await readStdin() : readFile(file);
  const refuse = (why: string) =>
    new CliFailure(`${file === '-' ? 'standard input' : file} ${why}`, {
      status: exitStatus.usage,
      hint: 'causeway ssh-key add ~/.ssh/id_ed25519.pub',
    });
  if (/-----BEGIN|PRIVATE KEY/.test(text)) throw refuse('is no public key: name the file that ends in .pub');
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'));
  if (lines.length !== 1) throw refuse(`holds ${lines.length === 0 ? 'no key' : 'more than one key'}`);
  return lines[0]!;
}

function readFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliFailure(`${file} can not be read: ${(error as Error).message}`, { status: exitStatus.usage });
  }
}

function defaultFile(): string {
  const found = defaultFiles.map((name) => join(homedir(), '.ssh', name)).filter((path) => existsSync(path));
  if (found.length === 1) return found[0]!;
  throw new CliFailure(found.length === 0 ? 'there is no public key in ~/.ssh' : 'there are several keys in ~/.ssh', {
    status: exitStatus.usage,
    hint: found.length === 0 ? 'ssh-keygen -t ed25519' : `name one: causeway ssh-key add ${found[0]}`,
  });
}

async function list({ json }: { json?: boolean }): Promise<void> {
  const { items } = await new Api().json(SshKeyList, 'GET', '/v1/ssh-keys');
  if (json) process.stdout.write(`${JSON.stringify(items)}\n`);
  else
    printTable(
      ['NAME', 'FINGERPRINT', 'TYPE', 'ADDED', 'ENDS', 'ID'],
      items.map((each) => [
        plain(each.name),
        plain(each.fingerprint),
        plain(each.type),
        dayOf(each.createdAtMs),
        each.expiresAtMs === undefined ? 'never' : dayOf(each.expiresAtMs),
        plain(each.id),
      ]),
      { spare: ['TYPE', 'ADDED'] },
    );
}

const dayOf = (ms: number): string => new Date(ms).toISOString().replace('T', ' ').slice(0, 16);

async function remove(named: string): Promise<void> {
  const api = new Api();
  const { items } = await api.json(SshKeyList, 'GET', '/v1/ssh-keys');
  const found = items.filter(({ id, name, fingerprint }) => [id, name, fingerprint].includes(named));
  const [key] = found;
  if (key === undefined || found.length > 1)
    throw new CliFailure(
      `${found.length === 0 ? 'none' : String(found.length)} of your keys is called ${plain(named)}`,
      {
        code: 'ssh_key_not_found',
        hint: 'causeway ssh-key list   (its id will do)',
      },
    );
  await api.raw('DELETE', `/v1/ssh-keys/${key.id}`);
  process.stderr.write(`causeway: ${plain(key.name)} is removed; connections by ssh end\n`);
}

/** `causeway account password`: changes one's own password by the old one, or as an administrator sets another's. */
import type { Command } from 'commander';
import { User, UserPage } from '../../schema/api/account.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { ask, readStdin } from '../terminal/ask.ts';
import { plain } from '../terminal/table.ts';

interface Options {
  user?: string;
  revokeTokens?: boolean;
}

/** Registers `account`. */
export function registerAccount(program: Command): void {
  program
    .command('account')
    .description('your password, or that of a user you administer')
    .command('password')
    .description('change your password; asks for it, or reads the old and the new one as two lines of standard input')
    .option('--user <user>', 'set that of another user (email or id; administrators): one line of standard input')
    .option('--revoke-tokens', 'also revoke all other tokens of the user')
    .action((options: Options) => (options.user === undefined ? changeOwn(options) : reset(options.user, options)));
}

async function changeOwn({ revokeTokens }: Options): Promise<void> {
  const [password, newPassword] = process.stdin.isTTY
    ? [await ask('Current password: ', true), await askTwice()]
    : await lines(2, 'the current password and the new one');
  await new Api().raw('POST', '/v1/auth/password', {
    body: { password, newPassword, ...(revokeTokens ? { revokeTokens } : {}) },
  });
  process.stderr.write(`the password is changed${revokeTokens ? ', other tokens are revoked' : ''}\n`);
}

async function reset(named: string, { revokeTokens }: Options): Promise<void> {
  const api = new Api();
  const user = await find(api, named);
  const password = process.stdin.isTTY ? await askTwice() : (await lines(1, 'the new password'))[0];
  await api.raw('PATCH', `/v1/users/${user.id}`, { body: { password, ...(revokeTokens ? { revokeTokens } : {}) } });
  process.stderr.write(
    `the password of ${plain(user.email)} is set${revokeTokens ? ', its tokens are revoked' : ''}\n`,
  );
}

async function askTwice(): Promise<string> {
  const first = await ask('New password (12 characters or more): ', true);
  if ((await ask('The same again: ', true)) === first) return first;
  throw new CliFailure('the two are not the same', { status: 2 });
}

async function lines(count: number, what: string): Promise<string[]> {
  const read = (await readStdin()).split(/\r?\n/);
  if (read.length === count) return read;
  throw new CliFailure(`standard input must hold ${what}, each on its line`, { status: 2 });
}

async function find(api: Api, named: string): Promise<User> {
  if (named.startsWith('usr_')) return api.json(User, 'GET', `/v1/users/${encodeURIComponent(named)}`);
  for await (const user of api.items(UserPage, '/v1/users')) if (user.email === named.toLowerCase()) return user;
  throw new CliFailure(`no user of your reach is called ${plain(named)}`);
}

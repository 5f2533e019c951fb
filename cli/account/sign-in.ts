/** `causeway login`, `logout` and `whoami`. */
import type { Command } from 'commander';
import { LoggedIn, Whoami } from '../../schema/api/account.ts';
import { CliFailure } from '../exit.ts';
import {
  type Context,
  currentContext,
  findPin,
  forgetContext,
  requireAddress,
  requirePins,
  saveContext,
} from '../config.ts';
import { Api } from '../http/api.ts';
import { ask, readStdin } from '../terminal/ask.ts';
import { plain } from '../terminal/table.ts';

/** Registers `login`. */
export function registerLogin(program: Command): void {
  program
    .command('login')
    .description('sign in to a control plane (asks for email and password, or takes a token)')
    .argument('[url]', 'its address; default: the current one')
    .option('--email <email>')
    .option('--password-stdin', 'read the password from standard input')
    .option('--token-stdin', 'read an API token from standard input instead')
    .option('--pin <pin>', 'how the control plane is known, when its certificate is its own: sha256:...')
    .action(login);
}

/** Registers `logout`. */
export function registerLogout(program: Command): void {
  program
    .command('logout')
    .description('forget the credential of the current control plane and revoke it')
    .action(logout);
}

/** Registers `whoami`. */
export function registerWhoami(program: Command): void {
  program.command('whoami').description('who you are, and where').option('--json', 'as JSON').action(whoami);
}

async function login(
  url: string | undefined,
  options: { email?: string; passwordStdin?: boolean; tokenStdin?: boolean; pin?: string },
) {
  const address = (url ?? (process.env['CAUSEWAY_URL'] || currentContext().url)).replace(/\/+$/, '');
  requireAddress(address, 'causeway login ');
  const pin = requirePins(options.pin, '--pin') ?? findPin(address);
  const pinned = pin === undefined ? {} : { pin };
  const token = options.tokenStdin ? await readStdin() : await tokenByPassword({ url: address, ...pinned }, options);
  const who = await new Api({ url: address, token, ...pinned }).json(Whoami, 'GET', '/v1/whoami');
  saveContext({ url: address, token, email: who.email, ...pinned });
  process.stderr.write(`signed in to ${address} as ${plain(who.email)}\n`);
}

async function tokenByPassword(
  server: Pick<Context, 'url' | 'pin'>,
  options: { email?: string; passwordStdin?: boolean },
): Promise<string> {
  if (!process.stdin.isTTY && !options.passwordStdin)
    throw new CliFailure('there is no terminal to ask for a password on', {
      status: 2,
      hint: 'causeway login --email EMAIL --password-stdin < FILE',
    });
  const email = options.email ?? (await ask('Email: ', false));
  const password = options.passwordStdin ? await readStdin() : await ask('Password: ', true);
  const answer = await new Api({ ...server, token: '' }).json(LoggedIn, 'POST', '/v1/auth/login', {
    body: { email, password },
  });
  return answer.token;
}

async function logout(): Promise<void> {
  const context = currentContext();
  await new Api(context).raw('POST', '/v1/auth/logout').catch((error: unknown) => {
    process.stderr.write(
      `causeway: the token could not be revoked (${error instanceof Error ? error.message : String(error)})\n`,
    );
  });
  // The token may have come from the environment: another one that is stored stays, as it was not revoked.
  forgetContext(context.url, context.token);
  process.stderr.write(`signed out of ${context.url}\n`);
}

async function whoami(options: { json?: boolean }): Promise<void> {
  const api = new Api();
  const who = await api.json(Whoami, 'GET', '/v1/whoami');
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ url: api.context.url, ...who })}\n`);
    return;
  }
  const projects = who.projects.map((each) => `${each.name} (${each.role})`).join(', ') || 'none';
  process.stdout.write(
    `${plain(who.email)}${who.role === undefined ? '' : ` (${who.role})`} at ${api.context.url}\nprojects: ${plain(projects)}\n`,
  );
}

/** `causeway terminals share`, `links` and `unshare`: lets others look at a terminal, for a while. */
import type { Command } from 'commander';
import {
  linkTtl,
  maxTerminalLinks,
  type TerminalLink,
  TerminalLinkCreated,
  TerminalLinkList,
} from '../../schema/api/terminal-link.ts';
import type { Session } from '../../schema/api/session.ts';
import type { Terminal } from '../../schema/api/terminal-parts.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { durationSeconds } from '../options.ts';
import { findSession } from '../session/find.ts';
import { durationText, plain, printTable } from '../terminal/table.ts';
import { pickTerminal, terminalsOf, usualTerminal } from './find.ts';
import { toLink } from './link.ts';

/** Registers the three below `terminals`. */
export function registerSharing(terminals: Command): void {
  terminals
    .command('share')
    .description('print a link by which anybody who has it may look at a terminal, and do nothing else')
    .option('--ttl <time>', 'good for so long: 15m, 8h, 2d (default 1h, at most 7d)')
    .argument('<session>', 'name or id')
    .argument(
      '[terminal]',
      'its name or the last characters of its id (default: the main one, else the newest that runs)',
    )
    .action(share);
  terminals
    .command('links')
    .description('list links to the terminals of a session that are good still')
    .option('--json', 'as JSON')
    .argument('<session>', 'name or id')
    .action(list);
  terminals
    .command('unshare')
    .description('revoke a link to a terminal: nobody sees anything by it after 5 seconds')
    .argument('<session>', 'name or id')
    .argument('<link>', `the last characters of its id; ${maxTerminalLinks} a terminal at most`)
    .action(unshare);
}

const pathOf = (session: Session, terminal: Terminal) => `/v1/sessions/${session.id}/terminals/${terminal.id}/links`;

async function share(name: string, wanted: string | undefined, options: { ttl?: string }): Promise<void> {
  const ttlSeconds =
    options.ttl === undefined ? linkTtl.usual : durationSeconds('--ttl', options.ttl, [linkTtl.least, linkTtl.most]);
  const api = new Api();
  const session = await findSession(api, name);
  const items = await terminalsOf(api, session);
  const terminal = wanted === undefined ? usualTerminal(items) : pickTerminal(items, session, wanted);
  if (terminal === undefined)
    throw new CliFailure(`${session.name} has no terminal that runs`, { hint: `causeway attach ${session.name}` });
  const body = { ttlSeconds: Math.round(ttlSeconds) };
  const made = await api.json(TerminalLinkCreated, 'POST', pathOf(session, terminal), { body });
  process.stdout.write(`${toLink(api.context, terminal.id, made.token)}\n`);
  process.stderr.write(
    `causeway: who has it sees the terminal for ${durationText(ttlSeconds * 1000)}: causeway attach --link 'LINK'\n` +
      `causeway: take it back: causeway terminals unshare ${session.name} ${made.id.slice(-6)}\n`,
  );
}

interface Shared {
  terminal: Terminal;
  link: TerminalLink;
}

async function linksOf(api: Api, session: Session): Promise<Shared[]> {
  const links = await Promise.all(
    (await terminalsOf(api, session)).map(async (terminal) => {
      const { items } = await api.json(TerminalLinkList, 'GET', pathOf(session, terminal));
      return items.map((link) => ({ terminal, link }));
    }),
  );
  return links.flat();
}

async function list(name: string, options: { json?: boolean }): Promise<void> {
  const api = new Api();
  const found = await linksOf(api, await findSession(api, name));
  if (options.json === true) {
    const items = found.map(({ terminal, link }) => ({ terminalId: terminal.id, ...link }));
    process.stdout.write(`${JSON.stringify(items)}\n`);
    return;
  }
  printTable(
    ['ID', 'TERMINAL', 'TOKEN', 'BY', 'ENDS IN'],
    found.map(({ terminal, link }) => [
      link.id,
      terminal.name ?? terminal.id.slice(-6),
      `${link.prefix}...`,
      plain(link.email),
      durationText(link.expiresAtMs - Date.now()),
    ]),
    { spare: ['TOKEN'] },
  );
}

async function unshare(name: string, wanted: string): Promise<void> {
  const api = new Api();
  const session = await findSession(api, name);
  const found = (await linksOf(api, session)).filter(({ link }) => link.id.endsWith(wanted));
  const [only] = found;
  if (only === undefined || found.length > 1)
    throw new CliFailure(`${found.length === 0 ? 'no link' : `${found.length} links`} end in ${wanted}`, {
      hint: `causeway terminals links ${session.name}`,
      code: 'terminal_link_not_found',
    });
  await api.raw('DELETE', `${pathOf(session, only.terminal)}/${only.link.id}`);
}

/** `causeway port`: ports of this machine that lead into a session, by the tunnel and without an open port at the far end. */
import type { Command } from 'commander';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { PortForwarder, type PortPair } from '../forward/forwarder.ts';
import { Api } from '../http/api.ts';
import { hintFor } from '../http/hints.ts';
import { plain } from '../terminal/table.ts';
import { dialSession } from '../tunnel/dial.ts';
import { findSession } from './find.ts';
import { waitForSession } from './wait.ts';

const loopback = ['127.0.0.1', '::1', 'localhost'];
const example = 'causeway port SESSION 8080:80';

/** Registers `port`. */
export function registerPort(program: Command): void {
  program
    .command('port')
    .description('forward ports of this machine into a running session, until Ctrl-C')
    .option('--bind <address>', 'listen at this address of this machine', '127.0.0.1')
    .argument('<session>', 'name or id')
    .argument('<ports...>', 'HERE:THERE, or PORT for the same at both ends; HERE may be 0 for any')
    .action(port);
}

async function port(name: string, ports: string[], { bind }: { bind: string }): Promise<void> {
  const pairs = ports.map(parsePair);
  const api = new Api();
  const found = await findSession(api, name);
  const session = await waitForSession(api, found.id, (each) => each.state === 'RUNNING', { quiet: false });
  if (isTerminal(session.state))
    throw new CliFailure(`${session.name} has ended`, { code: 'session_ended', hint: hintFor('session_ended') });
  const say = (line: string) => void process.stderr.write(`causeway: ${line}\n`);
  const forwarder = new PortForwarder(dialSession(api, session.id, 'ports'), { name: plain(session.name), say });
  try {
    await forwarder.connect();
    for (const pair of pairs) {
      const here = await forwarder.listen(bind, pair);
      process.stdout.write(
        `${bind.includes(':') ? `[${bind}]` : bind}:${here} -> ${plain(session.name)}:${pair.there}\n`,
      );
    }
    if (!loopback.includes(bind)) say(`whoever reaches ${plain(bind)} can connect`);
    await forwarder.run();
  } finally {
    forwarder.close();
  }
}

/** `8080:80`, `80`, `0:80`. @throws CliFailure */
export function parsePair(text: string): PortPair {
  const [, first = '', second] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? [];
  const here = Number(first);
  const there = Number(second ?? first);
  if (first !== '' && here <= 65_535 && there >= 1 && there <= 65_535) return { here, there };
  throw new CliFailure(`${plain(text.slice(0, 100))} is no pair of ports`, { status: exitStatus.usage, hint: example });
}

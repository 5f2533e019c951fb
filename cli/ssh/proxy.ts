/**
 * `causeway ssh-proxy`: what OpenSSH runs instead of dialling. Opens a stream to the SSH server of a session, tells OpenSSH
 * by which key that server is known, before the first byte of it, and passes bytes. A cut ends it, as SSH can not resume.
 */
import type { Command } from 'commander';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { continuous } from '../../schema/protocol/continuity.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { hintFor } from '../http/hints.ts';
import { asFailure } from '../tunnel/patience.ts';
import { localIo } from '../process/local-io.ts';
import { findSession } from '../session/find.ts';
import { waitForSession } from '../session/wait.ts';
import { dialSession } from '../tunnel/dial.ts';
import { carriesFiles, wordsOfParent } from './errand.ts';
import { hostSuffix, knowHost, makeHosts, makeIdentity, publicKey } from './identity.ts';

/** Until the server has spoken nothing is lost by another try. */
const retryDelaysMs = [200, 500, 1000, 2000];

/** Registers the hidden `ssh-proxy`. */
export function registerProxy(program: Command): void {
  program
    .command('ssh-proxy', { hidden: true })
    .requiredOption('--dir <dir>', 'where the key is, and the keys of hosts go')
    .option('--uploaded', 'sign in by uploaded keys alone')
    .argument('<host>', `a session's name or id, and ${hostSuffix}`)
    .action(proxy);
}

async function proxy(host: string, { dir, uploaded }: { dir: string; uploaded?: boolean }): Promise<void> {
  const name = host.endsWith(hostSuffix) ? host.slice(0, -hostSuffix.length) : host;
  if (!/^[a-z0-9_-]{1,128}$/.test(name))
    throw new CliFailure(`${host} names no session`, { status: exitStatus.usage, hint: `NAME${hostSuffix}` });
  if (uploaded) makeHosts(dir);
  else makeIdentity(dir);
  const api = new Api();
  const found = await findSession(api, name);
  const session = await waitForSession(api, found.id, (each) => each.state === 'RUNNING', { quiet: false });
  if (isTerminal(session.state))
    throw new CliFailure(`${session.name} has ended`, { code: 'session_ended', hint: hintFor('session_ended') });
  const { stream, hostKey, close } = await openStream(api, session.id, uploaded ? {} : { publicKey: publicKey(dir) });
  knowHost(dir, host, hostKey);
  const sending = sendInput(stream);
  sending.catch(() => undefined); // receiving says why
  try {
    await receive(stream);
  } finally {
    close();
    process.stdin.destroy();
  }
}

async function openStream(api: Api, sessionId: string, key: { publicKey?: string }) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await openOnce(api, sessionId, key);
    } catch (error) {
      const again = error instanceof StreamOver && error.code !== 'ssh_key_not_found';
      if (!again || attempt >= retryDelaysMs.length) throw asFailure(error);
      await new Promise((resolve) => setTimeout(resolve, retryDelaysMs[attempt]));
    }
  }
}

async function openOnce(api: Api, sessionId: string, key: { publicKey?: string }) {
  const socket = await dialSession(api, sessionId, 'ssh')(new AbortController().signal);
  try {
    const stream = socket.open({ op: 'ssh', ...key, ...(carriesFiles(wordsOfParent()) ? { bulk: true } : {}) });
    const { hostKey } = await stream.whenOpened;
    if (hostKey === undefined) throw new CliFailure('the agent told no key of its SSH server');
    return { stream, hostKey, close: () => socket.close() };
  } catch (error) {
    // An open socket keeps this process, and OpenSSH with it, waiting.
    socket.close();
    throw error;
  }
}

async function sendInput(stream: Stream): Promise<void> {
  for await (const bytes of process.stdin) await stream.write(channels.input, bytes as Buffer);
  stream.end(channels.input);
}

async function receive(stream: Stream): Promise<void> {
  const io = localIo(true);
  try {
    for await (const { channel, bytes, end } of continuous(stream.read(), { stdout: 0 }))
      if (!end && channel === channels.stdout) await io.writeStdout(bytes);
  } catch (error) {
    throw asFailure(error);
  }
}

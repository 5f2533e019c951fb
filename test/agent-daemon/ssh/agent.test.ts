/** The client's own SSH agent (`ssh -A`), asked by programs of the session; the agent is a real one. */
import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Client } from 'ssh2';
import { SshConnections } from '../../../agent-daemon/ssh/connections.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { start, type Started } from '../../support/process.ts';
import { until } from '../../support/wait.ts';
import { LiveSession } from '../live-session.ts';
import { sessionId } from '../support.ts';
import { connectTo, exec, run } from './dialled.ts';

let live: LiveSession;
let ssh: SshConnections;
let agent: Started;
let socket: string;
let publicKey: string;
const clients: Client[] = [];
const forwarding = { agentForward: true };

beforeEach(async () => {
  live = await LiveSession.start();
  ssh = new SshConnections(live.of);
  socket = join(live.dir.path, 'agent');
  agent = start('ssh-agent', ['-D', '-a', socket]);
  await until(() => existsSync(socket), { what: 'the agent' });
  const key = join(live.dir.path, 'own');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'mine', '-f', key]);
  execFileSync('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
  publicKey = execFileSync('cat', [`${key}.pub`], { encoding: 'utf8' });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await agent.stop();
  await live.stop();
});

const connect = (at = socket) => connectTo(ssh, clients, undefined, undefined, { agent: at });
const say = async (client: Client, command: string, options: object = forwarding) =>
  run(await exec(client, command, options));

/** Asks for it with each command and wants no answer. */
function askingLikeOpenSsh(client: Client): void {
  const { _protocol: protocol } = client as unknown as { _protocol: Protocol };
  const ask = protocol.exec.bind(protocol);
  protocol.exec = (channel, command, wantReply) => {
    protocol.openssh_agentForward(channel, false);
    ask(channel, command, wantReply);
  };
}
interface Protocol {
  exec(channel: number, command: string, wantReply: boolean): void;
  openssh_agentForward(channel: number, wantReply: boolean): void;
}

it('[S22] lists its keys and signs by them, at a place for the user alone that goes with the connection', async () => {
  const { client } = await connect();
  expect(await say(client, 'ssh-add -L')).toMatchObject({ code: 0, stdout: publicKey, stderr: '' });
  const signing =
    'cd "$(mktemp -d)" && echo text > t && ssh-add -L > k.pub && ssh-keygen -q -Y sign -n file -f k.pub t && head -1 t.sig';
  expect(await say(client, signing)).toEqual({
    code: 0,
    signal: undefined,
    stderr: '',
    stdout: '-----BEGIN SSH SIGNATURE-----\n',
  });
  const { stdout: path } = await say(client, 'printf %s "$SSH_AUTH_SOCK"');
  // All channels of a connection have one, also those at once; ssh2's client asks with the first alone.
  const many = await Promise.all(
    Array.from({ length: 8 }, () => say(client, 'echo "$SSH_AUTH_SOCK"; ssh-add -l | wc -l')),
  );
  expect(many.map(({ stdout }) => stdout)).toEqual(Array(8).fill(`${path}\n1\n`));
  expect(statSync(dirname(path)).mode & 0o777).toBe(0o700);
  // Who did not ask for it has none.
  const other = await connect();
  expect((await say(other.client, 'echo "[$SSH_AUTH_SOCK]"', {})).stdout).toBe('[]\n');
  other.client.end();
  client.end();
  await until(() => !existsSync(dirname(path)), { what: 'its place to be gone' });
  await until(async () => (await live.spools.processes(sessionId, 1)).length === 0, { what: 'nothing of it' });
});

it('[S22] of a client that has none refuses whoever asks, and harms nothing', async () => {
  const { client } = await connect('/nowhere/agent');
  const asked = await say(client, 'ssh-add -l; echo "then $?"');
  expect(asked.stdout).toMatch(/then [12]\n$/);
  expect(await say(client, 'echo on')).toMatchObject({ code: 0, stdout: 'on\n' });
});

it('[S22] is not asked where the machine is set to forward none, in words', async () => {
  live.of.forwardsAgents = false;
  const { client } = await connect();
  await expect(say(client, 'true')).rejects.toThrow('agent forwarding');
  askingLikeOpenSsh(client);
  const said = await say(client, 'echo "[$SSH_AUTH_SOCK]"', {});
  expect(said).toMatchObject({ code: 0, stdout: '[]\n' });
  expect(said.stderr).toMatch(/^causeway: your SSH agent is not forwarded: .*set to forward none\n$/);
});

it('[S22] is not asked where it can not be listened for, in words, and the command runs', async () => {
  const { client } = await connect();
  for (let at = 0; at < limits.sshListenersPerConnection; at++)
    await new Promise<void>((resolve, reject) => {
      client.forwardIn('127.0.0.1', 0, (error) => (error ? reject(error) : resolve()));
    });
  const full = await say(client, 'echo "[$SSH_AUTH_SOCK]"');
  expect(full).toMatchObject({ code: 0, stdout: '[]\n' });
  expect(full.stderr).toContain(`listens at no more than ${limits.sshListenersPerConnection} places`);
});

it('[S22] is not asked in a session of before this, in words', async () => {
  live.withoutTools();
  const { client } = await connect();
  const said = await say(client, 'echo on');
  expect(said).toMatchObject({ code: 0, stdout: 'on\n' });
  expect(said.stderr).toContain('Start a new session');
});

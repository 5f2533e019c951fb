/** Connections to the agent's SSH server by ssh2's own client, which is light, over a stream that a test can cut. */
import { Duplex } from 'node:stream';
import { Client, type ClientChannel, type ConnectConfig, utils } from 'ssh2';
import type { Channel } from '../../../schema/protocol/frame.ts';
import type { UploadedKey } from '../../../schema/protocol/streams.ts';
import { makeKey, type SshConnections } from '../../../agent-daemon/ssh/connections.ts';
import { TestStream } from '../processes/test-stream.ts';
import { sessionId } from '../support.ts';

/** A stream whose far end is what ssh2 dials by. */
export class Dialled extends TestStream {
  readonly socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      this.input(chunk);
      done();
    },
    destroy: (_error, done) => {
      this.cut();
      done(null);
    },
  });

  override write(channel: Channel, bytes: Uint8Array): Promise<void> {
    this.socket.push(Buffer.from(bytes));
    return super.write(channel, bytes);
  }
}

export const key = makeKey(utils);
const publicKey = key.public.split(' ').slice(0, 2).join(' ');

/** What the edge says of keys; by default the one that came with the stream. */
export type SaidKeys = { publicKey?: string; uploadedKeys?: UploadedKey[] };

/** Opens a stream to `ssh`; `done` is the agent's handler. */
export function dial(ssh: SshConnections, { uploadedKeys, ...own }: SaidKeys = { publicKey }) {
  const stream = new Dialled();
  const more = uploadedKeys === undefined ? {} : { uploadedKeys };
  const open = { op: 'ssh' as const, ...own };
  const done = ssh.serve({ sessionId, generation: 1, actorId: 'usr_test', open, ...more }, stream);
  done.catch(() => undefined);
  return { stream, done };
}

/** Signs in; `clients` is told of each, to be ended with its test. `more`: what else ssh2 is told. */
export async function connectTo(
  ssh: SshConnections,
  clients: Client[],
  privateKey = key.private,
  said?: SaidKeys,
  more: Pick<ConnectConfig, 'agent'> = {},
) {
  const dialled = dial(ssh, said);
  const { socket } = dialled.stream;
  const client = new Client();
  clients.push(client);
  let hostKey = '';
  await new Promise<void>((resolve, reject) => {
    client.on('ready', resolve).on('error', reject);
    const hostVerifier = (shown: Buffer) => {
      hostKey = `ssh-ed25519 ${shown.toString('base64')}`;
      return true;
    };
    // Else it asks servers of other names for nothing that OpenSSH has added.
    const strictVendor = false;
    client.connect({ sock: socket, username: 'anybody', privateKey, hostVerifier, strictVendor, ...more });
  });
  return { ...dialled, client, hostKey };
}

export function exec(client: Client, command: string, options: object = {}): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.exec(command, options, (error, channel) => (error ? reject(error) : resolve(channel)));
  });
}

/** Everything of a channel to its end. */
export async function run(channel: ClientChannel) {
  let [stdout, stderr] = ['', ''];
  channel.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
  channel.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
  const end = await new Promise<{ code: number | null; signal: string | undefined }>((resolve) => {
    let seen: { code: number | null; signal: string | undefined } = { code: null, signal: undefined };
    channel.on('exit', (code: number | null, signal?: string) => (seen = { code, signal }));
    channel.on('close', () => resolve(seen));
  });
  return { ...end, stdout, stderr };
}

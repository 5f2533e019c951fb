/**
 * The SSH server of the agent's sessions: no sshd in the image, no port, nothing that listens. Each stream of the tunnel is
 * one connection, signed in by a key that came with it; each shell, command and subsystem is a process of the
 * session like any other, as its user. It never judges who may open a stream: the edge has done so, and cuts it on revocation.
 */
import type { Connection, ServerChannel } from 'ssh2';
import { Refusal } from '../../schema/errors.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { AgentStream, OpenOf, StreamHandler } from '../dispatch.ts';
import type { Session } from '../sessions/session.ts';
import { toolArgv } from '../processes/tools.ts';
import { ForwardChannel } from './forward-channel.ts';
import type { OpenChannel, SshOf } from './of.ts';
import { refuseChannel, refusals } from './refuse-channel.ts';
import { RemoteForwards } from './remote-forwards.ts';
import { SessionChannel } from './session-channel.ts';
import { SignIn } from './sign-in.ts';
import { loadSsh2 } from './ssh2.ts';
import { StreamSocket } from './stream-socket.ts';

/** A client that does not answer three of these is gone. */
const keepaliveMs = 60_000;
/** What is under way when a session ends gets this long to reach the client. */
const lingerMs = 5_000;
/** Fast in this process, and what every client of the last ten years has. */
const cipher = ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes256-ctr', 'aes128-ctr'] as const;
/** Names and addresses of hosts. */
const hostPattern = /^[\w.:%-]{1,255}$/;
/** Bytes of a path that a socket can have. */
const maxSocketPath = 107;

/** What is open of one connection. */
type Channels = Set<OpenChannel>;

interface HostKey {
  privateKey: string;
  publicKey: string;
}

/** Connections of all sessions of the agent. */
export class SshConnections {
  readonly #of: SshOf;
  /** Of this run of the agent: told anew with each connection, so nothing has to keep it. */
  #hostKey: Promise<HostKey> | undefined;
  readonly #open = new Map<Session, Set<Channels>>();

  constructor(of: SshOf) {
    this.#of = of;
  }

  /** Serves one connection to its end. */
  readonly serve: StreamHandler<'ssh'> = async (open, stream) => {
    const session = this.#sessionOf(open);
    const all = this.#open.get(session) ?? new Set();
    if (all.size >= limits.sshConnectionsPerSession)
      throw new Refusal('tunnel_stream_limit', `A session takes ${limits.sshConnectionsPerSession} SSH connections.`);
    this.#open.set(session, all);
    const own: Channels = new Set();
    all.add(own);
    try {
      await this.#serve(session, open, stream, { own, all });
    } finally {
      all.delete(own);
      if (all.size === 0) this.#open.delete(session);
    }
  };

  #sessionOf({ sessionId, generation }: OpenOf<'ssh'>): Session {
    const session = this.#of.find(sessionId, generation);
    if (session === undefined || session.state === 'ended')
      throw new Refusal('session_ended', 'The session has ended. Start a new one.');
    if (session.supervisor === undefined)
      throw new Refusal('session_not_running', 'The session is still being started.');
    return session;
  }

  async #serve(
    session: Session,
    open: OpenOf<'ssh'>,
    stream: AgentStream,
    { own: channels, all }: { own: Channels; all: ReadonlySet<Channels> },
  ): Promise<void> {
    const ssh2 = await loadSsh2();
    this.#hostKey ??= Promise.resolve(toHostKey(makeKey(ssh2.utils)));
    const hostKey = await this.#hostKey;
    const signIn: SignIn = new SignIn(open, ssh2.utils, this.#of, () => socket.destroy());
    const socket: StreamSocket = new StreamSocket(stream, () => mayRead(channels, all));
    const server = new ssh2.Server(
      {
        ident: 'Causeway',
        hostKeys: [hostKey.privateKey],
        algorithms: { cipher: [...cipher], compress: ['none'] },
        keepaliveInterval: keepaliveMs,
      } as import('ssh2').ServerConfig,
      (client) => signIn.watch(client, () => this.#accept(client, session, socket, channels)),
    );
    server.on('error', (error: Error) => this.#of.log.warn('an SSH connection failed', { error: error.message }));
    const over = new Promise<void>((resolve) => {
      socket.once('finish', resolve);
      socket.once('close', resolve);
    });
    stream.opened({ hostKey: hostKey.publicKey });
    signIn.start();
    server.injectSocket(socket as unknown as import('node:net').Socket);
    const letGo = this.#endWith(session, socket, channels);
    try {
      await over;
    } finally {
      letGo();
      signIn.stop();
      socket.destroy();
      for (const channel of channels) channel.abandon();
    }
  }

  #accept(client: Connection, session: Session, socket: StreamSocket, channels: Channels): void {
    const of = this.#of;
    const hasRoom = (): boolean => channels.size < limits.sshChannelsPerConnection;
    const keep = (channel: OpenChannel): void => {
      channels.add(channel);
      void channel.done.then(() => {
        channels.delete(channel);
        socket.poke();
      });
    };
    const admit = (make: () => OpenChannel): boolean => {
      if (!hasRoom()) return false;
      keep(make());
      return true;
    };
    const forwards = new RemoteForwards({ client, session, socket, of, admit });
    socket.once('close', () => forwards.stop());
    client.on('session', (accept, reject) => {
      // What is to be listened for is said first: a client may not want to run anything without it.
      void forwards.answered.then(() => {
        if (socket.destroyed) return;
        if (!admit(() => new SessionChannel(accept(), { session, socket, of }, forwards))) reject();
      });
    });
    const forward = (accept: () => ServerChannel, reject: () => unknown, argv: string[]): void => {
      const refuse = (text: string): void => refuseChannel(client, reject, refusals.connectFailed, text);
      if (hasRoom()) keep(new ForwardChannel(session, socket, of, argv, { accept, refuse }));
      else refuseChannel(client, reject, refusals.resourceShortage, `${limits.sshChannelsPerConnection} are open`);
    };
    client.on('tcpip', (accept, reject, { destIP, destPort }) => {
      if (hostPattern.test(destIP)) forward(accept, reject, toolArgv('connect', destIP, String(destPort)));
      else refuseChannel(client, reject, refusals.prohibited, 'this is the name of no host');
    });
    client.on('openssh.streamlocal', (accept, reject, { socketPath }) => {
      if (isSocketPath(socketPath)) forward(accept, reject, toolArgv('connect-unix', socketPath));
      else refuseChannel(client, reject, refusals.prohibited, 'this is the path of no socket');
    });
  }

  /** Ends the connection when the session has no processes any more, after what they said has gone out. */
  #endWith(session: Session, socket: StreamSocket, channels: Channels): () => void {
    const givenUp = session.supervisor?.givenUp;
    let cancel = (): void => undefined;
    const end = (): void => {
      cancel = this.#of.timers.after(lingerMs, () => socket.destroy());
      void Promise.all([...channels].map((each) => each.done)).then(() => socket.end());
    };
    if (givenUp?.aborted === true) end();
    else givenUp?.addEventListener('abort', end);
    return () => {
      cancel();
      givenUp?.removeEventListener('abort', end);
    };
  }
}

/**
 * Channels that take nothing may not hold up those beside them, so a connection is read on whatever it holds, until the
 * session's connections hold what they might together; then each is read that holds no more than its share.
 */
function mayRead(own: Channels, all: ReadonlySet<Channels>): boolean {
  if (unreadOf(own) < limits.sshUnreadBytes) return true;
  let bytes = 0;
  for (const each of all) bytes += unreadOf(each);
  return bytes < limits.sshUnreadBytes * limits.sshConnectionsPerSession;
}

function unreadOf(channels: Channels): number {
  let bytes = 0;
  for (const each of channels) bytes += each.unreadBytes;
  return bytes;
}

/** ssh2 1.17.0 drops a zero at the front of a key, once in 256 times, and can not read what it made then. */
export function makeKey(utils: typeof import('ssh2').utils): { private: string; public: string } {
  for (;;) {
    const made = utils.generateKeyPairSync('ed25519');
    if (!(utils.parseKey(made.private) instanceof Error)) return made;
  }
}

function toHostKey({ private: privateKey, public: publicKey }: { private: string; public: string }): HostKey {
  return { privateKey, publicKey: publicKey.split(' ').slice(0, 2).join(' ') };
}

function isSocketPath(path: string): boolean {
  return path !== '' && !path.includes('\0') && Buffer.byteLength(path) <= maxSocketPath;
}

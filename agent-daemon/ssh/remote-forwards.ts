/**
 * What a client wants to be listened to within the session (`-R`; RFC 4254, section 7.1), and where its own agent is asked
 * (`-A`): each connection becomes a channel to it.
 */
import type { Connection, ServerChannel } from 'ssh2';
import { Refusal } from '../../schema/errors.ts';
import { type ListenAt, ToolListener } from '../forward/listener.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { Session } from '../sessions/session.ts';
import { openAgentChannel } from './agent-channel.ts';
import { ForwardChannel } from './forward-channel.ts';
import type { OpenChannel, SshOf } from './of.ts';
import type { StreamSocket } from './stream-socket.ts';

export interface RemoteForwardsOf {
  client: Connection;
  session: Session;
  socket: StreamSocket;
  of: SshOf;
  /** Keeps a new channel; false when there is no room, and nothing was made. */
  admit: (make: () => OpenChannel) => boolean;
}

/** A request, as ssh2 gives it; there is nobody to answer when no answer is wanted. */
type Accept = ((port?: number) => void) | undefined;
type Reject = (() => void) | undefined;
interface Info {
  socketPath?: string;
  bindAddr?: string;
  bindPort?: number;
}

type Opened = (error: Error | undefined, channel: ServerChannel) => void;
/** Opens a channel to the client. */
type OpenToClient = (from: { address: string; port: number }, opened: Opened) => void;

export class RemoteForwards {
  readonly #parts: RemoteForwardsOf;
  readonly #listeners = new Map<string, ToolListener>();
  #answered: Promise<void> = Promise.resolve();
  #agent: Promise<AgentSocket> | undefined;
  #isStopped = false;

  constructor(parts: RemoteForwardsOf) {
    this.#parts = parts;
    parts.client.on('request', (accept: Accept, reject: Reject, name: string, info: Info) => {
      // One after the other: an answer does not say to which request it is (RFC 4254, section 4).
      const turn = () => this.#answer(name, info, { accept, reject });
      this.#answered = this.#answered.then(turn);
    });
  }

  /** Resolves when everything that was asked for until now is answered. */
  get answered(): Promise<void> {
    return this.#answered;
  }

  #answer(name: string, info: Info, { accept, reject }: { accept: Accept; reject: Reject }): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#take(name, info, { accept: (port) => resolve(accept?.(port)), refuse: () => resolve(reject?.()) });
    return promise;
  }

  #take(name: string, info: Info, { accept, refuse }: { accept: (port?: number) => void; refuse: () => void }): void {
    const { socketPath: path = '', bindAddr: address = '', bindPort: port = 0 } = info;
    if (name === 'streamlocal-forward@openssh.com') this.#listenAtPath(path, () => accept(), refuse);
    else if (name === 'tcpip-forward') this.#listenAtPort(address, port, accept, refuse);
    else if (this.#cancel(name === 'cancel-tcpip-forward' ? keyOfPort(address, port) : path)) accept();
    else refuse();
  }

  /** Where the client's agent is asked within the session, if that was wanted: of a connection, not of one channel, as sshd has it. */
  get agent(): Promise<AgentSocket> | undefined {
    return this.#agent;
  }

  /** The client wants that its agent can be asked from now on. Never rejects. */
  askAgent(): Promise<AgentSocket> {
    this.#agent ??= new Promise((resolve) => {
      const { client } = this.#parts;
      void this.#listen('fresh', {
        keyOf: () => keyOfAgent,
        open: () => (_from, opened) => openAgentChannel(client, opened),
        accept: (_port, path) => resolve({ path }),
        refuse: (why) => resolve({ why }),
      });
    });
    return this.#agent;
  }

  /** Nobody is there any more: what was asked for and waits for its turn is not begun. */
  stop(): void {
    this.#isStopped = true;
    for (const listener of this.#listeners.values()) listener.stop();
  }

  /** Whatever address is asked for, it is the container's loopback: others reach nothing of it. */
  #listenAtPort(address: string, port: number, accept: (port: number) => void, refuse: () => void): void {
    const { client } = this.#parts;
    const open =
      (at: number): OpenToClient =>
      (from, opened) =>
        void client.forwardOut(address, at, from.address, from.port, opened);
    void this.#listen({ port }, { keyOf: (at) => keyOfPort(address, at), open, accept, refuse });
  }

  #listenAtPath(path: string, accept: () => void, refuse: () => void): void {
    const { client } = this.#parts;
    const open = (): OpenToClient => (_from, opened) => void client.openssh_forwardOutStreamLocal(path, opened);
    void this.#listen({ path }, { keyOf: () => path, open, accept, refuse });
  }

  /** Never rejects. */
  async #listen(at: ListenAt, asked: Asked): Promise<void> {
    const { session, of } = this.#parts;
    if (this.#isStopped) return asked.refuse('The client is gone.');
    const most = limits.sshListenersPerConnection;
    if (this.#listeners.size >= most)
      return asked.refuse(`A connection of SSH listens at no more than ${most} places.`);
    const listener = new ToolListener(session, of, at);
    // Counted from now on; known by what it was asked for when it listens.
    let key = listener.take('0').join(' ');
    this.#listeners.set(key, listener);
    let open: OpenToClient = () => undefined;
    let why = 'It could not be listened for.';
    try {
      why = await listener.run({
        listening: (port, path) => {
          this.#listeners.delete(key);
          key = asked.keyOf(port);
          this.#listeners.set(key, listener);
          open = asked.open(port);
          asked.accept(port, path);
        },
        connected: (id, from) => this.#offer(listener, id, (opened) => open(from, opened)),
      });
    } catch (error) {
      if (error instanceof Refusal) why = error.detail ?? error.code;
      of.log.debug('nobody listens for an SSH client', { error: String(error) });
    }
    if (this.#listeners.get(key) === listener) this.#listeners.delete(key);
    asked.refuse(why); // which does nothing behind an acceptance
  }

  /** The client may refuse it, or have too many channels: then it is let go of. */
  #offer(listener: ToolListener, id: string, open: (opened: Opened) => void): void {
    const { session, socket, of, admit } = this.#parts;
    open((error, channel) => {
      if (error) return listener.drop(id);
      const near = { accept: () => channel, refuse: () => void channel.end() };
      if (admit(() => new ForwardChannel(session, socket, of, listener.take(id), near))) return;
      channel.end();
      listener.drop(id);
    });
  }

  #cancel(key: string): boolean {
    const listener = this.#listeners.get(key);
    listener?.stop();
    return this.#listeners.delete(key);
  }
}

/** Where a client's agent is asked within the session, or why nowhere. */
export type AgentSocket = { path: string } | { why: string };

interface Asked {
  keyOf(port: number): string;
  open(port: number): OpenToClient;
  accept(port: number, path: string): void;
  refuse(why: string): void;
}

/** No address and no path that somebody asks for. */
const keyOfAgent = '\0agent';

function keyOfPort(address: string, port: number): string {
  return `${address} ${port}`;
}

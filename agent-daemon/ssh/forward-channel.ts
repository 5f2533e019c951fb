/** A channel of SSH that is a connection: made within the session's container for the client, or taken there (RFC 4254, section 7). */
import type { ServerChannel } from 'ssh2';
import { Refusal } from '../../schema/errors.ts';
import { ToolConnection } from '../forward/connection.ts';
import type { Session } from '../sessions/session.ts';
import { ChannelWriter } from './channel-writer.ts';
import { feedFrom } from './feed.ts';
import type { OpenChannel, SshOf } from './of.ts';
import type { StreamSocket } from './stream-socket.ts';

/** The client's side of a connection. */
export interface Near {
  /** The channel, once the far end took the connection. */
  accept(): ServerChannel;
  /** The connection could not be made. */
  refuse(text: string): void;
}

export class ForwardChannel implements OpenChannel {
  readonly done: Promise<void>;
  readonly #connection: ToolConnection;
  readonly #socket: StreamSocket;
  readonly #of: SshOf;
  #channel: ServerChannel | undefined;
  #writer: ChannelWriter | undefined;

  /** `argv`: the tool that makes the connection. */
  constructor(session: Session, socket: StreamSocket, of: SshOf, argv: string[], near: Near) {
    this.#socket = socket;
    this.#of = of;
    this.#connection = new ToolConnection(session, of, argv);
    this.done = this.#run(near);
  }

  get unreadBytes(): number {
    return this.#channel?.readableLength ?? 0;
  }

  abandon(): void {
    this.#connection.abandon();
    this.#writer?.stop();
    this.#channel?.resume();
  }

  /** Never rejects. */
  async #run(near: Near): Promise<void> {
    try {
      await this.#connection.run({
        opened: () => this.#attach(near.accept()),
        bytes: async (bytes) => this.#writer?.write(bytes),
        // Not the end of the channel: what the client still says goes on.
        ended: () => (this.#channel as (ServerChannel & { eof(): void }) | undefined)?.eof(),
      });
    } catch (error) {
      const text = error instanceof Refusal ? (error.detail ?? error.code) : 'it could not be made';
      if (!(error instanceof Refusal)) this.#of.log.error('a connection of SSH failed', { error: String(error) });
      if (this.#channel === undefined) near.refuse(text);
    }
    this.#channel?.end();
    this.#channel?.removeAllListeners('data');
    this.#channel?.resume();
  }

  #attach(channel: ServerChannel): void {
    this.#channel = channel;
    this.#writer = new ChannelWriter(channel, this.#socket);
    channel.on('error', () => undefined); // a close follows
    channel.on('close', () => this.abandon());
    feedFrom(channel, this.#connection, this.#socket);
  }
}

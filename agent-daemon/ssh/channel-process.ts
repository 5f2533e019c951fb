/**
 * A channel of SSH and the process behind it. A client that does not read makes the process wait, and holds a bounded
 * amount here. When the client goes first, the process hears of it as from a terminal that hangs up.
 */
import { constants } from 'node:os';
import type { ServerChannel } from 'ssh2';
import { Refusal } from '../../schema/errors.ts';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import type { ProcessExit } from '../output/process-record.ts';
import { AttendedProcess } from '../processes/attended.ts';
import { initTooOld, isInitTooOld } from '../processes/tools.ts';
import type { Session } from '../sessions/session.ts';
import { ChannelWriter } from './channel-writer.ts';
import { feedFrom } from './feed.ts';
import type { SshOf } from './of.ts';
import type { StreamSocket } from './stream-socket.ts';

/** Signals that SSH has a name for (RFC 4254, section 6.10). */
const named = new Set([
  'ABRT',
  'ALRM',
  'FPE',
  'HUP',
  'ILL',
  'INT',
  'KILL',
  'PIPE',
  'QUIT',
  'SEGV',
  'TERM',
  'USR1',
  'USR2',
]);
/** Of a process that could not be started or followed. */
const failedStatus = 255;

export class ChannelProcess {
  readonly #channel: ServerChannel;
  readonly #writer: ChannelWriter;
  readonly #socket: StreamSocket;
  readonly #of: SshOf;
  readonly #argv: readonly string[];
  readonly #process: AttendedProcess;

  constructor(channel: ServerChannel, session: Session, socket: StreamSocket, of: SshOf, spawn: ProcessSpawn) {
    this.#channel = channel;
    this.#writer = new ChannelWriter(channel, socket);
    this.#socket = socket;
    this.#of = of;
    this.#argv = spawn.argv;
    this.#process = new AttendedProcess(session, of, spawn);
    channel.on('error', () => undefined); // a close follows
    channel.on('close', () => this.abandon());
  }

  /** Bytes that came and that the process has not taken. */
  get unreadBytes(): number {
    return this.#channel.readableLength;
  }

  /**
   * Starts the process once it is `prepared`, of which the client is told what comes of it, and resolves when everything of
   * it has reached the client, or nobody is there any more. Never rejects.
   */
  async run(prepared: Promise<string>): Promise<void> {
    let exit: ProcessExit | undefined;
    try {
      const notice = await prepared;
      if (notice !== '') await this.#say(notice);
      await this.#process.start();
      if (!this.#process.isAbandoned) feedFrom(this.#channel, this.#process, this.#socket);
      exit = await this.#process.follow((stream, bytes) => this.#writer.write(bytes, stream));
      if (isInitTooOld(this.#argv, exit)) await this.#say(initTooOld);
    } catch (error) {
      if (!(error instanceof Refusal)) this.#of.log.error('a channel of SSH failed', { error: String(error) });
      await this.#say(error instanceof Refusal ? (error.detail ?? error.code) : 'the process could not be followed');
    }
    if (!this.#process.isAbandoned) this.#end(exit);
  }

  /** The client is gone. */
  abandon(): void {
    if (this.#process.isAbandoned) return;
    this.#process.abandon();
    this.#writer.stop();
    this.#channel.resume();
  }

  resize(rows: number, columns: number): void {
    this.#process.resize(rows, columns);
  }

  /** By its name in SSH; others are not taken. */
  signal(name: string): void {
    if (named.has(name)) this.#process.signal(constants.signals[`SIG${name}` as NodeJS.Signals]);
  }

  async #say(text: string): Promise<void> {
    await this.#writer.write(Buffer.from(`causeway: ${text}\n`), 'stderr');
  }

  #end(exit: ProcessExit | undefined): void {
    const { signal, exitCode = failedStatus } = exit ?? {};
    const name = signal?.replace(/^SIG/, '');
    if (name === undefined) this.#channel.exit(exitCode);
    else if (named.has(name)) this.#channel.exit(name, false, '');
    else this.#channel.exit(128 + (constants.signals[signal as NodeJS.Signals] ?? 0));
    this.#channel.end();
    // What still comes for it is dropped.
    this.#channel.removeAllListeners('data');
    this.#channel.resume();
  }
}

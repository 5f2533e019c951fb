/**
 * A channel of SSH and the process behind it. The process is spawned by the init like every other and its output comes by
 * the spool, small and let go of as it is read; a client that does not read makes the process wait, and holds a bounded
 * amount here. When the client goes first, the process hears of it as from a terminal that hangs up.
 */
import { constants } from 'node:os';
import type { Writable } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import { Refusal } from '../../schema/errors.ts';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import { MergedReader } from '../output/merged-reader.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import { toSpawn } from '../processes/spawn-spec.ts';
import { sshSpawn, type Supervisor } from '../processes/supervisor.ts';
import { recordOf } from '../sessions/main-process.ts';
import type { Session } from '../sessions/session.ts';
import type { SshOf } from './of.ts';
import type { StreamSocket } from './stream-socket.ts';

/** A client may leave its terminal stopped over night: its output waits as long as a spool can. */
const output = { onFull: 'block', blockMs: 86_400_000, spoolBytes: 4 * 1024 * 1024 } as const;
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
  readonly #session: Session;
  readonly #socket: StreamSocket;
  readonly #of: SshOf;
  readonly #spawn: ProcessSpawn;
  readonly #processId: string;
  readonly #gone = new AbortController();
  #supervisor: Supervisor | undefined;
  #inputOffset = 0;
  #pendingWrite: (() => void) | undefined;

  constructor(channel: ServerChannel, session: Session, socket: StreamSocket, of: SshOf, spawn: ProcessSpawn) {
    this.#channel = channel;
    this.#session = session;
    this.#socket = socket;
    this.#of = of;
    this.#spawn = spawn;
    this.#processId = of.freshProcessId();
    channel.on('error', () => undefined); // a close follows
    channel.on('close', () => this.abandon());
  }

  /** Bytes that came and that the process has not taken. */
  get unreadBytes(): number {
    return this.#channel.readableLength;
  }

  /** Starts it, and resolves when everything of it has reached the client, or nobody is there any more. Never rejects. */
  async run(): Promise<void> {
    let exit: ProcessExit | undefined;
    try {
      const spool = await this.#start();
      if (this.#gone.signal.aborted) return this.#supervisor?.abandon(this.#processId);
      this.#feed();
      await this.#pump(spool);
      exit = spool.record.exit;
    } catch (error) {
      await this.#say(error);
    }
    if (!this.#gone.signal.aborted) this.#end(exit);
    await this.#forget();
  }

  /** The client is gone. */
  abandon(): void {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort();
    this.#pendingWrite?.();
    this.#channel.resume();
    this.#supervisor?.abandon(this.#processId);
  }

  resize(rows: number, columns: number): void {
    this.#supervisor?.link.resize(this.#processId, rows, columns).catch(() => undefined);
  }

  /** By its name in SSH; others are not taken. */
  signal(name: string): void {
    if (!named.has(name)) return;
    const number = constants.signals[`SIG${name}` as NodeJS.Signals];
    this.#supervisor?.link.signal(this.#processId, number).catch(() => undefined);
  }

  async #start(): Promise<ProcessSpool> {
    const { supervisor } = this.#session;
    if (supervisor === undefined) throw new Refusal('session_ended', 'The session has ended.');
    const { onFull, blockMs } = output;
    const spec = { ...(await toSpawn(this.#session, this.#processId, this.#spawn)), output: { onFull, blockMs } };
    const record = { ...recordOf(spec, output, this.#of.nowMs()), spawn: sshSpawn };
    this.#supervisor = supervisor;
    return supervisor.spawn(spec, record);
  }

  /** Takes what comes for the process, one piece at a time, as fast as its pipe does. */
  #feed(): void {
    const take = async (bytes: Buffer): Promise<void> => {
      try {
        await this.#supervisor?.writeInput(this.#processId, this.#inputOffset, bytes);
        this.#inputOffset += bytes.byteLength;
      } catch {
        // Nobody reads there any more: what still comes is dropped, as by a pipe that is closed.
        this.#channel.removeListener('data', onData);
      }
      this.#channel.resume();
      this.#socket.poke();
    };
    const onData = (bytes: Buffer): void => {
      this.#channel.pause();
      void take(bytes);
    };
    this.#channel.on('data', onData);
    this.#channel.on('end', () => {
      if (!this.#gone.signal.aborted) this.#supervisor?.link.closeStdin(this.#processId).catch(() => undefined);
    });
  }

  async #pump(spool: ProcessSpool): Promise<void> {
    const reader = new MergedReader(spool, { stdout: 0, stderr: 0 }, { live: true });
    try {
      while (!this.#gone.signal.aborted) {
        const item = await reader.next();
        if (item?.kind === 'gap') throw new Refusal('session_output_gone', 'Some of the output was lost.');
        // The reader uses its buffer again for the next item.
        if (item !== undefined) await this.#write(item.stream, Buffer.from(item.bytes));
        else if (reader.isAtEnd) return;
        else await reader.whenMore(this.#gone.signal);
      }
    } finally {
      await reader.close();
    }
  }

  /** Resolves when the bytes went out within the client's window, and the connection has room for more. */
  async #write(stream: 'stdout' | 'stderr', bytes: Buffer): Promise<void> {
    const channel: ServerChannel = this.#channel;
    const target: Writable = stream === 'stderr' ? channel.stderr : channel;
    await new Promise<void>((resolve) => {
      this.#pendingWrite = resolve;
      target.write(bytes, () => resolve());
    });
    this.#pendingWrite = undefined;
    forgetWaited(channel);
    await this.#socket.whenRoom();
  }

  async #say(error: unknown): Promise<void> {
    const text = error instanceof Refusal ? (error.detail ?? error.code) : 'the process could not be followed';
    if (!(error instanceof Refusal)) this.#of.log.error('a channel of SSH failed', { error: String(error) });
    if (!this.#gone.signal.aborted) await this.#write('stderr', Buffer.from(`causeway: ${text}\n`));
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

  /** Nothing is kept of a process that nobody can attach to again, once it has ended. */
  async #forget(): Promise<void> {
    const { sessionId, generation } = this.#session;
    if (this.#supervisor === undefined || this.#supervisor.isLive(this.#processId)) return;
    await this.#of.spools
      .forget({ sessionId, generation, processId: this.#processId })
      .catch((error: unknown) => this.#of.log.warn('output of SSH is left behind', { error: String(error) }));
  }
}

/**
 * ssh2 keeps the last piece that had to wait for the window, and sends it once more when a piece of the other stream has to
 * wait (1.17.0, `CHANNEL_WINDOW_ADJUST` in `server.js`). Each piece is written alone here, so what it keeps is always done.
 */
function forgetWaited(channel: ServerChannel): void {
  Object.assign(channel, { _chunk: undefined, _chunkcb: undefined, _chunkErr: undefined, _chunkcbErr: undefined });
}

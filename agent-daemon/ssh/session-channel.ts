/**
 * One session channel of an SSH connection (RFC 4254, section 6): gathers terminal and environment, then starts the one
 * process it is for. Answers at once, as ssh2 wants it, while the process is still being started.
 */
import type { ServerChannel, Session as Ssh2Session } from 'ssh2';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import { clampWindow } from '../processes/streams.ts';
import type { Session } from '../sessions/session.ts';
import type { SshOf } from './of.ts';
import { ChannelProcess } from './channel-process.ts';
import type { StreamSocket } from './stream-socket.ts';

/** Variables of the client that reach the process: those that change how things are shown, none that change what runs. */
const taken = /^(LANG|LANGUAGE|LC_[A-Z]{1,24}|COLORTERM|NO_COLOR|TZ|GIT_PROTOCOL)$/;
const maxValueBytes = 4096;
const maxVariables = 32;

/** The user's shell, or the best that the image has, becomes the process; `$1` is what it runs. */
const findShell = '[ -x "$SHELL" ] || SHELL=/bin/bash; [ -x "$SHELL" ] || SHELL=/bin/sh; export SHELL; exec "$SHELL"';
/** Where images keep the file server of OpenSSH. */
const sftpServers = ['/usr/lib/openssh', '/usr/lib/ssh', '/usr/libexec', '/usr/libexec/openssh'];
const findSftp = `for d in ${sftpServers.join(' ')}; do [ -x "$d/sftp-server" ] && exec "$d/sftp-server"; done
echo "causeway: the image has no sftp-server; use scp -O, rsync, or causeway cp" >&2; exit 127`;

export class SessionChannel {
  /** Resolves when the channel and its process are over. */
  readonly done: Promise<void>;
  readonly #session: Session;
  readonly #socket: StreamSocket;
  readonly #of: SshOf;
  readonly #resolveDone: () => void;
  readonly #env: Record<string, string> = {};
  #tty: ProcessSpawn['tty'];
  #process: ChannelProcess | undefined;
  #isOver = false;

  constructor(channel: Ssh2Session, session: Session, socket: StreamSocket, of: SshOf, onDone: () => void) {
    this.#session = session;
    this.#socket = socket;
    this.#of = of;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.done = promise;
    this.#resolveDone = () => {
      if (this.#isOver) return;
      this.#isOver = true;
      resolve();
      onDone();
    };
    this.#listen(channel);
  }

  /** Bytes that came and that the process has not taken. */
  get unreadBytes(): number {
    return this.#process?.unreadBytes ?? 0;
  }

  /** The client is gone. */
  abandon(): void {
    this.#process?.abandon();
    if (this.#process === undefined) this.#resolveDone();
  }

  #listen(channel: Ssh2Session): void {
    channel.on('pty', (accept, _reject, { rows, cols, term }) => {
      this.#tty = { rows: clampWindow(rows), columns: clampWindow(cols) };
      this.#env['TERM'] = /^[\w.+-]{1,64}$/.test(term) ? term : 'xterm';
      accept?.();
    });
    channel.on('env', (accept, reject, { key, val }) => {
      const fits = taken.test(key) && val.length <= maxValueBytes && !val.includes('\0');
      if (!fits || Object.keys(this.#env).length >= maxVariables) return reject?.();
      this.#env[key] = val;
      accept?.();
    });
    channel.on('window-change', (accept, _reject, { rows, cols }) => {
      this.#process?.resize(clampWindow(rows), clampWindow(cols));
      accept?.();
    });
    channel.on('signal', (accept, _reject, { name }) => {
      this.#process?.signal(name);
      accept?.();
    });
    channel.on('shell', (accept) => this.#run(accept(), `${findShell} -l`, ''));
    channel.on('exec', (accept, reject, { command }) => {
      if (command.includes('\0')) reject?.();
      else this.#run(accept(), `${findShell} -c "$1"`, command);
    });
    channel.on('subsystem', (accept, reject, { name }) => {
      if (name === 'sftp') this.#run(accept(), findSftp, '');
      else reject?.();
    });
    channel.on('close', () => this.abandon());
  }

  #run(channel: ServerChannel, script: string, command: string): void {
    this.#process = new ChannelProcess(channel, this.#session, this.#socket, this.#of, {
      argv: ['/bin/sh', '-c', script, 'sh', command],
      env: this.#env,
      ...(this.#tty === undefined ? {} : { tty: this.#tty }),
      stdin: true,
    });
    void this.#process.run().finally(this.#resolveDone);
  }
}

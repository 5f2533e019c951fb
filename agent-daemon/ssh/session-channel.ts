/**
 * One session channel of an SSH connection (RFC 4254, section 6): gathers terminal and environment, then starts the one
 * process it is for. Answers at once, as ssh2 wants it, while the process is still being started.
 */
import type { ServerChannel, Session as Ssh2Session } from 'ssh2';
import { Refusal } from '../../schema/errors.ts';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import { clampWindow } from '../processes/streams.ts';
import { toolArgv } from '../processes/tools.ts';
import type { Session } from '../sessions/session.ts';
import { ChannelProcess } from './channel-process.ts';
import type { OpenChannel, SshOf } from './of.ts';
import type { RemoteForwards } from './remote-forwards.ts';
import { findRsync, isRsyncServer, type RsyncServer } from './rsync.ts';
import type { StreamSocket } from './stream-socket.ts';

/** Variables of the client that reach the process: those that change how things are shown, none that change what runs. */
const taken = /^(LANG|LANGUAGE|LC_[A-Z]{1,24}|COLORTERM|NO_COLOR|TZ|GIT_PROTOCOL)$/;
const maxValueBytes = 4096;
const maxVariables = 32;

/** The user's shell, or the best that the image has, becomes the process; `$1` is what it runs. */
const findShell = '[ -x "$SHELL" ] || SHELL=/bin/bash; [ -x "$SHELL" ] || SHELL=/bin/sh; export SHELL; exec "$SHELL"';
/** Programs that a client starts by itself at the far end, and what does without them. */
const needed = {
  rsync: 'use scp, sftp or causeway cp',
  scp: 'leave -O out, and scp needs nothing of the image',
} as const;
/** Of a shell that finds no such command. */
const notFoundStatus = 127;
/** OpenSSH says nothing of a refusal. */
const noAgent = 'your SSH agent is not forwarded: the machine of the session is set to forward none';

export class SessionChannel implements OpenChannel {
  readonly done: Promise<void>;
  readonly #session: Session;
  readonly #socket: StreamSocket;
  readonly #of: SshOf;
  readonly #forwards: RemoteForwards;
  readonly #resolveDone: () => void;
  readonly #env: Record<string, string> = {};
  #tty: ProcessSpawn['tty'];
  #process: ChannelProcess | undefined;
  #isAbandoned = false;
  #notice = '';

  /** `forwards`: what else the client is listened for. */
  constructor(
    channel: Ssh2Session,
    { session, socket, of }: { session: Session; socket: StreamSocket; of: SshOf },
    forwards: RemoteForwards,
  ) {
    this.#session = session;
    this.#socket = socket;
    this.#of = of;
    this.#forwards = forwards;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.done = promise;
    this.#resolveDone = resolve;
    this.#listen(channel);
  }

  /** Bytes that came and that the process has not taken. */
  get unreadBytes(): number {
    return this.#process?.unreadBytes ?? 0;
  }

  /** The client is gone. */
  abandon(): void {
    this.#isAbandoned = true;
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
    channel.on('auth-agent', (accept, reject) => {
      if (!this.#of.forwardsAgents) {
        this.#notice = noAgent;
        return reject?.();
      }
      void this.#forwards.askAgent();
      accept?.();
    });
    channel.on('shell', (accept) => this.#run(accept(), shellArgv(`${findShell} -l`, '')));
    channel.on('exec', (accept, reject, { command }) => {
      if (command.includes('\0')) reject?.();
      else if (isRsyncServer(command)) void this.#serveRsync(accept(), command);
      else this.#run(accept(), lineArgv(command));
    });
    channel.on('subsystem', (accept, reject, { name }) => {
      if (name === 'sftp') this.#run(accept(), toolArgv('sftp', '.'));
      else reject?.();
    });
    channel.on('close', () => this.abandon());
  }

  /** Resolves when the process may be started, with what is to be said to the client before. */
  async #prepare(): Promise<string> {
    const agent = await this.#forwards.agent;
    if (agent === undefined) return this.#notice;
    if ('why' in agent) return `your SSH agent is not forwarded: ${agent.why}`;
    this.#env['SSH_AUTH_SOCK'] = agent.path;
    return '';
  }

  /** Starts it when it is found; never rejects. */
  async #serveRsync(channel: ServerChannel, command: string): Promise<void> {
    channel.on('error', () => undefined); // a close follows
    const found = await findRsync(command, this.#session, this.#of).catch((error: unknown): RsyncServer => {
      if (!(error instanceof Refusal)) this.#of.log.error('rsync was not looked for', { error: String(error) });
      return {
        kind: 'none',
        why: error instanceof Refusal ? (error.detail ?? error.code) : 'rsync could not be started',
      };
    });
    if (this.#isAbandoned) return;
    if (found.kind === 'shell') this.#run(channel, lineArgv(command, found.path));
    else if (found.kind === 'direct') this.#run(channel, found.argv);
    else this.#notFound(channel, found.why);
  }

  #notFound(channel: ServerChannel, why: string): void {
    channel.stderr.write(`causeway: ${why}\n`);
    channel.exit(notFoundStatus);
    channel.end();
    channel.resume();
    this.#resolveDone();
  }

  #run(channel: ServerChannel, argv: string[]): void {
    this.#process = new ChannelProcess(channel, this.#session, this.#socket, this.#of, {
      argv,
      env: this.#env,
      ...(this.#tty === undefined ? {} : { tty: this.#tty }),
      stdin: true,
    });
    void this.#process.run(this.#prepare()).finally(this.#resolveDone);
  }
}

/** `path`: searched behind what the session has. */
function lineArgv(command: string, path?: string): string[] {
  const searched = path === undefined ? '' : `PATH="$PATH:${path}"; export PATH; `;
  return shellArgv(`${searched}${checkNeeded(command)}${findShell} -c "$1"`, command);
}

function shellArgv(script: string, command: string): string[] {
  return ['/bin/sh', '-c', script, 'sh', command];
}

/** Says what is missing where a shell would only say that something is not found. */
function checkNeeded(command: string): string {
  const name = /^(rsync|scp) /.exec(command)?.[1] as keyof typeof needed | undefined;
  if (name === undefined) return '';
  const missing = `causeway: the image has no ${name}: ${needed[name]}`;
  return `command -v ${name} >/dev/null 2>&1 || { echo "${missing}" >&2; exit 127; }; `;
}

/** What the gateway itself says to a client, as if it were its kernel's server. */
import type { Clock, Random } from '../../../schema/ports.ts';
import type { ClientSocket } from './client-socket.ts';
import { joinMessage, type Message } from '../../../schema/protocol/jupyter-framing.ts';
import { spoken } from './messages.ts';
import type { Request } from './requests.ts';

const endWords = 'it has ended, and how is among the messages that are missing';

export class Voice {
  readonly #socket: ClientSocket;
  readonly #ports: { clock: Clock; random: Random };
  /** The kernel's session, of which these messages are, so that clients take neither's for old. */
  session = 'causeway';

  constructor(socket: ClientSocket, ports: { clock: Clock; random: Random }) {
    this.#socket = socket;
    this.#ports = ports;
  }

  /** False, as of {@link ClientSocket.send}: the client never reads. */
  say(message: Message, bytes: Uint8Array = joinMessage(message)): Promise<boolean> {
    return this.#socket.send(message, bytes);
  }

  status(state: 'starting' | 'restarting' | 'dead'): Promise<boolean> {
    return this.#publish('status', { execution_state: state });
  }

  /** Words for people, as output; of a request, when its header is given. */
  tell(words: string, parent?: Uint8Array): Promise<boolean> {
    const text = `[causeway: ${words}]\n`;
    return this.#publish('stream', { name: 'stderr', text }, parent);
  }

  /** Has the output of a request cleared. */
  clear(parent: Uint8Array): Promise<boolean> {
    return this.#publish('clear_output', { wait: false }, parent);
  }

  /** Ends a request that is over and whose end is missing: how it ended nobody knows, so it did not end well. */
  async end({ header, replyType, isExecution, repliedAt, idleAt }: Request): Promise<boolean> {
    const error = { ename: 'OutputMissing', evalue: endWords, traceback: [`OutputMissing: ${endWords}`] };
    if (repliedAt === undefined) {
      if (isExecution && !(await this.#publish('error', error, header))) return false;
      const content = { status: 'error', ...error, ...(isExecution ? { execution_count: null } : {}) };
      if (!(await this.say(spoken('shell', replyType, content, this.#speaker, header)))) return false;
    }
    return idleAt !== undefined || this.#publish('status', { execution_state: 'idle' }, header);
  }

  #publish(type: string, content: object, parent?: Uint8Array): Promise<boolean> {
    return this.say(spoken('iopub', type, content, this.#speaker, parent));
  }

  get #speaker() {
    const { random, clock } = this.#ports;
    return { id: hexOf(random.bytes(16)), session: this.session, nowMs: clock.nowMs() };
  }
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

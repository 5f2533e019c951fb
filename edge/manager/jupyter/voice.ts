/** What the gateway itself says to a client, as if it were its kernel's server. */
import type { Clock, Random } from '../../../schema/ports.ts';
import type { ClientSocket } from './client-socket.ts';
import { joinMessage, type Message } from '../../../schema/protocol/jupyter-framing.ts';
import { iopub } from './messages.ts';

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
    return this.say(iopub('status', { execution_state: state }, this.#speaker));
  }

  /** Words for people, as output; of a request, when its header is given. */
  tell(words: string, parent?: Uint8Array): Promise<boolean> {
    const text = `[causeway: ${words}]\n`;
    return this.say(iopub('stream', { name: 'stderr', text }, this.#speaker, parent));
  }

  /** Has the output of a request cleared. */
  clear(parent: Uint8Array): Promise<boolean> {
    return this.say(iopub('clear_output', { wait: false }, this.#speaker, parent));
  }

  get #speaker() {
    const { random, clock } = this.#ports;
    return { id: hexOf(random.bytes(16)), session: this.session, nowMs: clock.nowMs() };
  }
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

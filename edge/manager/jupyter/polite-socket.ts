/** A WebSocket of a Jupyter client, as far as it is the same for kernels and terminals: what its client reads, and how it ends. */
import type { Unproven } from './unproven.ts';

const maxReasonBytes = 120;

export class PoliteSocket {
  readonly #socket: WebSocket;
  readonly #unproven: Unproven;
  #isOpen = true;

  /** @param socket accepted already */
  constructor(socket: WebSocket, unproven: Unproven) {
    this.#socket = socket;
    this.#unproven = unproven;
  }

  /** `gone`: the socket is closed, from whichever side. */
  listen(ears: { message(data: string | ArrayBuffer): void; gone(): void }): void {
    const gone = () => {
      this.#isOpen = false;
      this.#unproven.stop();
      ears.gone();
    };
    this.#socket.addEventListener('message', ({ data }) => ears.message(data as string | ArrayBuffer));
    this.#socket.addEventListener('close', ({ code }) => {
      // Ours to answer: the other end would see 1006 else.
      if (this.#isOpen) this.#socket.close(code === 1005 || code === 1006 ? 1000 : code, 'bye');
      gone();
    });
    this.#socket.addEventListener('error', gone);
  }

  /** The client spoke. */
  heard(): void {
    this.#unproven.heard();
  }

  /** Sends when the client may have read enough. False: it never does. */
  async send(said: string | Uint8Array): Promise<boolean> {
    if (!(await this.#unproven.spend(said.length))) return false;
    if (this.#isOpen) this.#socket.send(said);
    return true;
  }

  close(code: number, reason: string): void {
    this.#unproven.stop();
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#socket.close(code, new TextDecoder().decode(new TextEncoder().encode(reason).slice(0, maxReasonBytes)));
  }
}

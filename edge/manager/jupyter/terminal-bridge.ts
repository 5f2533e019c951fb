/**
 * Between the WebSocket of a Jupyter client and a terminal in the tunnel (SPEC rules S18, S19). The agent has the screen and
 * the log; this moves bytes, makes text of them, and opens the tunnel's stream again where it was cut, which the client does
 * not notice. A socket begins with the screen on a terminal that was reset: whoever comes, a page that was reloaded or one
 * that lost its connection, sees what stands there. Memory is bounded: towards the client by what it may not have read,
 * towards the terminal by what that has not taken.
 */
import type { TerminalWindow } from '../../../schema/api/terminal-parts.ts';
import { type ErrorCode, Refusal } from '../../../schema/errors.ts';
import type { Log, Timers } from '../../../schema/ports.ts';
import { InputLog } from '../../../schema/protocol/input-log.ts';
import { closeCodes } from '../../../schema/protocol/limits.ts';
import { StreamOver } from '../../../schema/protocol/stream.ts';
import type { TerminalControl } from '../../../schema/protocol/terminal.ts';
import { type Shown, TerminalReader } from '../../../schema/protocol/terminal-reader.ts';
import { OutputFilter } from '../../../schema/terminal/filter.ts';
import { type OpenedStream, refusalOf } from '../../tunnel/client-stream.ts';
import { heals } from './heals.ts';
import type { TerminalSocket } from './terminal-socket.ts';

/** Where a stream begins: the size, if the client has said one; how much it typed; what it has seen. */
export interface TerminalAsk {
  window: TerminalWindow | undefined;
  sentBytes: number;
  after: number | undefined;
}

export interface TerminalBridgePorts {
  timers: Timers;
  log: Log;
  /** @throws Refusal */
  open(ask: TerminalAsk): Promise<OpenedStream>;
  /** May the person still? Rejects when nobody can tell. */
  stillAllowed(): Promise<boolean>;
  /** True while this machine stops. */
  isDraining(): boolean;
}

/** A client says its size when it has heard `setup`; one that does not is shown the terminal as large as it is. */
const sizeMs = 500;
/** What was typed and waits for a way to the terminal. */
const maxUnsentBytes = 32 * 1024 * 1024;
const pausesMs = [100, 200, 400, 800, 1_500, 3_000, 5_000] as const;
/** What came did not go on where it should: tried again so often. */
const maxBroken = 5;
const reset = '\x1bc';

/** What is said of the client, or of its terminal: close codes. */
const faults: Partial<Record<ErrorCode, number>> = {
  auth_revoked: closeCodes.revoked,
  access_denied: closeCodes.refused,
  terminal_busy: closeCodes.refused,
};

export class TerminalBridge {
  readonly #socket: TerminalSocket;
  readonly #ports: TerminalBridgePorts;
  readonly #reader = new TerminalReader();
  readonly #input = new InputLog();
  readonly #over = new AbortController();
  #filter = new OutputFilter({ queries: false });
  #decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true });
  #window: TerminalWindow | undefined;
  #opened: OpenedStream | undefined;
  #broken = 0;
  #wake: (() => void) | undefined;

  constructor(socket: TerminalSocket, ports: TerminalBridgePorts) {
    this.#socket = socket;
    this.#ports = ports;
    socket.listen({
      typed: (text) => this.#typed(text),
      sized: (window) => this.#sized(window),
      wrong: (words) => this.#close(1007, words),
      gone: () => this.#stop(),
    });
  }

  /** Until the terminal has ended, or the client is gone or sent away. */
  async run(): Promise<void> {
    await this.#send(['setup', {}]);
    if (this.#window === undefined && this.#input.unsentBytes === 0) await this.#wait(sizeMs);
    for (let tries = 0; !this.#isOver; tries++) {
      try {
        await this.#follow(await this.#ports.open(this.#ask), () => (tries = 0));
      } catch (error) {
        await this.#failed(error);
      }
      if (!this.#isOver) await this.#pause(tries);
    }
  }

  get #isOver(): boolean {
    return this.#over.signal.aborted;
  }

  get #ask(): TerminalAsk {
    return { window: this.#window, sentBytes: this.#input.sentBytes, after: this.#reader.after };
  }

  // ---- from the terminal ----

  async #follow(opened: OpenedStream, progressed: () => void): Promise<void> {
    const { stream } = opened;
    const left = new AbortController();
    this.#opened = opened;
    this.#reader.begin();
    try {
      if (this.#isOver) return;
      const from = opened.opened.inputOffset ?? 0;
      if (!this.#input.rewind(from)) return this.#close(1011, 'what was typed is not kept any more');
      const signal = AbortSignal.any([left.signal, this.#over.signal]);
      this.#input.feed(stream, from, signal).catch(() => undefined);
      for await (const item of stream.read()) {
        const shown = this.#reader.take(item);
        progressed();
        if (shown) await this.#show(shown);
        if (this.#isOver) return;
      }
    } finally {
      left.abort();
      this.#opened = undefined;
      opened.close();
    }
  }

  async #show(shown: Shown): Promise<void> {
    this.#broken = 0;
    switch (shown.kind) {
      case 'clear':
        this.#filter = new OutputFilter({ queries: false });
        this.#decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true });
        return this.#send(['stdout', reset]);
      case 'bytes': {
        // A character may be cut anywhere: its begin waits for its end.
        const text = this.#decoder.decode(this.#filter.push(shown.bytes), { stream: true });
        return text === '' ? undefined : this.#send(['stdout', text]);
      }
      case 'missed':
        return;
      case 'end':
        return this.#end();
    }
  }

  /** The terminal is over: the client is told, as terminado tells it. */
  async #end(): Promise<void> {
    await this.#send(['disconnect', 1]);
    this.#close(closeCodes.normal, 'the terminal has ended');
  }

  // ---- from the client ----

  #typed(text: string): void {
    if (this.#isOver || text === '') return;
    this.#input.push(new TextEncoder().encode(text), () => undefined);
    this.#wake?.();
    if (this.#input.unsentBytes > maxUnsentBytes)
      this.#close(closeCodes.policy, 'too much waits for the terminal: send it slower');
  }

  #sized(window: TerminalWindow): void {
    this.#window = window;
    this.#wake?.();
    const message: TerminalControl = { kind: 'resize', ...window };
    this.#opened?.stream.writeControl(message).catch(() => undefined);
  }

  // ---- ends and pauses ----

  async #failed(cause: unknown): Promise<void> {
    if (this.#isOver) return;
    const isBroken = cause instanceof StreamOver && cause.code === 'tunnel_frame_invalid';
    if (isBroken && ++this.#broken < maxBroken) return;
    const error = refusalOf(cause);
    if (!(error instanceof Refusal)) {
      this.#ports.log.error('a terminal of Jupyter failed', { error: String(error) });
      return this.#close(1011, 'internal');
    }
    if (heals.has(error.code)) return;
    const fault = faults[error.code];
    if (fault !== undefined) return this.#close(fault, error.message);
    // It is gone for good: a client that is told so does not come again.
    await this.#send(['disconnect', 1]);
    this.#close(closeCodes.gone, error.message);
  }

  async #send(message: readonly unknown[]): Promise<void> {
    if (this.#isOver || (await this.#socket.send(message))) return;
    this.#close(closeCodes.policy, 'nothing was read for long: come back, the screen is kept');
  }

  /** Before the next try; whoever may not any more is sent away. */
  async #pause(tries: number): Promise<void> {
    await this.#wait(pausesMs[Math.min(tries, pausesMs.length - 1)]!);
    if (this.#isOver) return;
    if (this.#ports.isDraining()) return this.#close(1012, 'the control plane restarts');
    const allowed = await this.#ports.stillAllowed().catch(() => undefined);
    if (allowed === false) this.#close(closeCodes.revoked, 'auth_revoked');
    else if (allowed === undefined) this.#close(closeCodes.moved, 'access could not be checked');
  }

  /** Until the client says something, or is gone, or for so long. */
  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        cancel();
        this.#wake = undefined;
        resolve();
      };
      const cancel = this.#ports.timers.after(ms, done);
      this.#wake = done;
    });
  }

  #close(code: number, reason: string): void {
    this.#socket.close(code, reason);
    this.#stop();
  }

  #stop(): void {
    this.#over.abort();
    this.#opened?.close();
    this.#wake?.();
  }
}

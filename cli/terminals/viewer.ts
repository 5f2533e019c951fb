/**
 * Looks at one terminal of a session over any number of cuts: after a short one the output goes on behind the last byte that
 * was shown, after a longer one with the exact screen. What is typed meanwhile arrives, each byte once.
 */
import { channels } from '../../schema/protocol/frame.ts';
import { parseJson } from '../../schema/protocol/json.ts';
import type { StreamItem } from '../../schema/protocol/inbox.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import { type TerminalControl, TerminalEvent } from '../../schema/protocol/terminal.ts';
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { CliFailure } from '../exit.ts';
import { asFailure, passing, type ProcessEnd } from '../process/follow.ts';
import type { InputLog } from '../process/input-log.ts';
import type { Dialler } from '../tunnel/dial.ts';

export interface ViewerIo {
  /** Makes the place empty on which a screen of this size is drawn next. */
  clear(window: TerminalWindow): Promise<void>;
  /** Resolves when the bytes were taken, so that a slow reader slows the far end. */
  write(bytes: Uint8Array): Promise<void>;
  /** The way is cut for longer than a moment: one line, which the next screen takes away. */
  cut(): void;
}

export interface ViewedTerminal {
  terminalId: string;
  /** What is typed, under a name that stays over cuts; absent: only looks. */
  typing?: { log: InputLog; writer: string };
  /** The size here. */
  window: () => TerminalWindow;
}

const firstPauseMs = 100;
const lastPauseMs = 5000;
const cutAfterMs = 1000;
/** What came did not go on where it should: tried again so often. */
const maxBroken = 5;

export class TerminalViewer {
  readonly #dial: Dialler;
  readonly #terminal: ViewedTerminal;
  readonly #io: ViewerIo;
  readonly #left = new AbortController();
  /** Offset behind what is shown; undefined: nothing that can be gone on with. */
  #after: number | undefined;
  /** Bytes of the screen that is being drawn, and where the output goes on behind it. */
  #screen: { left: number; at: number } | undefined;
  #stream: Stream | undefined;
  #end: ProcessEnd | undefined;
  #missedBytes = 0;

  constructor(dial: Dialler, terminal: ViewedTerminal, io: ViewerIo) {
    this.#dial = dial;
    this.#terminal = terminal;
    this.#io = io;
  }

  /** Output that went by unseen: in its place came a screen. */
  get missedBytes(): number {
    return this.#missedBytes;
  }

  /** Looks until the terminal ends; undefined when `leave` was called. @throws CliFailure on a refusal that waiting can not cure */
  async run(): Promise<ProcessEnd | undefined> {
    let pauseMs = firstPauseMs;
    let broken = 0;
    let cutAtMs: number | undefined;
    while (!this.#left.signal.aborted) {
      try {
        await this.#once(() => {
          cutAtMs = undefined;
          pauseMs = firstPauseMs;
        });
        if (this.#end !== undefined) return this.#end;
      } catch (error) {
        const isBroken = error instanceof StreamOver && error.code === 'tunnel_frame_invalid' && broken++ < maxBroken;
        if (!isBroken && !isPassing(error)) throw asFailure(error);
      }
      if (this.#left.signal.aborted) break;
      cutAtMs ??= performance.now();
      if (performance.now() - cutAtMs > cutAfterMs) this.#showCut();
      await new Promise((resolve) => setTimeout(resolve, pauseMs * (0.5 + Math.random() / 2)));
      pauseMs = Math.min(2 * pauseMs, lastPauseMs);
    }
    return undefined;
  }

  /** Leaves the terminal alone and makes `run` return undefined. */
  leave(): void {
    this.#left.abort();
    this.#stream?.reset('tunnel_closed');
  }

  /** The size here has changed: told now, or with the next way. */
  resized(): void {
    const message: TerminalControl = { kind: 'resize', ...this.#terminal.window() };
    if (this.#terminal.typing !== undefined) void this.#stream?.writeControl(message).catch(() => undefined);
  }

  #showCut(): void {
    if (this.#after === undefined) return;
    this.#after = undefined;
    this.#io.cut();
  }

  async #once(opened: () => void): Promise<void> {
    const socket = await this.#dial(this.#left.signal);
    const over = new AbortController();
    try {
      const { terminalId, typing, window } = this.#terminal;
      const stream = socket.open({
        op: 'terminal',
        terminalId,
        ...(typing === undefined
          ? {}
          : { input: { writer: typing.writer, from: typing.log.sentBytes }, window: window() }),
        ...(this.#after === undefined ? {} : { after: this.#after }),
      });
      this.#stream = stream;
      this.#screen = undefined;
      const { inputOffset } = await stream.whenOpened;
      opened();
      if (typing !== undefined && inputOffset !== undefined) {
        if (!typing.log.rewind(inputOffset))
          throw new CliFailure('what was typed can not be resumed: the far end asks for what is no longer kept here');
        void sendInput(stream, typing.log, inputOffset, over.signal);
      }
      for await (const item of stream.read()) {
        await this.#take(item);
        if (this.#end !== undefined) return;
      }
      throw new StreamOver({ code: 'tunnel_closed' });
    } finally {
      over.abort();
      this.#stream = undefined;
      socket.close();
    }
  }

  async #take({ channel, offset, bytes, end }: StreamItem): Promise<void> {
    if (end) return;
    if (channel === channels.control) return this.#hear(TerminalEvent.parse(parseJson(bytes)));
    if (channel === channels.stderr) return this.#draw(bytes);
    if (offset !== this.#after)
      throw broken(`Byte ${offset} of the output came where ${this.#after ?? 'a screen'} was to come.`);
    await this.#io.write(bytes);
    this.#after = offset + bytes.byteLength;
  }

  async #draw(bytes: Uint8Array): Promise<void> {
    if (this.#screen === undefined || bytes.byteLength > this.#screen.left) throw broken('A screen came unannounced.');
    await this.#io.write(bytes);
    this.#screen.left -= bytes.byteLength;
    if (this.#screen.left === 0) this.#after = this.#screen.at;
  }

  async #hear(event: TerminalEvent): Promise<void> {
    switch (event.kind) {
      case 'screen': {
        const { at, bytes, rows, columns } = event;
        this.#screen = { left: bytes, at };
        this.#after = bytes === 0 ? at : undefined;
        return this.#io.clear({ rows, columns });
      }
      case 'gap':
        this.#missedBytes += event.to - event.from;
        return;
      case 'exit':
        if (this.#after !== event.end) throw broken(`The end came at ${this.#after}, and belongs at ${event.end}.`);
        this.#end = { exitCode: event.exitCode, signal: event.signal, reason: event.reason };
        return;
      case 'window':
      case 'inputEnded':
        return;
    }
  }
}

function broken(detail: string): StreamOver {
  return new StreamOver({ code: 'tunnel_frame_invalid', detail });
}

function isPassing(error: unknown): boolean {
  return error instanceof StreamOver && (passing.has(error.code) || error.code === 'terminal_screen_lost');
}

async function sendInput(stream: Stream, input: InputLog, from: number, signal: AbortSignal): Promise<void> {
  stream.seek(channels.input, from);
  try {
    for (let bytes = await input.next(signal); bytes !== undefined; bytes = await input.next(signal))
      await stream.write(channels.input, bytes);
  } catch {
    // The stream is over; receiving says why.
  }
}

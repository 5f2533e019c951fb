/**
 * Looks at one terminal of a session over any number of cuts: after a short one the output goes on behind the last byte that
 * was shown, after a longer one with the exact screen. What is typed meanwhile arrives, each byte once.
 */
import type { InputLog } from '../../schema/protocol/input-log.ts';
import type { StreamItem } from '../../schema/protocol/inbox.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import type { TerminalControl } from '../../schema/protocol/terminal.ts';
import { TerminalReader } from '../../schema/protocol/terminal-reader.ts';
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import { CliFailure } from '../exit.ts';
import type { ProcessEnd } from '../process/follow.ts';
import { Patience } from '../tunnel/patience.ts';
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
const cutAfterMs = 1000;

export class TerminalViewer {
  readonly #dial: Dialler;
  readonly #terminal: ViewedTerminal;
  readonly #io: ViewerIo;
  readonly #left = new AbortController();
  readonly #reader = new TerminalReader();
  readonly #patience = new Patience(firstPauseMs);
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
    let cutAtMs: number | undefined;
    while (!this.#left.signal.aborted) {
      try {
        await this.#once(() => {
          cutAtMs = undefined;
          this.#patience.connected();
        });
        if (this.#end !== undefined) return this.#end;
      } catch (error) {
        this.#patience.judge(error);
      }
      if (this.#left.signal.aborted) break;
      cutAtMs ??= performance.now();
      if (performance.now() - cutAtMs > cutAfterMs) this.#showCut();
      await this.#patience.pause();
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
    if (this.#reader.after === undefined) return;
    this.#reader.forget();
    this.#io.cut();
  }

  async #once(opened: () => void): Promise<void> {
    const socket = await this.#dial(this.#left.signal);
    const over = new AbortController();
    try {
      const { terminalId, typing, window } = this.#terminal;
      const { after } = this.#reader;
      const stream = socket.open({
        op: 'terminal',
        terminalId,
        ...(typing === undefined
          ? {}
          : { input: { writer: typing.writer, from: typing.log.sentBytes }, window: window() }),
        ...(after === undefined ? {} : { after }),
      });
      this.#stream = stream;
      this.#reader.begin();
      const { inputOffset } = await stream.whenOpened;
      opened();
      if (typing !== undefined && inputOffset !== undefined) {
        if (!typing.log.rewind(inputOffset))
          throw new CliFailure('what was typed can not be resumed: the far end asks for what is no longer kept here');
        typing.log.feed(stream, inputOffset, over.signal).catch(() => undefined);
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

  async #take(item: StreamItem): Promise<void> {
    const shown = this.#reader.take(item);
    switch (shown?.kind) {
      case 'clear':
        return this.#io.clear(shown.window);
      case 'bytes':
        this.#patience.renew();
        return this.#io.write(shown.bytes);
      case 'missed':
        this.#missedBytes += shown.bytes;
        return;
      case 'end':
        this.#end = shown.end;
        return;
      case undefined:
    }
  }
}

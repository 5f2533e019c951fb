/**
 * Reads a process's kept output to its end over any number of cuts, as a good client does: it dials again and continues
 * at the offset it has. It insists that bytes come in order, each once, and that every hole was announced before it;
 * where frames are disturbed on purpose (`doubts`) it takes nothing else either, and asks for the rest again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { channels } from '../../schema/protocol/frame.ts';
import type { ProcessEvent } from '../../schema/protocol/streams.ts';
import { ClientSocket } from './client-socket.ts';
import { until } from './wait.ts';

const handshakeMs = 15_000;

type Phase = 'idle' | 'dialling' | 'opening' | 'reading';
type Exit = Extract<ProcessEvent, { kind: 'exit' }>;

export class LogReader {
  /** The next byte that is expected. */
  offset = 0;
  receivedBytes = 0;
  reconnects = 0;
  /** What it does right now, for messages. */
  get phase(): Phase {
    return this.#phase;
  }
  readonly gaps: { from: number; to: number }[] = [];
  readonly #base: () => string;
  readonly #token: string;
  readonly #sessionId: string;
  readonly #onBytes: (bytes: Uint8Array, offset: number) => void;
  readonly #doubts: boolean;
  #phase: Phase = 'idle';
  #sinceMs = performance.now();
  #broken: Error | undefined;
  #stopped = false;
  #socket: ClientSocket | undefined;

  constructor(
    base: () => string,
    token: string,
    sessionId: string,
    onBytes: (bytes: Uint8Array, offset: number) => void,
    { doubts = false }: { doubts?: boolean } = {},
  ) {
    this.#doubts = doubts;
    this.#base = base;
    this.#token = token;
    this.#sessionId = sessionId;
    this.#onBytes = onBytes;
  }

  /** How long it has been at that. */
  get phaseSeconds(): number {
    return Math.round((performance.now() - this.#sinceMs) / 1000);
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#sinceMs = performance.now();
  }

  /** Reads stdout until the exit of the main process was told. */
  async untilExit(timeoutMs = 1_800_000): Promise<Exit> {
    const endMs = performance.now() + timeoutMs;
    let last = 'never connected';
    while (performance.now() < endMs && !this.#stopped) {
      try {
        return await this.#readOnce();
      } catch (error) {
        if (this.#broken !== undefined) throw this.#broken;
        last = (error as Error).message;
        this.reconnects++;
        await sleep(200);
      }
    }
    throw new Error(
      `no exit of ${this.#sessionId} after ${timeoutMs} ms at ${this.phase}, offset ${this.offset}: ${last}`,
    );
  }

  /** Waits until this much was received (or announced as missing). */
  async untilOffset(offset: number): Promise<void> {
    await until(() => this.offset >= offset || this.#broken, {
      what: `output up to byte ${offset}`,
      timeoutMs: 300_000,
    });
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** Gives up: whoever waits for the exit is told so. */
  stop(): void {
    this.#stopped = true;
    this.#socket?.cut();
  }

  async #readOnce(): Promise<Exit> {
    this.#enter('dialling');
    const path = `/v1/sessions/${this.#sessionId}/logs`;
    const socket = await ClientSocket.dial(this.#base(), path, this.#token, { ws: { handshakeTimeout: handshakeMs } });
    this.#socket = socket;
    if (this.#stopped) socket.cut();
    try {
      const stream = socket.open(
        {
          op: 'logs',
          processId: 'main',
          streams: 'stdout',
          after: { stdout: this.offset, stderr: 0 },
          follow: true,
        },
        {
          onData: (channel, payload, offset) => {
            if (channel === channels.stdout) this.#take(payload, offset);
            if (channel === channels.control) this.#takeGap(parseEvent(payload));
          },
        },
      );
      this.#enter('opening');
      await stream.opened;
      this.#enter('reading');
      const exit = await stream.exit();
      if (this.offset >= (exit.ends.stdout ?? 0)) return exit;
      const detail = `[I5] the exit came at byte ${this.offset} of ${exit.ends.stdout}`;
      if (!this.#doubts) this.#broken ??= new Error(detail);
      throw new Error(detail);
    } finally {
      this.#enter('idle');
      socket.cut();
    }
  }

  #take(payload: Uint8Array, offset: number): void {
    if (offset !== this.offset) {
      if (this.#doubts) return this.#socket?.cut();
      this.#broken ??= new Error(
        `[I5] byte ${offset} came where ${this.offset} was expected, and no gap was announced`,
      );
      return;
    }
    this.offset += payload.length;
    this.receivedBytes += payload.length;
    this.#onBytes(payload, offset);
  }

  #takeGap(event: ProcessEvent): void {
    if (event.kind !== 'gap' || event.stream !== 'stdout') return;
    if (event.from !== this.offset) {
      if (this.#doubts) return this.#socket?.cut();
      this.#broken ??= new Error(`[I5] a gap from ${event.from} was announced at ${this.offset}`);
      return;
    }
    this.gaps.push({ from: event.from, to: event.to });
    this.offset = event.to;
  }
}

function parseEvent(payload: Uint8Array): ProcessEvent {
  return JSON.parse(Buffer.from(payload).toString()) as ProcessEvent;
}

/** A program in a terminal, typed into and heard by bytes: ours through the edge, or one that OpenSSH leads to. */
import { spawn } from 'node:child_process';
import type { Terminal } from '../../../schema/api/terminal-parts.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { ClientSocket } from '../../support/client-socket.ts';
import type { Stack } from '../../support/stack.ts';
import { until } from '../../support/wait.ts';
import type { Sshd } from '../peers/ssh.ts';
import { openWetty } from '../peers/wetty.ts';

/** What is heard begins with this. */
export const readyWord = 'ready';

export class TypedTerminal {
  /** Bytes heard, without screens. */
  heardBytes = 0;
  /** The end of what was heard. */
  #tail = '';
  #listener = (): void => undefined;
  readonly #type: (bytes: Uint8Array) => void;
  readonly #end: () => Promise<void>;

  private constructor(type: (bytes: Uint8Array) => void, end: () => Promise<void>) {
    this.#type = type;
    this.#end = end;
  }

  /** Runs a shell script that says {@link readyWord} in a terminal of a session, from a client's socket. */
  static async ours(stack: Stack, sessionId: string, script: string): Promise<TypedTerminal> {
    const path = `/v1/sessions/${sessionId}/terminals`;
    const { id } = (await stack.client.api('POST', path, { argv: ['sh', '-c', script] })) as Terminal;
    const socket = await ClientSocket.dial(stack.url, `${path}/${id}`, stack.client.token!);
    const stream = socket.open(
      { op: 'terminal', terminalId: id, input: { writer: 'bench-writer', from: 0 }, window: { rows: 24, columns: 80 } },
      {
        // As a client of the product grants by itself on a path like this.
        grant: 4 * 1024 * 1024,
        onData: (channel, payload) => {
          if (channel === channels.stdout || channel === channels.stderr) made.#hear(payload);
        },
      },
    );
    const made = new TypedTerminal(
      (bytes) => void stream.send(bytes),
      async () => {
        socket.cut();
        await stack.client.api('DELETE', `${path}/${id}`);
      },
    );
    return made.#whenReady();
  }

  /** The same by `ssh -tt`, without the delays by which it hides when keys are pressed. */
  static async openSsh({ args, destination }: Sshd, script: string): Promise<TypedTerminal> {
    const line = [...args, '-tt', '-o', 'ObscureKeystrokeTiming=no', destination, script];
    const child = spawn('ssh', line, {
      env: { ...process.env, TERM: 'xterm-256color' },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
    const made = new TypedTerminal(
      (bytes) => void child.stdin.write(bytes),
      async () => {
        child.kill('SIGKILL');
        await ended;
      },
    );
    child.stdin.on('error', () => undefined);
    child.stdout.on('data', (bytes: Buffer) => made.#hear(bytes));
    return made.#whenReady();
  }

  /** The same by npm wetty, as its page in a browser would, which draws nothing here. */
  static async wetty(script: string): Promise<TypedTerminal> {
    const early: Buffer[] = [];
    let hear = (bytes: Buffer): void => void early.push(bytes);
    const opened = await openWetty(script, (bytes) => hear(bytes));
    const made = new TypedTerminal(
      (bytes) => opened.type(bytes),
      () => opened.stop(),
    );
    for (const bytes of early) made.#hear(bytes);
    hear = (bytes) => made.#hear(bytes);
    return made.#whenReady();
  }

  /** Types, and resolves when something that `is` true of the end of what is heard has come; returns ms. */
  async typed(text: string, is: (heard: { bytes: number; tail: string }) => boolean): Promise<number> {
    const startedMs = performance.now();
    await new Promise<void>((resolve) => {
      this.#listener = () => {
        if (is({ bytes: this.heardBytes, tail: this.#tail })) resolve();
      };
      this.#type(Buffer.from(text));
    });
    this.#listener = () => undefined;
    return performance.now() - startedMs;
  }

  stop(): Promise<void> {
    return this.#end();
  }

  #hear(bytes: Uint8Array): void {
    this.heardBytes += bytes.byteLength;
    this.#tail = (this.#tail + Buffer.from(bytes.subarray(-512)).toString('latin1')).slice(-512);
    this.#listener();
  }

  async #whenReady(): Promise<this> {
    await until(() => this.#tail.includes(readyWord), {
      what: 'the program in a terminal',
      timeoutMs: 60_000,
      everyMs: 10,
    });
    this.#tail = '';
    this.heardBytes = 0;
    return this;
  }
}

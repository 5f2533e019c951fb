/** `kernel-client.py` as a process that is asked for one figure after the other. It needs Debian's jupyter-server (or what it brings). */
import { join } from 'node:path';
import { type Started, start } from '../../support/process.ts';

const program = join(import.meta.dirname, 'kernel-client.py');
/** Debian's own: another one on the path has none of its packages. */
const python = '/usr/bin/python3';
const answerMs = 600_000;

export interface RunFigures {
  ms: number;
  /** Of output. */
  characters: number;
  lines: number;
  /** Of buffers. */
  bytes: number;
}

export type KernelAddress = { url: string } | { file: string };

export class KernelClient {
  readonly #process: Started;
  #asked = 0;

  /** `netns`: where the kernel's ports are. */
  constructor(way: 'ws' | 'zmq', netns?: string) {
    this.#process = start(python, [program, way], {
      name: `kernel-client ${way}`,
      stdin: true,
      ...(netns === undefined ? {} : { netns }),
    });
  }

  async connect(address: KernelAddress): Promise<this> {
    await this.#ask({ do: 'connect', ...address });
    return this;
  }

  /** Each in ms, from the request until it was answered and the kernel idle again. */
  async times(code: string, count: number): Promise<number[]> {
    return ((await this.#ask({ do: 'times', code, count })) as { times: number[] }).times;
  }

  /** Runs a cell, with a buffer of `send` bytes beside the request. */
  async run(code: string, send = 0): Promise<RunFigures> {
    return (await this.#ask({ do: 'run', code, send })) as unknown as RunFigures;
  }

  /** Connects and runs; returns ms of both. */
  async first(address: KernelAddress, code: string): Promise<number> {
    return ((await this.#ask({ do: 'first', ...address, code })) as { ms: number }).ms;
  }

  async stop(): Promise<void> {
    await this.#process.kill9();
  }

  async #ask(command: object): Promise<Record<string, unknown>> {
    const id = ++this.#asked;
    this.#process.child.stdin?.write(`${JSON.stringify({ id, ...command })}\n`);
    const answer = await this.#process.line((line) => line['id'] === id, {
      timeoutMs: answerMs,
      what: `an answer to ${JSON.stringify(command).slice(0, 200)}`,
    });
    if (answer['error'] !== undefined) throw new Error(`${this.#process.name}: ${String(answer['error'])}`);
    return answer;
  }
}

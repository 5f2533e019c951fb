/** Somebody who listens within a container, by a tool there, and tells of each connection (`agent-daemon/init/SPEC.md`, "Tools"). */
import { AttendedProcess, type AttendedOf } from '../processes/attended.ts';
import { toolArgv } from '../processes/tools.ts';
import type { Session } from '../sessions/session.ts';

export interface ListenerEvents {
  /** From now on, at this port; 0 for a path. */
  listening(port: number): void;
  /** Somebody connected, from where: `take` or `drop` it by its id. */
  connected(id: string, from: { address: string; port: number }): void;
}

/** Characters of a line of the tool; it writes far less. */
const maxLine = 256;

export class ToolListener {
  readonly #process: AttendedProcess;
  /** By which the connections are taken, within the container. */
  readonly #name: string;
  #line = '';

  /** At a port of the container's loopback (0: any), or at a path. */
  constructor(session: Session, of: AttendedOf, at: { port: number } | { path: string }) {
    this.#name = `causeway-${of.freshProcessId()}`;
    const argv =
      'path' in at ? toolArgv('listen-unix', at.path, this.#name) : toolArgv('listen', String(at.port), this.#name);
    this.#process = new AttendedProcess(session, of, { argv, stdin: true });
  }

  /** Listens until it is stopped, or can not. @throws Refusal when nothing could be started */
  async run(events: ListenerEvents): Promise<void> {
    await this.#process.start();
    await this.#process.follow((stream, bytes) => {
      if (stream === 'stdout') this.#hear(bytes.toString(), events);
      return Promise.resolve();
    });
  }

  /** The tool that carries a connection. */
  take(id: string): string[] {
    return toolArgv('accepted', this.#name, id);
  }

  /** Nobody will take this connection. */
  drop(id: string): void {
    void this.#process.write(Buffer.from(`${id}\n`));
  }

  stop(): void {
    this.#process.abandon();
  }

  #hear(text: string, events: ListenerEvents): void {
    const lines = (this.#line + text).split('\n');
    this.#line = (lines.pop() ?? '').slice(0, maxLine);
    for (const line of lines) {
      const [what, first = '', address = '', port = ''] = line.split(' ');
      if (what === 'listening') events.listening(Number(first));
      else if (what === 'from') events.connected(first, { address, port: Number(port) });
    }
  }
}

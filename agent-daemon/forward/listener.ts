/** Somebody who listens within a container, by a tool there, and tells of each connection (`agent-daemon/init/SPEC.md`, "Tools"). */
import { AttendedProcess, type AttendedOf } from '../processes/attended.ts';
import { initTooOld, isInitTooOld, toolArgv } from '../processes/tools.ts';
import type { Session } from '../sessions/session.ts';

export interface ListenerEvents {
  /** From now on, at this port (0 for a path), or at this fresh path. */
  listening(port: number, path: string): void;
  /** Somebody connected, from where: `take` or `drop` it by its id. */
  connected(id: string, from: { address: string; port: number }): void;
}

/** At a port of the container's loopback (0: any), at a path, or at one of its own that none but the session's user gets to. */
export type ListenAt = { port: number } | { path: string } | 'fresh';

/** Characters of a line of the tool; it writes far less. */
const maxLine = 256;

export class ToolListener {
  readonly #argv: [string, ...string[]];
  readonly #process: AttendedProcess;
  /** By which the connections are taken, within the container. */
  readonly #name: string;
  #line = '';
  #complaint = '';

  constructor(session: Session, of: AttendedOf, at: ListenAt) {
    this.#name = `causeway-${of.freshProcessId()}`;
    this.#argv = argvOf(at, this.#name);
    this.#process = new AttendedProcess(session, of, { argv: this.#argv, stdin: true });
  }

  /** Listens until it is stopped, or can not; answers why, in words. @throws Refusal when nothing could be started */
  async run(events: ListenerEvents): Promise<string> {
    await this.#process.start();
    const exit = await this.#process.follow((stream, bytes) => {
      if (stream === 'stdout') this.#hear(bytes.toString(), events);
      else this.#complaint = (this.#complaint + bytes.toString()).slice(0, maxLine);
      return Promise.resolve();
    });
    return isInitTooOld(this.#argv, exit) ? initTooOld : this.#complaint.trim() || 'Nobody listens there.';
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
      const [what, first = '', ...rest] = line.split(' ');
      if (what === 'listening') events.listening(Number(first), rest.join(' '));
      else if (what === 'from') events.connected(first, { address: rest[0] ?? '', port: Number(rest[1]) });
    }
  }
}

function argvOf(at: ListenAt, name: string): [string, ...string[]] {
  if (at === 'fresh') return toolArgv('listen-fresh', name);
  return 'path' in at ? toolArgv('listen-unix', at.path, name) : toolArgv('listen', String(at.port), name);
}

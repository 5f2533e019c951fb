/**
 * A connection that is made within a container, by a process of the session there: so it reaches what the session's own
 * programs reach, as their user, and the agent needs no right and no namespace for it. The tool's stdout is what the far end
 * says, its stderr lines about the connection (`agent-daemon/init/SPEC.md`, "Tools").
 */
import { Refusal } from '../../schema/errors.ts';
import { AttendedProcess, type AttendedOf } from '../processes/attended.ts';
import { initTooOld, isInitTooOld } from '../processes/tools.ts';
import type { Session } from '../sessions/session.ts';

/** What a connection tells, in this order; `bytes` any number of times. */
export interface ConnectionEvents {
  opened(): void;
  /** What the far end says. Resolves when there is room for more. */
  bytes(bytes: Buffer): Promise<void>;
  /** The far end says no more. It may still listen. */
  ended(): void;
}

/** Characters of a line about a connection; a tool writes far less. */
const maxLine = 1024;

export class ToolConnection {
  readonly #process: AttendedProcess;
  readonly #argv: string[];
  #isOpen = false;
  #hasEnded = false;
  #received = 0;
  #endsAt = Number.POSITIVE_INFINITY;
  #line = '';
  #failure: string | undefined;

  /** `argv`: the tool that makes the connection. */
  constructor(session: Session, of: AttendedOf, argv: string[]) {
    this.#argv = argv;
    this.#process = new AttendedProcess(session, of, { argv, stdin: true });
  }

  /**
   * Makes it and carries it to its end, or until it is abandoned.
   * @throws Refusal `port_unreachable` when it can not be made, or broke
   */
  async run(events: ConnectionEvents): Promise<void> {
    await this.#process.start();
    const exit = await this.#process.follow(async (stream, bytes) => {
      if (stream === 'stderr') this.#hear(bytes.toString(), events);
      else {
        this.#open(events);
        this.#received += bytes.byteLength;
        await events.bytes(bytes);
      }
      this.#endIfDue(events);
    });
    if (this.#process.isAbandoned || exit?.exitCode === 0) return;
    const text = isInitTooOld(this.#argv, exit) ? initTooOld : this.#failure;
    throw new Refusal('port_unreachable', text ?? 'The connection broke.');
  }

  /** Resolves when it was passed on; false when nobody takes it. */
  write(bytes: Uint8Array): Promise<boolean> {
    return this.#process.write(bytes);
  }

  /** Nothing more will be written. */
  endInput(): void {
    this.#process.endInput();
  }

  abandon(): void {
    this.#process.abandon();
  }

  #hear(text: string, events: ConnectionEvents): void {
    const lines = (this.#line + text).split('\n');
    this.#line = (lines.pop() ?? '').slice(0, maxLine);
    for (const line of lines) {
      const end = /^end (\d{1,16})$/.exec(line)?.[1];
      if (line === 'connected') this.#open(events);
      else if (end !== undefined) this.#endsAt = Number(end);
      else this.#failure = line.slice(0, maxLine);
    }
  }

  /** The two pipes of the tool are read at different moments: what the far end said may come before that it is there. */
  #open(events: ConnectionEvents): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    events.opened();
  }

  #endIfDue(events: ConnectionEvents): void {
    if (this.#hasEnded || this.#received < this.#endsAt) return;
    this.#hasEnded = true;
    events.ended();
  }
}

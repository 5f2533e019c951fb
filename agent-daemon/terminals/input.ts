/**
 * Makes one input of what several clients type: whole pieces in the order in which they come, each byte once. Each client
 * counts its own bytes and is told, when it comes back, how many of them were taken. That is kept by turns: it costs a write
 * to the disk when another client comes or begins to type, and none for a key.
 */
import { Refusal } from '../../schema/errors.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { Turn } from './saved.ts';

/** Nothing is typed any more: who typed it could not be kept. */
export const agentEnding = () => new Refusal('session_not_running', 'The agent is ending. Try again in a moment.');

export interface InputPorts {
  /** Resolves when the terminal has taken the bytes, which lie at this offset of its input. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Keeps these turns in the place of earlier ones of the same writers. */
  save(turns: Turn[]): Promise<void>;
  /** Another client than before is about to type: its bytes wait for this. */
  turned(writer: string): Promise<void>;
}

export class TerminalInput {
  readonly #ports: InputPorts;
  /** By writer, who typed last at the end. */
  readonly #turns = new Map<string, Turn>();
  /** Where the next byte lies in the terminal's input. */
  #at: number;
  #current: Turn | undefined;
  /** Turns that are not as they are kept. */
  readonly #mended: Turn[] = [];
  #order: Promise<unknown> = Promise.resolve();
  #isStopped = false;
  /** Why the terminal took no more. How much of that piece arrived is not known here, so nothing may follow it. */
  #failure: { error: unknown } | undefined;

  /** `turns` that were kept, and how many bytes the terminal has. */
  constructor(ports: InputPorts, { turns, at }: { turns: readonly Turn[]; at: number }) {
    this.#ports = ports;
    this.#at = at;
    for (const turn of turns) this.#restore(turn, at);
  }

  /** What was on its way when the agent died did not arrive; who typed last goes on where the terminal is. */
  #restore(kept: Turn, at: number): void {
    const isOpen = kept.to === undefined && kept.at <= at;
    const arrived = Math.max(0, Math.min(kept.to ?? at, at) - kept.at);
    const turn = isOpen ? { ...kept } : { ...kept, at: Math.min(kept.at, at), to: Math.min(kept.at, at) + arrived };
    this.#turns.set(turn.writer, turn);
    if (isOpen) this.#current = turn;
    else if (turn.to !== kept.to || turn.at !== kept.at) this.#mended.push(turn);
  }

  /** How many bytes were typed in all. */
  get at(): number {
    return this.#at;
  }

  get turns(): Turn[] {
    return [...this.#turns.values()];
  }

  /** How many bytes of this writer were taken; undefined for one that is not known. */
  takenOf(writer: string): number | undefined {
    const turn = this.#turns.get(writer);
    return turn === undefined ? undefined : turn.from + (turn.to ?? this.#at) - turn.at;
  }

  /** Where the writer goes on: at `from` if it is not known, which is kept before it may type. */
  async begin(writer: string, from: number): Promise<number> {
    const taken = this.takenOf(writer);
    if (taken !== undefined) return taken;
    const turn = { writer, from, at: this.#at, to: this.#at };
    this.#remember(turn);
    await this.#ports.save([turn]);
    return this.takenOf(writer) ?? from;
  }

  /** Resolves when the terminal has taken the bytes; those that it has of this writer already are skipped. */
  write(writer: string, offset: number, bytes: Uint8Array): Promise<void> {
    const done = this.#order.then(() => this.#write(writer, offset, bytes));
    this.#order = done.catch(() => undefined);
    return done;
  }

  /** Nothing more is taken: who typed it could not be kept any more. */
  stop(): void {
    this.#isStopped = true;
  }

  /** `offset` undefined: behind what the writer wrote before. */
  async #write(writer: string, offset: number | undefined, bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    // Who was forgotten while it was there goes on at its word, as one who comes again.
    const taken = this.takenOf(writer) ?? offset ?? 0;
    const skip = offset === undefined ? 0 : taken - offset;
    if (skip < 0) throw new Refusal('tunnel_frame_invalid', `Input went on at ${offset} where ${taken} was to come.`);
    if (skip >= bytes.byteLength) return;
    if (this.#current?.writer !== writer && !this.#isStopped) await this.#turn(writer, taken);
    if (this.#isStopped) throw agentEnding();
    const rest = bytes.subarray(skip);
    const at = this.#at;
    this.#at += rest.byteLength;
    try {
      await this.#ports.write(at, rest);
    } catch (error) {
      this.#at = at;
      this.#failure = { error };
      throw error;
    }
  }

  /** Writes behind what the writer wrote before. */
  append(writer: string, bytes: Uint8Array): Promise<void> {
    const done = this.#order.then(() => this.#write(writer, undefined, bytes));
    this.#order = done.catch(() => undefined);
    return done;
  }

  async #turn(writer: string, from: number): Promise<void> {
    const before = this.#current;
    if (before !== undefined) before.to = this.#at;
    const turn: Turn = { writer, from, at: this.#at };
    this.#current = turn;
    this.#remember(turn);
    const mended = this.#mended.splice(0).filter((each) => each.writer !== writer);
    const others = [...mended, ...(before === undefined ? [] : [before])];
    try {
      await this.#ports.save([...others, turn]);
    } catch (error) {
      // Nobody types before it is kept who does.
      this.#current = undefined;
      turn.to = turn.at;
      this.#mended.push(...others);
      throw error;
    }
    await this.#ports.turned(writer);
  }

  #remember(turn: Turn): void {
    this.#turns.delete(turn.writer);
    this.#turns.set(turn.writer, turn);
    for (const writer of this.#turns.keys()) {
      if (this.#turns.size <= limits.terminalWriters) break;
      if (writer !== this.#current?.writer) this.#turns.delete(writer);
    }
  }
}

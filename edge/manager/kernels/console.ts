/** From the log of a run to the items of a console, and the place behind which a client goes on. Pure. */
import type { ConsoleItem } from '../../../schema/api/kernel.ts';
import type { KernelRecord } from '../../../schema/protocol/kernel-log.ts';
import type { RunItem, RunLog, StreamName } from '../../../schema/protocol/run-log.ts';

export class Console {
  readonly items: ConsoleItem[] = [];
  completion: { matches: string[]; replaces: number } | undefined;
  error: { name: string; message: string } | undefined;
  /** Roughly what the items take. */
  sizeBytes = 0;
  readonly #log: RunLog;
  /** The begin of a character of which the rest did not come yet. */
  readonly #rest: Record<StreamName, Uint8Array> = { stdout: new Uint8Array(0), stderr: new Uint8Array(0) };
  /** An end of a step or of the run of which the agent has not told yet: whoever goes on must meet it again. */
  #endAt: number | undefined;

  constructor(log: RunLog) {
    this.#log = log;
  }

  /** Everything before is in the items. */
  get position(): { stdout: number; stderr: number } {
    const at = (name: StreamName) => this.#log.position[name] - this.#rest[name].byteLength;
    return { stdout: this.#endAt ?? at('stdout'), stderr: at('stderr') };
  }

  push(name: StreamName, offset: number, bytes: Uint8Array): void {
    this.#take(this.#log.push(name, offset, bytes));
  }

  /** Bytes are missing. */
  gap(name: StreamName, { from, to, reason }: { from: number; to: number; reason: string }): void {
    this.#take(this.#log.skip(name, to));
    this.#flush(name);
    this.#add('log', `${to - from} bytes of ${name} are missing (${reason})\n`);
  }

  /** The agent has told of the end that was read. */
  ended(): void {
    this.#endAt = undefined;
  }

  /** Nothing more comes. */
  finish(): void {
    this.#take(this.#log.flush());
    for (const name of ['stdout', 'stderr'] as const) this.#flush(name);
    this.#endAt = undefined;
  }

  log(text: string): void {
    this.#add('log', text);
  }

  #take(items: readonly RunItem[]): void {
    for (const item of items) {
      if (item.kind === 'bytes') {
        const name = item.stream;
        const all = join(this.#rest[name], item.bytes);
        const whole = wholeCharacters(all);
        this.#rest[name] = all.slice(whole);
        if (whole > 0)
          this.#add(name, new TextDecoder('utf-8', { fatal: false, ignoreBOM: true }).decode(all.subarray(0, whole)));
      } else {
        this.#flush(item.log);
        if (item.kind === 'lost') this.#add('log', `${item.words}\n`);
        else this.#record(item.record, item.offset);
      }
    }
  }

  #flush(name: StreamName): void {
    const rest = this.#rest[name];
    this.#rest[name] = new Uint8Array(0);
    if (rest.byteLength > 0) this.#add(name, new TextDecoder().decode(rest));
  }

  #record(record: KernelRecord, offset: number): void {
    if (record.kind === 'result' || record.kind === 'display') this.#media(record.data);
    else if (record.kind === 'error') {
      this.error = { name: record.name, message: record.message };
      this.#add('stderr', record.traceback);
    } else if (record.kind === 'completion') {
      const { matches, replaces } = record;
      this.completion = { matches, replaces };
    } else if (record.kind === 'finished') this.#endAt = offset;
  }

  #media(data: Readonly<Record<string, string>>): void {
    const { 'text/html': html, 'text/plain': plain = '' } = data;
    const rich = Object.entries(data).find(([type]) => !type.startsWith('text/'));
    if (html !== undefined) this.#add('html', html);
    else if (rich === undefined) this.#add('stdout', `${plain}\n`);
    else {
      this.items.push(['media', rich]);
      this.sizeBytes += rich[1].length;
    }
  }

  #add(kind: 'stdout' | 'stderr' | 'html' | 'log', text: string): void {
    this.sizeBytes += text.length;
    const last = this.items.at(-1);
    if (last?.[0] === kind && kind !== 'html') last[1] += text;
    else this.items.push([kind, text]);
  }
}

/** How many of the bytes are whole characters: what may be the begin of one at the end is not. */
export function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.byteLength); back++) {
    const byte = bytes[bytes.byteLength - back]!;
    if (byte < 0x80) break;
    if (byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return length > back ? bytes.byteLength - back : bytes.byteLength;
  }
  return bytes.byteLength;
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.byteLength === 0) return second;
  const all = new Uint8Array(first.byteLength + second.byteLength);
  all.set(first);
  all.set(second, first.byteLength);
  return all;
}

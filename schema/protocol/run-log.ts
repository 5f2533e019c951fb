/**
 * What a run wrote, read from the log of its kernel, of whichever kind, from any offset: output and records. With a runner
 * of ours that is the log itself (`kernel-log.ts`); of a kernel of Jupyter it is what its messages say that belong to the
 * run. Read by the edge and the CLI alike. It believes nothing, and never fails.
 */
import { bridgeChannel, BridgeNote, maxMessageBytes, wordsOfNote } from './channels.ts';
import type { ExecuteEvent } from './execute.ts';
import { type Message, RecordReader, splitMessage, textOf } from './jupyter-framing.ts';
import { type KernelItem, KernelLogReader, type KernelRecord } from './kernel-log.ts';

// Every runtime has it; the library of the language does not.
declare const TextEncoder: new () => { encode(text: string): Uint8Array };

export type StreamName = 'stdout' | 'stderr';

/** All before `end` of the stream `log` of the kernel's log was returned with it, or is not of the run. */
export type RunItem = { log: StreamName; offset: number; end: number } & (
  | { kind: 'bytes'; stream: StreamName; bytes: Uint8Array }
  | { kind: 'record'; record: KernelRecord }
  /** Something is missing here, in words for people. */
  | { kind: 'lost'; words: string }
);

export interface RunLog {
  /** All before was returned, or is not of the run: whoever goes on reads from here. */
  readonly position: { stdout: number; stderr: number };
  /** Takes the bytes at `offset` of a stream of the log and returns what is complete now. Items share the buffer. */
  push(log: StreamName, offset: number, bytes: Uint8Array): RunItem[];
  /** The bytes before `offset` are missing. */
  skip(log: StreamName, offset: number): RunItem[];
  /** Nothing will follow. */
  flush(): RunItem[];
}

type Begun = Extract<ExecuteEvent, { kind: 'begun' }>;

/** Reads the log of the kernel that a run has begun in. */
export function openRunLog({ kernelId, from, requests }: Begun, runId: string): RunLog {
  return requests === undefined ? new RunnerLog(kernelId, from) : new JupyterLog(runId, requests, from.stdout);
}

class RunnerLog implements RunLog {
  readonly #logs: Record<StreamName, KernelLogReader>;

  constructor(kernelId: string, from: Begun['from']) {
    const log = (name: StreamName) => new KernelLogReader(kernelId, from[name]);
    this.#logs = { stdout: log('stdout'), stderr: log('stderr') };
  }

  get position(): Begun['from'] {
    return { stdout: this.#logs.stdout.position, stderr: this.#logs.stderr.position };
  }

  push(log: StreamName, offset: number, bytes: Uint8Array): RunItem[] {
    return toRunItems(log, this.#logs[log].push(offset, bytes));
  }

  skip(log: StreamName, offset: number): RunItem[] {
    return toRunItems(log, this.#logs[log].skip(offset));
  }

  flush(): RunItem[] {
    return (['stdout', 'stderr'] as const).flatMap((log) => toRunItems(log, this.#logs[log].flush()));
  }
}

/** On standard error a record is only a mark. */
function toRunItems(log: StreamName, items: readonly KernelItem[]): RunItem[] {
  return items.flatMap((item): RunItem[] => {
    if (item.kind === 'bytes') return [{ ...item, log, stream: log }];
    return log === 'stdout' ? [{ ...item, log }] : [];
  });
}

const encoder = new TextEncoder();
/** Headers are a few hundred bytes. */
const maxParentBytes = 16 * 1024;
const maxMatches = 1024;

class JupyterLog implements RunLog {
  readonly #runId: string;
  readonly #requests: string;
  #reader: RecordReader;
  /** What came is no record: until bytes are missing anyway, nothing can be read. */
  #isBroken = false;

  constructor(runId: string, requests: string, from: number) {
    this.#runId = runId;
    this.#requests = requests;
    this.#reader = new RecordReader(from);
  }

  get position(): Begun['from'] {
    return { stdout: this.#reader.position, stderr: 0 };
  }

  push(log: StreamName, offset: number, bytes: Uint8Array): RunItem[] {
    if (log !== 'stdout' || this.#isBroken) return [];
    const items: RunItem[] = [];
    try {
      for (const { offset: at, end, message } of this.#reader.push(bytes)) {
        const place = { log, offset: at, end };
        items.push(...this.#said(splitMessage(message)).map((item) => ({ ...place, ...item })));
      }
    } catch {
      this.#isBroken = true;
      const words = `the log of the kernel can not be read behind ${this.#reader.position}`;
      items.push({ log, offset, end: this.#reader.position, kind: 'lost', words });
    }
    return items;
  }

  skip(log: StreamName, offset: number): RunItem[] {
    if (log !== 'stdout') return [];
    this.#reader = new RecordReader(offset);
    this.#isBroken = false;
    return [];
  }

  flush(): RunItem[] {
    return [];
  }

  #said({ channel, parts: [header, parent, , content] }: Message): Said[] {
    if (channel === bridgeChannel) return noted(content);
    const type = typeOf(header);
    if (channel === 'stdin' || type === 'status' || !this.#isOwn(parent)) return [];
    const said = objectOf(content);
    if (said === undefined) return [lost(`a message of the kernel (${type}) could not be read`)];
    return spoken(this.#runId, type, said);
  }

  #isOwn(parent: Uint8Array | undefined): boolean {
    if (parent === undefined || parent.byteLength > maxParentBytes) return false;
    const id = objectOf(parent)?.['msg_id'];
    return typeof id === 'string' && id.startsWith(this.#requests);
  }
}

type Said =
  | { kind: 'bytes'; stream: StreamName; bytes: Uint8Array }
  | { kind: 'record'; record: KernelRecord }
  | { kind: 'lost'; words: string };
type Content = Readonly<Record<string, unknown>>;

const lost = (words: string): Said => ({ kind: 'lost', words });

/** What the bridge says about its log. */
function noted(content: Uint8Array | undefined): Said[] {
  const note = BridgeNote.safeParse(objectOf(content)).data;
  const words = note === undefined ? undefined : wordsOfNote(note);
  return words === undefined ? [] : [lost(words)];
}

/** What a message of a run says to those who follow the run. */
function spoken(id: string, type: string, content: Content): Said[] {
  const record = (fields: KernelRecord): Said[] => [{ kind: 'record', record: fields }];
  switch (type) {
    case 'stream': {
      const bytes = encoder.encode(textIn(content['text']));
      const stream = content['name'] === 'stderr' ? 'stderr' : 'stdout';
      return bytes.byteLength === 0 ? [] : [{ kind: 'bytes', stream, bytes }];
    }
    case 'execute_result':
      return record({ kind: 'result', id, data: toMedia(content['data']) });
    case 'display_data':
    case 'update_display_data':
      return record({ kind: 'display', id, data: toMedia(content['data']) });
    case 'error':
      return record({ kind: 'error', id, ...toError(content) });
    case 'execute_reply':
      // Help (`print?` of IPython) comes with the answer.
      return listIn(content['payload']).flatMap((page) =>
        page['source'] === 'page' ? record({ kind: 'display', id, data: toMedia(page['data']) }) : [],
      );
    case 'complete_reply': {
      const [from, to] = [content['cursor_start'], content['cursor_end']].map((at) => (isCount(at) ? at : 0));
      const matches = Array.isArray(content['matches']) ? content['matches'].filter(isText).slice(0, maxMatches) : [];
      return record({ kind: 'completion', id, matches, replaces: Math.max(0, (to ?? 0) - (from ?? 0)) });
    }
    default:
      return [];
  }
}

function toError(content: Content): { name: string; message: string; traceback: string } {
  const [name, message] = [textIn(content['ename']), textIn(content['evalue'])];
  const lines = Array.isArray(content['traceback']) ? content['traceback'].filter(isText) : [];
  return { name, message, traceback: `${lines.length > 0 ? lines.join('\n') : `${name}: ${message}`}\n` };
}

/** By media type; what is no text is JSON. */
function toMedia(data: unknown): Record<string, string> {
  const entries = Object.entries(typeof data === 'object' && data !== null ? data : {});
  return Object.fromEntries(
    entries.map(([type, value]: [string, unknown]): [string, string] => {
      if (isText(value)) return [type, value];
      const isLines = Array.isArray(value) && value.every(isText) && !type.includes('json');
      return [type, isLines ? value.join('') : JSON.stringify(value)];
    }),
  );
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) <= maxMessageBytes;
const textIn = (value: unknown) => (isText(value) ? value : '');

function listIn(value: unknown): Content[] {
  return Array.isArray(value) ? value.filter((each): each is Content => typeof each === 'object' && each !== null) : [];
}

function typeOf(header: Uint8Array | undefined): string {
  return header === undefined || header.byteLength > maxParentBytes ? '' : textIn(objectOf(header)?.['msg_type']);
}

function objectOf(bytes: Uint8Array | undefined): Content | undefined {
  try {
    const value: unknown = JSON.parse(textOf(bytes ?? new Uint8Array()));
    return typeof value === 'object' && value !== null ? (value as Content) : undefined;
  } catch {
    return undefined;
  }
}

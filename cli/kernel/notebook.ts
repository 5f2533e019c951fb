/**
 * A Jupyter notebook as a file: nbformat 4, of which all that has nothing to do with a run of it stays as it is. Pure.
 * Of its cells a run changes `outputs` and `execution_count`, of its metadata only `causeway`, while it is not over.
 */
import { z } from 'zod';
import type { KernelRecord } from '../../schema/protocol/kernel-log.ts';

const Text = z.union([z.string(), z.array(z.string())]);
const Cell = z.looseObject({
  cell_type: z.string(),
  source: Text,
  metadata: z.looseObject({ tags: z.array(z.string()).optional() }).optional(),
  execution_count: z.int().nullable().optional(),
  outputs: z.array(z.looseObject({ output_type: z.string() })).optional(),
});
/** A run that is not over: where it is, how its cells are named there, and whether the session was made for it. */
const Unfinished = z.strictObject({ session: z.string(), kernel: z.string(), run: z.string(), own: z.boolean() });
const Notebook = z.looseObject({
  nbformat: z.literal(4, 'must be a notebook of format 4'),
  metadata: z.looseObject({ causeway: Unfinished.optional() }),
  cells: z.array(Cell),
});
export type Notebook = z.infer<typeof Notebook>;
export type Cell = z.infer<typeof Cell>;
type Output = NonNullable<Cell['outputs']>[number];

/** Tags of cells that other runners of notebooks heed too: not run; an error is what the author wants to show. */
const skipped = 'skip-execution';
const mayFail = 'raises-exception';
/** Of output in one cell; what comes after is counted and not kept, so that a notebook can still be opened. */
const maxOutputBytes = 32 * 1024 * 1024;

/** @throws Error in words when the text is no notebook */
export function parseNotebook(text: string): Notebook {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error('it is not JSON');
  }
  const parsed = Notebook.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not a notebook'}`.replace(/^: /, ''));
}

/** As Jupyter writes it: one space a level, a line feed at the end. */
export function notebookText(notebook: Notebook): string {
  return `${JSON.stringify(notebook, undefined, 1)}\n`;
}

/** What a cell has to run; undefined for one without code, and for one that its author wants skipped. */
export function codeOf({ cell_type, source, metadata }: Cell): string | undefined {
  const text = typeof source === 'string' ? source : source.join('');
  const isCode = cell_type === 'code' && text.trim() !== '' && metadata?.tags?.includes(skipped) !== true;
  return isCode ? text : undefined;
}

export function mayRaise({ metadata }: Cell): boolean {
  return metadata?.tags?.includes(mayFail) === true;
}

/** Takes the outputs of an earlier run out of all cells that will be run. */
export function clearOutputs(notebook: Notebook): void {
  for (const cell of notebook.cells)
    if (codeOf(cell) !== undefined) Object.assign(cell, { outputs: [], execution_count: null });
}

/** The outputs of one cell as they come. */
export class CellOutputs {
  readonly #count: number;
  readonly #outputs: Output[] = [];
  readonly #decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  /** Text of the stream that is the last output. */
  #text: string[] = [];
  #sizeBytes = 0;
  #leftOutBytes = 0;

  /** `count`: the number of the cell among those that were run. */
  constructor(count: number) {
    this.#count = count;
  }

  write(stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
    this.#add(stream, this.#decoders[stream].decode(bytes, { stream: true }));
  }

  record(record: KernelRecord): void {
    if (record.kind === 'error')
      this.#push({
        output_type: 'error',
        ename: record.name,
        evalue: record.message,
        traceback: record.traceback.replace(/\n$/, '').split('\n'),
      });
    else if (record.kind === 'display')
      this.#push({ output_type: 'display_data', data: toBundle(record.data), metadata: {} });
    else if (record.kind === 'result')
      this.#push({
        output_type: 'execute_result',
        data: toBundle(record.data),
        metadata: {},
        execution_count: this.#count,
      });
  }

  /** All of them; nothing comes any more. `remark`: what the program did not write itself. */
  finish(remark?: string): Output[] {
    for (const stream of ['stdout', 'stderr'] as const) this.#add(stream, this.#decoders[stream].decode());
    if (this.#leftOutBytes > 0) this.#remark(`${this.#leftOutBytes} bytes more are not kept in this notebook\n`);
    if (remark !== undefined) this.#remark(remark);
    this.#endText();
    return this.#outputs;
  }

  #add(name: 'stdout' | 'stderr', text: string): void {
    if (text === '' || !this.#hasRoom(text.length)) return;
    const last = this.#outputs.at(-1);
    if (last?.output_type === 'stream' && last['name'] === name) this.#text.push(text);
    else {
      this.#endText();
      this.#outputs.push({ output_type: 'stream', name, text: [] });
      this.#text = [text];
    }
  }

  #push(output: Output): void {
    if (!this.#hasRoom(JSON.stringify(output).length)) return;
    this.#endText();
    this.#outputs.push(output);
  }

  #hasRoom(bytes: number): boolean {
    if (this.#leftOutBytes > 0 || this.#sizeBytes + bytes > maxOutputBytes) this.#leftOutBytes += bytes;
    else this.#sizeBytes += bytes;
    return this.#leftOutBytes === 0;
  }

  #remark(text: string): void {
    this.#endText();
    this.#outputs.push({ output_type: 'stream', name: 'stderr', text: toLines(text) });
  }

  #endText(): void {
    const last = this.#outputs.at(-1);
    if (last?.output_type === 'stream' && this.#text.length > 0) last['text'] = toLines(this.#text.join(''));
    this.#text = [];
  }
}

/** Text in lines, since that is what compares well; JSON as itself; bytes in base64 as they are. */
function toBundle(data: Readonly<Record<string, string>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(data).map(([type, content]) => [type, toContent(type, content)] as const));
}

function toContent(type: string, content: string): unknown {
  if (/^application\/(?:.+\+)?json$/.test(type)) {
    try {
      return JSON.parse(content);
    } catch {
      return content;
    }
  }
  return /^text\/|\+xml$|javascript$/.test(type) ? toLines(content) : content;
}

/** Each with its line feed. */
function toLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

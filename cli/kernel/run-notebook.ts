/**
 * `causeway run --kernel KERNEL NOTEBOOK`: runs a notebook cell by cell in a kernel of its own and writes the executed
 * one after each cell. The cells' run ids are in that file until the run is over, so `--resume` goes on exactly where it
 * was: what ran meanwhile is shown, nothing is run twice.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Session } from '../../schema/api/session.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { Kernel, Language } from '../../schema/api/kernel-parts.ts';
import type { ExecuteOutcome } from '../../schema/protocol/execute.ts';
import { newId } from '../../schema/ids.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { awaitImage } from '../instance/await-image.ts';
import { localIo, onInterrupts } from '../process/local-io.ts';
import { findSession } from '../session/find.ts';
import { createSession, neverRan, newSessionBody, type SessionOptions } from '../session/new-session.ts';
import { waitForSession } from '../session/wait.ts';
import { plain } from '../terminal/table.ts';
import { dialSession } from '../tunnel/dial.ts';
import { CodeRun, KernelSocket, statusOfRun } from './code-run.ts';
import { specOf } from './exec-code.ts';
import {
  type Cell,
  CellOutputs,
  clearOutputs,
  codeOf,
  mayRaise,
  type Notebook,
  notebookText,
  parseNotebook,
} from './notebook.ts';

export interface NotebookOptions extends SessionOptions {
  kernel: string;
  output?: string;
  session?: string;
  resume?: boolean;
  allowErrors?: boolean;
  rm?: boolean;
  quiet?: boolean;
}

/** Where the cells are run. */
interface Place {
  session: Session;
  kernelId: string;
  /** What the run ids begin with. */
  run: string;
  /** The session was made for this notebook, and ends with it. */
  isOwn: boolean;
}

/** How the run of a notebook came to its end; undefined: this client left it. */
type End = { status: number } | undefined;

/** Runs it; sets the exit status: 0, or that of the first cell that failed. @throws CliFailure */
export async function runNotebook(argv: readonly string[], options: NotebookOptions): Promise<void> {
  const kind = kindOf(options.kernel);
  const [input, ...more] = argv;
  if (input === undefined || more.length > 0)
    throw new CliFailure('--kernel takes one notebook', {
      status: exitStatus.usage,
      hint: `causeway run --kernel ${options.kernel} NOTEBOOK.ipynb`,
    });
  const output = options.output ?? `${input.replace(/\.ipynb$/, '')}.executed.ipynb`;
  const notebook = readNotebook(options.resume ? output : input);
  const api = new Api();
  const place = options.resume
    ? await placeOfBefore(api, notebook, output)
    : await newPlace(api, notebook, kind, options);
  const { session, kernelId, run, isOwn } = place;
  notebook.metadata.causeway = { session: session.id, kernel: kernelId, run, own: isOwn };
  const runner = new NotebookRun(api, notebook, output, place, options);
  const end = await runner.run();
  if (end === undefined) {
    process.exitCode = 130;
    process.stderr.write(`causeway: ${session.name} goes on; come back: ${comeBack(input, options)}\n`);
    return;
  }
  delete notebook.metadata.causeway;
  writeNotebook(output, notebook);
  const query = { force: true, purge: Boolean(options.rm) };
  if (isOwn) await api.raw('DELETE', `/v1/sessions/${session.id}`, { query });
  else await api.raw('DELETE', `/v1/sessions/${session.id}/kernels/${kernelId}`);
  process.exitCode = end.status;
  process.stdout.write(`${output}\n`);
}

/** A language, which is a kernel with a runner of ours, or a kernelspec: one that died is not to go on without its state. */
type KernelKind = { language: Language } | { spec: string; restarts: null };

/** @throws CliFailure */
function kindOf(kernel: string): KernelKind {
  const language = Language.safeParse(kernel).data;
  return language === undefined ? { spec: specOf(kernel), restarts: null } : { language };
}

function comeBack(input: string, { kernel, output }: NotebookOptions): string {
  const where = output === undefined ? '' : ` -o ${output}`;
  return plain(`causeway run --kernel ${kernel} --resume${where} ${input}`);
}

function readNotebook(path: string): Notebook {
  try {
    return parseNotebook(readFileSync(path, 'utf8'));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliFailure(`${path} can not be run: ${why}`, { status: exitStatus.usage });
  }
}

/** Whole or not at all: a reader, and `--resume`, never meet half of it. */
function writeNotebook(path: string, notebook: Notebook): void {
  const partial = `${path}.${process.pid}.part`;
  writeFileSync(partial, notebookText(notebook));
  renameSync(partial, path);
}

async function newPlace(api: Api, notebook: Notebook, kind: KernelKind, options: NotebookOptions): Promise<Place> {
  clearOutputs(notebook);
  const session = await sessionFor(api, options);
  const isOwn = options.session === undefined;
  const body = { id: newId('kernel', Date.now(), randomBytes(10)), ...kind };
  try {
    const kernel = await api.json(Kernel, 'POST', `/v1/sessions/${session.id}/kernels`, { body });
    return { session, kernelId: kernel.id, run: `nb-${randomBytes(8).toString('hex')}`, isOwn };
  } catch (error) {
    if (isOwn) await api.raw('DELETE', `/v1/sessions/${session.id}`, { query: { force: true } });
    throw error;
  }
}

async function sessionFor(api: Api, options: NotebookOptions): Promise<Session> {
  if (options.session !== undefined) return findSession(api, options.session);
  const quiet = Boolean(options.quiet);
  await awaitImage(api.context.url, options.image, quiet);
  const created = await createSession(api, newSessionBody({ argv: [], takesInput: false, tty: false }, options));
  const session = await waitForSession(api, created.id, ({ state }) => state === 'RUNNING', { quiet });
  if (session.state !== 'RUNNING') throw neverRan(session);
  return session;
}

/** Where an unfinished notebook was run. */
async function placeOfBefore(api: Api, notebook: Notebook, path: string): Promise<Place> {
  const before = notebook.metadata.causeway;
  if (before === undefined)
    throw new CliFailure(`${path} has no run to go on with: it is over, or never began`, { status: exitStatus.usage });
  const session = await findSession(api, before.session);
  if (isTerminal(session.state))
    throw new CliFailure(`${session.name}, where it ran, has ended`, { hint: 'run it again without --resume' });
  return { session, kernelId: before.kernel, run: before.run, isOwn: before.own };
}

class NotebookRun {
  readonly #api: Api;
  readonly #notebook: Notebook;
  readonly #output: string;
  readonly #place: Place;
  readonly #options: NotebookOptions;
  readonly #socket: KernelSocket;
  #current: CodeRun | undefined;
  #isLeft = false;

  constructor(api: Api, notebook: Notebook, output: string, place: Place, options: NotebookOptions) {
    this.#api = api;
    this.#notebook = notebook;
    this.#output = output;
    this.#place = place;
    this.#options = options;
    this.#socket = new KernelSocket(dialSession(this.#api, place.session.id, 'execute'));
  }

  /** Runs what was not run yet, to the first error or the end. */
  async run(): Promise<End> {
    const unhook = onInterrupts(
      () => this.#current?.interrupt(),
      () => this.#leave(),
    );
    try {
      return await this.#cells();
    } finally {
      unhook();
      this.#socket.drop();
    }
  }

  async #cells(): Promise<End> {
    const { cells } = this.#notebook;
    const toRun = cells.flatMap((cell, at) => (codeOf(cell) === undefined ? [] : [{ cell, at }]));
    writeNotebook(this.#output, this.#notebook);
    for (const [index, { cell, at }] of toRun.entries()) {
      if (typeof cell.execution_count === 'number') continue;
      if (this.#isLeft) return undefined;
      const began = performance.now();
      const outcome = await this.#cell(cell, at, index + 1);
      if (outcome === undefined) return undefined;
      const status = statusOfRun(outcome);
      this.#say(
        `[${index + 1}/${toRun.length}] ${seconds(began)} ${status === 0 ? 'ok' : `status ${status}`}  ${firstLine(cell)}`,
      );
      if (outcome.reason !== 'finished') return this.#died(outcome, index + 1);
      if (status !== 0 && !this.#options.allowErrors && !mayRaise(cell)) return { status };
    }
    return { status: 0 };
  }

  /** Runs one cell and writes what became of it; undefined when this client left. */
  async #cell(cell: Cell, at: number, count: number): Promise<ExecuteOutcome | undefined> {
    const outputs = new CellOutputs(count);
    const { kernelId, run } = this.#place;
    const talk = localIo(Boolean(this.#options.quiet));
    const request = { runId: `${run}-${at}`, kernelId, request: { mode: 'query' as const, code: codeOf(cell)! } };
    this.#current = new CodeRun(this.#socket, request, {
      write: (stream, bytes) => Promise.resolve(outputs.write(stream, bytes)),
      record: (record) => Promise.resolve(outputs.record(record)),
      ask: () => {
        talk.say(`cell ${count} asks for a line, and nobody is there to type it: interrupted`);
        return Promise.resolve(undefined);
      },
      say: (line) => talk.say(line),
    });
    const outcome = await this.#current.run();
    this.#current = undefined;
    if (outcome === undefined) return undefined;
    const remark = outcome.reason === 'finished' ? undefined : `the kernel ended: ${outcome.reason}\n`;
    Object.assign(cell, { outputs: outputs.finish(remark), execution_count: count });
    writeNotebook(this.#output, this.#notebook);
    return outcome;
  }

  #died(outcome: ExecuteOutcome, count: number): End {
    process.stderr.write(`causeway: the kernel ended in cell ${count}: ${outcome.reason}\n`);
    return { status: statusOfRun(outcome) };
  }

  #leave(): void {
    this.#isLeft = true;
    this.#current?.leave();
  }

  #say(line: string): void {
    if (!this.#options.quiet) process.stderr.write(`${plain(line)}\n`);
  }
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`.padStart(8);
}

/** What tells a cell from others. */
function firstLine(cell: Cell): string {
  const line =
    codeOf(cell)
      ?.split('\n')
      .find((each) => each.trim() !== '') ?? '';
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

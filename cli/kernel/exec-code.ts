/** `causeway exec-code`: code in, output and status out, in a kernel of a session that keeps its state. */
import { randomBytes } from 'node:crypto';
import { createInterface, type Interface } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import type { Command } from 'commander';
import { KernelId, Language, SpecName } from '../../schema/api/kernel-parts.ts';
import { RunId } from '../../schema/protocol/execute.ts';
import type { KernelRecord } from '../../schema/protocol/kernel-log.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { oneOf, refuseOption } from '../options.ts';
import { localIo, onInterrupts } from '../process/local-io.ts';
import { findSession } from '../session/find.ts';
import { ask as askPerson, readStdin } from '../terminal/ask.ts';
import { dialSession } from '../tunnel/dial.ts';
import { CodeRun, KernelSocket, type RunIo, statusOfRun } from './code-run.ts';

interface CodeOptions {
  session: string;
  language?: string;
  kernel?: string;
  runId?: string;
}

/** Registers `exec-code`. */
export function registerExecCode(program: Command): void {
  program
    .command('exec-code')
    .description('run code in a session; its state stays for the next time')
    .requiredOption('-s, --session <session>', 'name or id')
    .option(
      '-l, --language <language>',
      'python, node, bash, ruby, perl or r (default: that of the first kernel there, else python)',
    )
    .option('--kernel <kernel>', 'in this kernel: its id, or a kernelspec of the image (a kernel of Jupyter)')
    .option('--run-id <id>', 'do it once however often it is asked for under this id, and show it again')
    .argument('[code]', 'the code; without it, standard input is')
    .action(execCode);
}

async function execCode(given: string | undefined, options: CodeOptions): Promise<void> {
  const which = kernelOf(options);
  const runId = options.runId ?? `run-${randomBytes(12).toString('hex')}`;
  if (!RunId.safeParse(runId).success) throw refuseOption('--run-id', runId, 'must be letters, digits, - and _', 'a1');
  const code = given ?? (await readAll());
  const api = new Api();
  const session = await findSession(api, options.session);
  const socket = new KernelSocket(dialSession(api, session.id, 'execute'));
  const lines = new Lines(given !== undefined);
  const run = new CodeRun(
    socket,
    { runId, ...which, request: { mode: 'query', code } },
    consoleIo((p, h) => lines.ask(p, h)),
  );
  const unhook = onInterrupts(
    () => run.interrupt(),
    () => run.leave(),
  );
  try {
    const outcome = await run.run();
    if (outcome !== undefined && outcome.reason !== 'finished')
      process.stderr.write(`causeway: the run ended: ${outcome.reason}\n`);
    process.exitCode = outcome === undefined ? 130 : statusOfRun(outcome);
  } finally {
    unhook();
    lines.close();
    socket.drop();
  }
}

/** The kernel that options name. @throws CliFailure */
export function kernelOf({ language, kernel }: { language?: string; kernel?: string }) {
  return {
    ...(language === undefined ? {} : { language: oneOf('--language', language, Language.options) }),
    ...(kernel === undefined
      ? {}
      : KernelId.safeParse(kernel).success
        ? { kernelId: kernel }
        : { spec: specOf(kernel) }),
  };
}

/** The name of a kernelspec. @throws CliFailure */
export function specOf(kernel: string): string {
  if (!SpecName.safeParse(kernel).success)
    throw refuseOption('--kernel', kernel, 'must be the id of a kernel or the name of a kernelspec', 'python3');
  return kernel;
}

/** Output to this process's streams, values as text, tracebacks to standard error. */
export function consoleIo(ask: RunIo['ask']): RunIo {
  const local = localIo(false);
  const encoder = new TextEncoder();
  return {
    write: (stream, bytes) => (stream === 'stdout' ? local.writeStdout(bytes) : local.writeStderr(bytes)),
    record: async (record) => {
      const text = textOf(record);
      if (text === undefined) return;
      const bytes = encoder.encode(text);
      await (record.kind === 'error' ? local.writeStderr(bytes) : local.writeStdout(bytes));
    },
    ask,
    say: (line) => local.say(line),
  };
}

/** What a person sees of a record; images by name and size. */
function textOf(record: KernelRecord): string | undefined {
  // Kernels of Jupyter paint their tracebacks.
  if (record.kind === 'error')
    return process.stderr.isTTY ? record.traceback : stripVTControlCharacters(record.traceback);
  if (record.kind !== 'result' && record.kind !== 'display') return undefined;
  const { 'text/plain': plain, ...rest } = record.data;
  const images = Object.entries(rest).flatMap(([type, data]) =>
    type.startsWith('image/') ? [`[${type}, ${Math.ceil((data.length * 3) / 4 / 1024)} KiB]`] : [],
  );
  return `${[...(plain === undefined ? [] : [plain]), ...images].join('\n')}\n`;
}

function readAll(): Promise<string> {
  if (process.stdin.isTTY) throw new CliFailure('there is no code to run', { status: exitStatus.usage });
  return readStdin();
}

/** Lines of standard input for a program that asks, unless the code itself came from there. */
class Lines {
  readonly #isFree: boolean;
  #reader: Interface | undefined;
  #lines: AsyncIterator<string> | undefined;

  constructor(isFree: boolean) {
    this.#isFree = isFree;
  }

  async ask(prompt: string, password: boolean): Promise<string | undefined> {
    if (!this.#isFree) return undefined;
    if (password && process.stdin.isTTY) return askPerson(prompt, true);
    process.stderr.write(prompt);
    this.#reader ??= createInterface({ input: process.stdin, terminal: false });
    this.#lines ??= this.#reader[Symbol.asyncIterator]();
    const next = await this.#lines.next();
    return next.done === true ? undefined : next.value;
  }

  close(): void {
    this.#reader?.close();
  }
}

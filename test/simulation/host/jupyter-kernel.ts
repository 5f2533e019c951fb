/**
 * A model of a kernel of Jupyter, as its bridge knows it: it carries out one request after the other, says when it begins
 * and ends with each, and understands a few words instead of a language:
 *
 *   print N EVERY_MS   N lines, one each EVERY_MS
 *   ask                asks for two lines, and prints each when it comes
 *   big                more than the agent holds of a message
 *   lose               prints, and says more than its bridge could hold: what it printed last, its answer and its end are lost
 *   too-large          as `print 1 0`, but its answer is larger than a record
 *   fail               an error; what waits behind it is refused where the request wants that
 *   stay               prints a line, and does not heed to be shut down for a while
 *   die CODE           the kernel ends
 *   crash              the same by SIGSEGV
 *
 * Answers and what is published come by ways of their own, so either may be first.
 */
import type { Timers } from '../../../schema/ports.ts';
import type { BridgeNote } from '../../../schema/protocol/channels.ts';
import type { Message } from '../../../schema/protocol/jupyter-framing.ts';
import type { KernelEnd } from './interpreters.ts';
import { askedLines, linesOf } from './kernel-program.ts';

export interface JupyterKernelPorts {
  timers: Timers;
  says(message: Message): void;
  /** What the bridge itself says in place of messages. */
  notes(note: BridgeNote): void;
  ends(how: KernelEnd): void;
  /** It begins with what was asked for under this msg_id, and is done with it. */
  ran(id: string): void;
  did(id: string, exitCode: number): void;
}

interface Header {
  msg_id: string;
  msg_type: string;
}
export interface Request {
  channel: string;
  header: Header;
  content: { code?: string; value?: string; stop_on_error?: boolean };
}

/** Where the status of a request comes from. */
type Reply = { status: 'ok' } | { status: 'aborted' } | { status: 'error'; ename: string; evalue: string };

const ok: Reply = { status: 'ok' };
const stayMs = 8_000;
const thinkMs = 500;
const linesAtOnce = 200;
/** More than the agent looks at of one message (`records.ts`). */
const bigBytes = 70_000;
const sigsegv = 11;

/** What begins the lines that a request prints: of a run its id, else its msg_id. */
export function speakerOf(msgId: string): string {
  return /^run\.(.+)\.\d+$/.exec(msgId)?.[1] ?? msgId;
}

/** What `big` prints. */
export function bigText(speaker: string): string {
  return `${speaker} ${'x'.repeat(bigBytes)}\n`;
}

export class ModelJupyterKernel {
  readonly #ports: JupyterKernelPorts;
  readonly #queue: { request: Request; isRefused: boolean }[] = [];
  #current: Request | undefined;
  #asksFor = 0;
  #isAsking = false;
  #messages = 0;
  #cancel: () => void = () => undefined;

  constructor(ports: JupyterKernelPorts) {
    this.#ports = ports;
  }

  /** False while the code that it runs keeps it from that. */
  get heedsShutdown(): boolean {
    return this.#current?.content.code !== 'stay';
  }

  hear(request: Request): void {
    const { channel, header, content } = request;
    if (channel === 'stdin') return this.#give(content.value ?? '');
    if (channel === 'control') {
      if (header.msg_type === 'interrupt_request') this.interrupt();
      return this.#say('control', 'interrupt_reply', request, ok);
    }
    this.#queue.push({ request, isRefused: false });
    this.#next();
  }

  interrupt(): void {
    if (this.#current?.header.msg_type !== 'execute_request') return;
    this.#fail(this.#current, 'KeyboardInterrupt', '', 130);
  }

  end(): void {
    this.#cancel();
    this.#current = undefined;
    this.#queue.length = 0;
  }

  #next(): void {
    while (this.#current === undefined) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      this.#begin(next.request, next.isRefused);
    }
  }

  #begin(request: Request, isRefused: boolean): void {
    const { msg_id: id, msg_type: type } = request.header;
    this.#current = request;
    this.#state(request, 'busy');
    if (isRefused) return this.#finish(request, { status: 'aborted' });
    if (type !== 'execute_request') return this.#answer(request);
    this.#ports.ran(id);
    this.#publish(request, 'execute_input', { code: request.content.code, execution_count: 1 });
    this.#run(request);
  }

  /** Of what is not code. */
  #answer(request: Request): void {
    const { msg_id: id, msg_type: type } = request.header;
    if (type === 'complete_request') this.#ports.ran(id);
    const { code = '' } = request.content;
    const matches = { matches: [`${code}1`], cursor_start: 0, cursor_end: code.length, metadata: {} };
    this.#finish(request, ok, type === 'complete_request' ? matches : {});
    if (type === 'complete_request') this.#ports.did(id, 0);
  }

  #run(request: Request): void {
    const [word, first, second] = (request.content.code ?? '').split(' ');
    const speaker = speakerOf(request.header.msg_id);
    switch (word) {
      case 'print':
        return this.#print(request, { to: Number(first), everyMs: Number(second) }, 0);
      case 'ask':
        this.#asksFor = askedLines;
        return this.#ask(request);
      case 'big':
        this.#stream(request, bigText(speaker));
        return this.#done(request);
      case 'lose':
        return this.#lose(request, speaker);
      case 'too-large':
        this.#stream(request, linesOf(speaker, 0, 1));
        this.#ports.notes({ kind: 'too-large', channel: 'shell', type: 'execute_reply', bytes: 40_000_000 });
        this.#ports.did(request.header.msg_id, 0);
        return this.#over(request);
      case 'stay':
        this.#stream(request, linesOf(speaker, 0, 1));
        return this.#later(stayMs, () => this.#done(request));
      case 'die':
        return this.#ports.ends({ exitCode: Number(first) });
      case 'crash':
        return this.#ports.ends({ signal: sigsegv });
      default:
        return this.#fail(request, 'NameError', `${word} is no word`, 1);
    }
  }

  #print(request: Request, lines: { to: number; everyMs: number }, from: number): void {
    const { to, everyMs } = lines;
    if (from >= to) return this.#done(request);
    const next = everyMs > 0 ? from + 1 : Math.min(to, from + linesAtOnce);
    this.#stream(request, linesOf(speakerOf(request.header.msg_id), from, next));
    this.#later(everyMs, () => this.#print(request, lines, next));
  }

  /** For the next line, if one is wanted. */
  #ask(request: Request): void {
    if (this.#asksFor === 0) return this.#done(request);
    this.#asksFor -= 1;
    this.#isAsking = true;
    this.#say('stdin', 'input_request', request, { prompt: '? ', password: false });
  }

  /** A line that nobody asks for is dropped, as kernels do. */
  #give(line: string): void {
    const request = this.#current;
    if (!this.#isAsking || request === undefined) return;
    this.#isAsking = false;
    this.#stream(request, `${line}\n`);
    this.#later(thinkMs, () => this.#ask(request));
  }

  #lose(request: Request, speaker: string): void {
    this.#stream(request, linesOf(speaker, 0, 3));
    this.#ports.notes({ kind: 'lost', messages: 4, bytes: 2_000 });
    this.#ports.did(request.header.msg_id, 0);
    this.#forget(request);
  }

  #fail(request: Request, ename: string, evalue: string, exitCode: number): void {
    if (request.content.stop_on_error !== false)
      for (const each of this.#queue) each.isRefused ||= each.request.header.msg_type === 'execute_request';
    this.#publish(request, 'error', { ename, evalue, traceback: [`${ename}: ${evalue}`] });
    this.#ports.did(request.header.msg_id, exitCode);
    this.#finish(request, { status: 'error', ename, evalue });
  }

  #done(request: Request): void {
    this.#ports.did(request.header.msg_id, 0);
    this.#finish(request, ok);
  }

  #finish(request: Request, reply: Reply, content: object = {}): void {
    const type = request.header.msg_type.replace('_request', '_reply');
    const answer = (): void => this.#say('shell', type, request, { ...reply, ...content });
    // By ways of their own: which is first is as good as chance, and the same at a replay.
    const isFirst = request.header.msg_id.length % 2 === 0;
    if (isFirst) answer();
    this.#state(request, 'idle');
    if (!isFirst) answer();
    this.#forget(request);
  }

  /** Its answer is not said. */
  #over(request: Request): void {
    this.#state(request, 'idle');
    this.#forget(request);
  }

  #forget(request: Request): void {
    if (this.#current !== request) return;
    this.#cancel();
    this.#current = undefined;
    this.#isAsking = false;
    this.#next();
  }

  #later(ms: number, task: () => void): void {
    this.#cancel = this.#ports.timers.after(ms, task);
  }

  #stream(request: Request, text: string): void {
    this.#publish(request, 'stream', { name: 'stdout', text });
  }

  #state(request: Request, state: 'busy' | 'idle'): void {
    this.#publish(request, 'status', { execution_state: state });
  }

  #publish(request: Request, type: string, content: object): void {
    this.#say('iopub', type, request, content);
  }

  #say(channel: string, type: string, { header }: Request, content: object): void {
    this.#messages += 1;
    const own = {
      msg_id: `k-${this.#messages}`,
      msg_type: type,
      session: 'kernel',
      username: 'kernel',
      date: '2026-11-24T00:00:00Z',
      version: '5.3',
    };
    const parts = [own, header, {}, content].map((part) => Buffer.from(JSON.stringify(part)));
    this.#ports.says({ channel, parts });
  }
}

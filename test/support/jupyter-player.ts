/**
 * Plays sequences at a Jupyter server and gives what its two clients were sent, without what differs between any two runs
 * (ids, dates, process numbers, and where a kernel cuts what is printed). What a server's own requests bring about, and what
 * our gateway says itself, is counted apart.
 */
import type { Server } from './jupyter-client.ts';
import type { JupyterMessage } from './jupyter-messages.ts';
import type { Sequence, Step, Who } from './jupyter-sequences.ts';
import { cell } from './jupyter-sequences.ts';
import { type Dialect, KernelSocket, type Said } from './kernel-socket.ts';
import { until } from './wait.ts';

/** What each client was sent, by channel, as comparable values in order. */
export type Heard = Record<Who, Record<string, unknown[]>>;

export interface Played {
  heard: Heard;
  /** Messages that answer nothing that was said here: `type of parent type`. */
  foreign: string[];
  /** Messages of a replay and what the gateway says itself. */
  own: string[];
}

const sessions: Record<Who, string> = { a: 'session-a', b: 'session-b' };
const clients = ['a', 'b'] as const;
const sentDate = '2026-01-01T00:00:00';

/** How often a server is asked whether it hears a kernel, and how long it has for that each time but the last. */
const mostGreetings = 10;
const greetMs = 3_000;

/** One kernel of a server, with two clients. */
export class Player {
  readonly #server: Server;
  readonly #kernelId: string;
  readonly #dialect: Dialect;
  #sockets!: Record<Who, KernelSocket>;
  /** Of sockets that were closed. */
  readonly #before: Record<Who, JupyterMessage[]> = { a: [], b: [] };
  #number = 0;
  #greeted = 0;
  #said = 0;
  /** The last request by which a kernel ended. */
  #fatal: string | undefined;
  /** Of what is said to see that a socket is heard: a server may miss a part of what it brings about. */
  #isGreeting = false;

  constructor(server: Server, kernelId: string, dialect: Dialect) {
    this.#server = server;
    this.#kernelId = kernelId;
    this.#dialect = dialect;
  }

  /** Plays all steps, on sockets of their own. */
  async play(sequence: Sequence): Promise<Played> {
    this.#number = sequence.number;
    await this.#connect();
    try {
      for (const step of sequence.steps) await this.#step(step);
      await this.#settle();
      return this.#played();
    } finally {
      await this.#disconnect();
    }
  }

  async #connect(): Promise<void> {
    const open = (who: Who) => KernelSocket.open(this.#server, this.#kernelId, this.#session(who), this.#dialect);
    this.#sockets = { a: await open('a'), b: await open('b') };
    await this.#greet();
  }

  /** Until both are heard on all channels. The reference may not hear a new start at once: it is asked until it does. */
  async #greet(): Promise<void> {
    this.#isGreeting = true;
    const most = this.#server.missesStarts === true ? mostGreetings : 1;
    for (const who of clients)
      for (const channel of ['control', 'shell'])
        for (let tries = 1; ; tries++) {
          const id = this.#say(who, channel, 'kernel_info_request', {});
          try {
            await this.#whenDone(who, id, channel, tries < most ? greetMs : undefined);
            break;
          } catch (error) {
            if (tries >= most) throw error;
          }
        }
    await this.#settle();
    this.#isGreeting = false;
  }

  async #disconnect(): Promise<void> {
    for (const who of clients) {
      await this.#sockets[who].close();
      this.#before[who].push(...this.#sockets[who].messages);
    }
  }

  async #reconnect(): Promise<void> {
    await this.#disconnect();
    await this.#connect();
  }

  #session(who: Who): string {
    return `${sessions[who]}-${this.#number}`;
  }

  #say(by: Who, channel: string, type: string, content: Record<string, unknown>, more: Partial<Said> = {}): string {
    const id = this.#isGreeting ? `hello-${this.#number}-${this.#greeted++}` : `said-${this.#number}-${this.#said++}`;
    const usual = {
      msg_id: id,
      session: this.#session(by),
      username: 'tester',
      date: `${sentDate}.000000Z`,
      msg_type: type,
      version: '5.3',
    };
    const given = Object.entries({ ...usual, ...more.header }).filter(([, value]) => value !== null);
    this.#sockets[by].say({ channel, content, ...more, header: Object.fromEntries(given) });
    return id;
  }

  async #step(step: Step): Promise<void> {
    switch (step.kind) {
      case 'say':
        return this.#sayStep(step);
      case 'queue':
        return this.#queue(step);
      case 'burst': {
        const more = { stop_on_error: false };
        const ids = step.codes.map((code) => this.#say(step.by, 'shell', 'execute_request', cell(code, more)));
        for (const id of ids) await this.#whenDone(step.by, id, 'shell');
        return;
      }
      case 'interrupt': {
        const id = this.#say(step.by, 'shell', 'execute_request', cell(step.code, { allow_stdin: true }));
        const isOn = ({ header, parent }: JupyterMessage) =>
          ['stream', 'input_request'].includes(String(header['msg_type'])) && parent['msg_id'] === id;
        await this.#when(step.by, isOn, `output of ${id}`);
        await this.post('interrupt', 204);
        return this.#whenDone(step.by, id, 'shell');
      }
      case 'interrupt-idle':
        await this.post('interrupt', 204);
        return this.#settle();
      case 'restart':
        await this.post('restart', 200);
        return this.#reconnect();
      case 'die': {
        this.#fatal = this.#say(step.by, step.channel, step.type, step.content);
        const isRestarting = ({ content }: JupyterMessage) => content['execution_state'] === 'restarting';
        await Promise.all(clients.map((who) => this.#when(who, isRestarting, 'the new start')));
        return this.#reconnect();
      }
    }
  }

  async #sayStep(step: Extract<Step, { kind: 'say' }>): Promise<void> {
    const { by, channel, type, content, until: last, answers = [], answersBy = by } = step;
    const { metadata = {}, header = {}, buffers = [] } = step;
    const bytes = buffers.map((each) => Buffer.from(each, 'latin1'));
    const id = this.#say(by, channel, type, content, { metadata, header, buffers: bytes });
    for (const [at, value] of answers.entries()) {
      await this.#whenAsked(by, id, at + 1);
      this.#say(answersBy, 'stdin', 'input_reply', { value, status: 'ok' });
    }
    if (last === 'reply') await this.#whenDone(by, id, channel);
    else if (last === 'idle') await this.#whenIdle(by, id);
    else await this.#settle();
  }

  /** What waits behind the first has arrived when an answer on another channel has come, which is asked for after it. */
  async #queue({ by, first, codes, codesBy, stopOnError }: Extract<Step, { kind: 'queue' }>): Promise<void> {
    const leading = this.#say(
      by,
      'shell',
      'execute_request',
      cell(first, { allow_stdin: true, stop_on_error: stopOnError }),
    );
    await this.#whenAsked(by, leading, 1);
    const ids = codes.map((code) => this.#say(codesBy, 'shell', 'execute_request', cell(code)));
    for (let round = 0; round < 2; round++)
      await this.#whenDone(codesBy, this.#say(codesBy, 'control', 'kernel_info_request', {}), 'control');
    this.#say(by, 'stdin', 'input_reply', { value: 'go', status: 'ok' });
    for (const id of ids) await this.#whenDone(codesBy, id, 'shell');
  }

  /** Both clients have all that was said so far. */
  async #settle(): Promise<void> {
    let last = '';
    for (const who of clients) {
      for (const channel of ['control', 'shell']) {
        last = this.#say(who, channel, 'kernel_info_request', {});
        await this.#whenDone(who, last, channel);
      }
    }
    await Promise.all(clients.map((who) => this.#whenIdle(who, last)));
  }

  #when(
    who: Who,
    fits: (message: JupyterMessage) => boolean,
    what: string,
    timeoutMs?: number,
  ): Promise<JupyterMessage> {
    const where = `${what} at ${this.#server.url}, sequence ${this.#number}, client ${who}`;
    return this.#sockets[who].whenSaid(fits, where, timeoutMs);
  }

  async #whenDone(who: Who, id: string, channel: string, timeoutMs?: number): Promise<void> {
    const isReply = (m: JupyterMessage) => m.channel === channel && m.parent['msg_id'] === id;
    await this.#when(who, isReply, `the reply to ${id}`, timeoutMs);
    await this.#whenIdle(who, id, timeoutMs);
  }

  async #whenIdle(who: Who, id: string, timeoutMs?: number): Promise<void> {
    const isIdle = ({ channel, parent, content }: JupyterMessage) =>
      channel === 'iopub' && content['execution_state'] === 'idle' && parent['msg_id'] === id;
    await this.#when(who, isIdle, `idle of ${id}`, timeoutMs);
  }

  async #whenAsked(who: Who, id: string, times: number): Promise<void> {
    const asked = () =>
      this.#sockets[who].messages.filter((m) => m.header['msg_type'] === 'input_request' && m.parent['msg_id'] === id);
    await until(() => asked().length >= times, { what: `question ${times} of ${id}`, everyMs: 5, timeoutMs: 60_000 });
  }

  /** An action over HTTP; returns its answer. */
  async post(action: 'interrupt' | 'restart', status: number): Promise<unknown> {
    const { url, token } = this.#server;
    const answer = await fetch(`${url}api/kernels/${this.#kernelId}/${action}`, {
      method: 'POST',
      headers: { authorization: `token ${token}` },
    });
    const text = await answer.text();
    if (answer.status !== status) throw new Error(`${action} answered ${answer.status}: ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  #played(): Played {
    const foreign: string[] = [];
    const own: string[] = [];
    const heard: Heard = { a: {}, b: {} };
    for (const who of clients) {
      const all = [...this.#before[who], ...this.#sockets[who].messages];
      const mine = all.filter((message) => {
        const { header, parent, metadata } = message;
        const asked = String(parent['msg_id'] ?? '');
        // What a kernel says in the moment that it dies may be lost on its way to a server.
        if (asked.startsWith('hello-') || asked === this.#fatal) return false;
        const text = header['msg_type'] === 'stream' ? ` ${String(message.content['text'])}` : '';
        const label = `${String(header['msg_type'])} of ${String(parent['msg_type'] ?? 'nothing')}${text}`;
        if (header['username'] === 'causeway' || 'causeway' in metadata) own.push(label);
        else if (!asked.startsWith('said-')) foreign.push(label);
        else return true;
        return false;
      });
      for (const channel of ['shell', 'control', 'stdin', 'iopub'])
        heard[who][channel] = joinStreams(mine.filter((each) => each.channel === channel)).map(toComparable);
      const others = mine.filter(({ channel }) => !['shell', 'control', 'stdin', 'iopub'].includes(channel));
      if (others.length > 0) heard[who]['others'] = others;
    }
    return { heard, foreign, own };
  }
}

/** A kernel flushes each stream when it likes: between two other messages of one request only what was printed counts. */
function joinStreams(messages: readonly JupyterMessage[]): JupyterMessage[] {
  const joined: JupyterMessage[] = [];
  let run: JupyterMessage[] = [];
  const isStream = ({ header }: JupyterMessage) => header['msg_type'] === 'stream';
  const flush = () => {
    joined.push(...run.toSorted((a, b) => (String(a.content['name']) < String(b.content['name']) ? 1 : -1)));
    run = [];
  };
  for (const message of messages) {
    if (!isStream(message)) {
      flush();
      joined.push(message);
      continue;
    }
    if (run.length > 0 && run[0]!.parent['msg_id'] !== message.parent['msg_id']) flush();
    const at = run.findIndex(({ content }) => content['name'] === message.content['name']);
    if (at < 0) run.push(message);
    else {
      const text = `${String(run[at]!.content['text'])}${String(message.content['text'])}`;
      run[at] = { ...run[at]!, content: { ...run[at]!.content, text } };
    }
  }
  flush();
  return joined;
}

function toComparable({ header, parent, metadata, content, buffers }: JupyterMessage): unknown {
  const { started: _, engine: __, ...rest } = metadata;
  const keys = Object.keys(header).sort().join(' ');
  const { msg_type: type, version } = header;
  const said = { type, keys, version, parent: dated(parent), metadata: rest, content: scrub(content, String(type)) };
  return { ...said, buffers: buffers.map((each) => each.toString('latin1')) };
}

/** A request without a date is given one by the kernel. */
function dated(parent: JupyterMessage['parent']): JupyterMessage['parent'] {
  const { date } = parent;
  return typeof date !== 'string' || date.startsWith(sentDate) ? parent : { ...parent, date: 'now' };
}

/** Numbers of processes, of addresses in memory, of sessions of a history, and of ports. */
function scrub(content: Record<string, unknown>, type: string): unknown {
  if (type === 'connect_reply') return Object.keys(content).sort();
  if (type === 'history_reply')
    return { ...content, history: (content['history'] as unknown[][]).map((each) => each.slice(1)) };
  // What it came to know of types in the time that it takes for it.
  const known = (key: string, value: unknown) => (key === '_jupyter_types_experimental' ? [] : value);
  // Where in the code an interrupt meets it is chance.
  const isInterrupt = content['ename'] === 'KeyboardInterrupt';
  const text = JSON.stringify(isInterrupt ? { ...content, traceback: [] } : content, known)
    .replaceAll(/ipykernel_\d+/g, 'ipykernel_N')
    .replaceAll(/\/tmp\/ipykernel_N\/\d+\.py/g, 'CELL')
    .replaceAll(/0x[0-9a-f]{6,}/g, '0xN')
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID');
  return JSON.parse(text) as unknown;
}

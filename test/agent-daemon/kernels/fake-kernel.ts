/**
 * A kernel of Jupyter for tests, which speaks ZMTP over plain sockets and does what the code of an execute_request says:
 * JSON of a list of steps. A program: `node fake-kernel.ts CONNECTION_FILE`. What is no such list it takes for what a bridge
 * says of its own; with FAKE_STUBBORN it does nothing of that kind, from the second on.
 */
import { spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';

/** What a cell may do, one after the other. */
export type Step =
  | { do: 'print'; text: string }
  /** Prints `text` so many times, one message each. */
  | { do: 'flood'; text: string; times: number }
  /** Publishes a display_data of so many bytes in a buffer. */
  | { do: 'display'; bytes: number }
  /** Publishes a message that another key signed, or that has no signature at all. */
  | { do: 'forge'; how: 'key' | 'none' | 'short' }
  /** Publishes the first half of a message, and dies. */
  | { do: 'die'; code?: number; signal?: NodeJS.Signals; inMessage?: boolean }
  /** Asks for a line on the stdin channel, and prints it; prints `after` while it waits. */
  | { do: 'ask'; prompt: string; after?: string }
  /** Sends so many bytes that are no frame. */
  | { do: 'garbage'; bytes: number }
  | { do: 'ping' }
  /** A SIGINT ends it, and the cell, as an error. */
  | { do: 'sleep'; ms: number }
  | { do: 'stderr'; text: string }
  /** Publishes a message of this type on iopub. */
  | { do: 'publish'; type: string; content: object }
  /** Ends the cell with an error. */
  | { do: 'fail'; name: string; value: string }
  /** Adds one to what it counts in this process, and prints that. */
  | { do: 'count' }
  /** Prints the id of its process, and starts one that sleeps, in a group of its own; prints that one's too. */
  | { do: 'pids' }
  /** Stops its process, which hears nothing any more. */
  | { do: 'stop' }
  /** Says nothing more of this cell, as if that was lost. */
  | { do: 'vanish' }
  /** Refuses the next cells, as those behind somebody's error. */
  | { do: 'refuse'; cells: number };

/** What ends a cell. */
class CellError extends Error {}
class Vanished extends Error {}

interface Message {
  header: Record<string, unknown>;
  content: Record<string, unknown>;
  buffers: Buffer[];
}

const names = ['shell', 'control', 'stdin', 'iopub', 'hb'] as const;
type Name = (typeof names)[number];

function frame(bytes: Uint8Array, more: boolean): Buffer {
  const head = bytes.byteLength < 256 ? Buffer.from([more ? 1 : 0, bytes.byteLength]) : Buffer.alloc(9);
  if (head.byteLength === 9) {
    head[0] = more ? 3 : 2;
    head.writeBigUInt64BE(BigInt(bytes.byteLength), 1);
  }
  return Buffer.concat([head, bytes]);
}

function greeting(type: string): Buffer {
  const bytes = Buffer.alloc(64);
  bytes[0] = 0xff;
  bytes[9] = 0x7f;
  bytes[10] = 3;
  bytes[11] = 1;
  bytes.write('NULL', 12);
  const property = (name: string, value: string) => {
    const head = Buffer.from([name.length, ...Buffer.from(name), 0, 0, 0, value.length]);
    return Buffer.concat([head, Buffer.from(value)]);
  };
  const body = Buffer.concat([Buffer.from('\x05READY'), property('Socket-Type', type), property('Identity', '')]);
  return Buffer.concat([bytes, Buffer.from([4, body.byteLength]), body]);
}

/** The frames of whole messages that come on a socket; commands are passed over. */
function readMessages(socket: Socket, on: (frames: Buffer[]) => void): void {
  let held: Buffer = Buffer.alloc(0);
  let isGreeted = false;
  let frames: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => {
    held = Buffer.concat([held, bytes]);
    if (!isGreeted && held.byteLength < 64) return;
    if (!isGreeted) held = held.subarray(64);
    isGreeted = true;
    for (;;) {
      const flags = held[0] ?? 0;
      const isLong = (flags & 2) !== 0;
      if (held.byteLength < (isLong ? 9 : 2)) return;
      const size = isLong ? Number(held.readBigUInt64BE(1)) : (held[1] ?? 0);
      const from = isLong ? 9 : 2;
      if (held.byteLength < from + size) return;
      const body = held.subarray(from, from + size);
      held = held.subarray(from + size);
      if ((flags & 4) !== 0) continue;
      frames.push(body);
      if ((flags & 1) !== 0) continue;
      on(frames);
      frames = [];
    }
  });
}

class FakeKernel {
  #key = '';
  readonly #sockets = new Map<Name, Socket>();
  #isSubscribed = false;
  #count = 0;
  #counted = 0;
  #told = 0;
  #refuses = 0;
  #interrupt: ((error: Error) => void) | undefined;
  #answer: ((text: string) => void) | undefined;
  #cells: Promise<void> = Promise.resolve();

  /** Listens at the ports of a connection file. */
  serve(file: string): void {
    const connection = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string | number>;
    this.#key = String(connection['key']);
    for (const name of names) this.#listen(name, Number(connection[`${name}_port`]));
  }

  #listen(name: Name, port: number): void {
    const server = createServer((socket) => {
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      socket.write(greeting(name === 'iopub' ? 'PUB' : name === 'hb' ? 'REP' : 'ROUTER'));
      this.#sockets.set(name, socket);
      readMessages(socket, (frames) => this.#hear(name, frames));
    });
    server.listen(port, '127.0.0.1');
  }

  #sign(parts: readonly Buffer[]): string {
    const hmac = createHmac('sha256', this.#key);
    for (const part of parts) hmac.update(part);
    return hmac.digest('hex');
  }

  #frames(type: string, parent: object, content: object): Buffer[] {
    const header = {
      msg_id: `k-${++this.#count}`,
      session: 'kernel',
      username: 'kernel',
      date: '',
      msg_type: type,
      version: '5.3',
    };
    return [header, parent, {}, content].map((part) => Buffer.from(JSON.stringify(part)));
  }

  #send(name: Name, type: string, parent: object, content: object, buffers: Buffer[] = [], signature?: string): void {
    const parts = this.#frames(type, parent, content);
    const signed = Buffer.from(signature ?? this.#sign(parts));
    const topic = name === 'iopub' ? [Buffer.from(`kernel.fake.${type}`)] : [];
    const all = [...topic, Buffer.from('<IDS|MSG>'), signed, ...parts, ...buffers];
    if (name === 'iopub' && !this.#isSubscribed) return;
    this.#sockets.get(name)?.write(Buffer.concat(all.map((part, i) => frame(part, i + 1 < all.length))));
  }

  #hear(name: Name, frames: Buffer[]): void {
    if (name === 'iopub') {
      this.#isSubscribed = frames[0]?.[0] === 1;
      return;
    }
    const at = frames.findIndex((each) => each.toString() === '<IDS|MSG>');
    const [signature, header, parent, metadata, content, ...buffers] = frames.slice(at + 1);
    if (signature?.toString() !== this.#sign([header!, parent!, metadata!, content!])) return;
    const message = {
      header: JSON.parse(header!.toString()) as Message['header'],
      content: JSON.parse(content!.toString()) as Message['content'],
      buffers,
    };
    const type = String(message.header['msg_type']);
    if (type === 'input_reply') this.#answer?.(String(message.content['value']));
    else if (type === 'interrupt_request') this.#send('control', 'interrupt_reply', message.header, { status: 'ok' });
    else if (type === 'shutdown_request') {
      this.#send('control', 'shutdown_reply', message.header, { status: 'ok', restart: false });
      setImmediate(() => process.exit(0));
    } else this.#cells = this.#cells.then(() => this.#do(type, message));
  }

  /** As a SIGINT does. */
  interrupt(): void {
    this.#interrupt?.(new CellError('KeyboardInterrupt'));
  }

  async #do(type: string, { header, content, buffers }: Message): Promise<void> {
    this.#send('iopub', 'status', header, { execution_state: 'busy' });
    const ok = { status: 'ok', execution_count: 1, buffers: buffers.map((each) => each.byteLength) };
    const reply = type === 'execute_request' ? await this.#cell(String(content['code']), header, ok) : ok;
    if (reply === undefined) return;
    const code = String(content['code']);
    const found = { matches: [`${code}-completed`], cursor_start: 0, cursor_end: Number(content['cursor_pos']) };
    const more = type === 'complete_request' ? found : {};
    this.#send('shell', type.replace('_request', '_reply'), header, { ...reply, ...more });
    this.#send('iopub', 'status', header, { execution_state: 'idle' });
  }

  async #cell(code: string, header: object, ok: object): Promise<object | undefined> {
    if (this.#refuses > 0) {
      this.#refuses--;
      return { status: 'aborted' };
    }
    if (!code.startsWith('[')) {
      if (process.env['FAKE_STUBBORN'] === undefined || this.#told++ === 0) return ok;
      return { status: 'error', ename: 'Stubborn', evalue: '', traceback: [] };
    }
    try {
      for (const step of JSON.parse(code) as Step[]) await this.#step(step, header);
      return ok;
    } catch (error) {
      if (error instanceof Vanished) return undefined;
      if (!(error instanceof CellError)) throw error;
      const content = {
        ename: error.message,
        evalue: String(error.cause ?? ''),
        traceback: ['\x1b[31mred\x1b[0m', 'here'],
      };
      this.#send('iopub', 'error', header, content);
      return { status: 'error', ...content };
    }
  }

  async #step(step: Step, parent: object): Promise<void> {
    const iopub = this.#sockets.get('iopub');
    switch (step.do) {
      case 'print':
        this.#send('iopub', 'stream', parent, { name: 'stdout', text: step.text });
        return;
      case 'flood':
        for (let i = 0; i < step.times; i++) {
          this.#send('iopub', 'stream', parent, { name: 'stdout', text: step.text });
          // As ZeroMQ would: what is not taken is held here, not in the socket.
          if (i % 500 === 499 && iopub !== undefined && iopub.writableLength > 1e6)
            await new Promise<void>((resolve) => void iopub.once('drain', resolve));
        }
        return;
      case 'display':
        this.#send('iopub', 'display_data', parent, { data: {} }, [Buffer.alloc(step.bytes, 'b')]);
        return;
      case 'forge': {
        const signature = { key: createHmac('sha256', 'other').digest('hex'), none: '', short: 'ab' }[step.how];
        this.#send('iopub', 'stream', parent, { name: 'stdout', text: 'FORGED' }, [], signature);
        return;
      }
      case 'die':
        if (step.inMessage === true) {
          iopub?.write(frame(Buffer.from('kernel.fake.stream'), true));
          iopub?.write(frame(Buffer.alloc(5000, 'x'), true).subarray(0, 3000));
        }
        await new Promise<void>((resolve) => iopub?.end(resolve));
        if (step.signal !== undefined) process.kill(process.pid, step.signal);
        else process.exit(step.code ?? 1);
        await new Promise(() => undefined);
        return;
      case 'ask': {
        const line = new Promise<string>((resolve) => (this.#answer = resolve));
        this.#send('stdin', 'input_request', parent, { prompt: step.prompt, password: false });
        if (step.after !== undefined) this.#send('iopub', 'stream', parent, { name: 'stdout', text: step.after });
        this.#send('iopub', 'stream', parent, { name: 'stdout', text: await line });
        return;
      }
      case 'garbage':
        iopub?.write(Buffer.alloc(step.bytes, 0xff));
        return;
      case 'ping':
        iopub?.write(Buffer.from('\x04\x09\x04PING\x00\x00hi', 'latin1'));
        return;
      case 'sleep':
        await new Promise((resolve, reject) => {
          this.#interrupt = reject;
          setTimeout(resolve, step.ms);
        });
        return;
      case 'stderr':
        process.stderr.write(step.text);
        return;
      case 'publish':
        this.#send('iopub', step.type, parent, step.content);
        return;
      case 'fail':
        throw new CellError(step.name, { cause: step.value });
      case 'stop':
        process.kill(process.pid, 'SIGSTOP');
        return;
      case 'vanish':
        throw new Vanished();
      case 'count':
        this.#send('iopub', 'stream', parent, { name: 'stdout', text: `${++this.#counted}` });
        return;
      case 'pids': {
        // With a shell of job control it is in another group of the same session.
        const { stdout } = spawnSync('bash', ['-mc', 'sleep 1000 > /dev/null 2>&1 & echo $!'], { encoding: 'utf8' });
        this.#send('iopub', 'stream', parent, { name: 'stdout', text: `${process.pid} ${stdout}` });
        return;
      }
      case 'refuse':
        this.#refuses = step.cells;
    }
  }
}

if (process.argv[1] === import.meta.filename) {
  const kernel = new FakeKernel();
  process.on('SIGINT', () => {
    process.stderr.write('interrupted\n');
    kernel.interrupt();
  });
  kernel.serve(process.argv[2] ?? '');
}

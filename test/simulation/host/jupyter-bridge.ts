/**
 * A model of `causeway-init kernel`, the bridge that starts a kernel of Jupyter and is its only client
 * (agent-daemon/kernels/SPEC.md, rules J1 on): its standard output is the log, its standard input takes what clients say.
 * What it may hold is not counted: where it would leave messages out, the code that it runs says so (`jupyter-kernel.ts`).
 */
import { inside } from '../../../agent-daemon/runtime/docker-spec.ts';
import { type BridgeNote, bridgeChannel } from '../../../schema/protocol/channels.ts';
import { joinRecord, splitMessage } from '../../../schema/protocol/jupyter-framing.ts';
import type { BridgeWatch, Interpreter, InterpreterPorts, KernelEnd } from './interpreters.ts';
import { ModelJupyterKernel } from './jupyter-kernel.ts';

const startMs = 300;
/** What it takes to make one that was started in advance the session's. */
const takeMs = 10;
/** What a kernel takes that is asked to shut down, and when it is killed that does not heed that. */
const shutdownMs = 100;
const killMs = 5_000;
const fullMs = 100;
const lengthBytes = 4;
const sigkill = 9;
const inputChannels: readonly string[] = ['shell', 'control', 'stdin'];

/** The bridge of an argv, or what leaves a kernel waiting; undefined when it is another program. */
export function bridgeOf(argv: readonly string[], ports: InterpreterPorts): Interpreter | undefined {
  const [program, tool] = argv;
  if (program !== inside.init || tool !== 'kernel') return undefined;
  const options = argv.slice(2, argv.indexOf('--'));
  const option = (name: string): string | undefined => {
    const at = options.indexOf(name);
    return at < 0 ? undefined : options[at + 1];
  };
  const name = option('--park');
  return name === undefined ? new ModelBridge(ports, option('--take')) : parking(name, ports);
}

/** Starts a kernel in advance, and is done. */
function parking(name: string, ports: InterpreterPorts): Interpreter {
  let cancel: () => void = () => undefined;
  const parked = (): void => {
    ports.waiting.add(name);
    ports.exit(0);
  };
  return {
    start: () => {
      cancel = ports.timers.after(startMs, parked);
    },
    read: () => undefined,
    interrupt: () => undefined,
    terminate: () => false,
    end: () => cancel(),
  };
}

class ModelBridge implements Interpreter {
  readonly #ports: InterpreterPorts;
  readonly #watch: BridgeWatch;
  readonly #kernel: ModelJupyterKernel;
  #held = Buffer.alloc(0);
  readonly #cancels: (() => void)[] = [];
  #isAsked = false;
  #isOver = false;

  readonly #takes: string | undefined;

  /** `takes`: the name of one that was started in advance. */
  constructor(ports: InterpreterPorts, takes: string | undefined) {
    this.#ports = ports;
    this.#takes = takes;
    this.#watch = ports.watch();
    this.#kernel = new ModelJupyterKernel({
      timers: ports.timers,
      says: (message) => this.#write(joinRecord(message)),
      notes: (note) => this.#note(note),
      ends: (how) => this.#ended(how),
      ran: (id) => this.#watch.ran(id),
      did: (id, exitCode) => this.#watch.did(id, exitCode),
    });
  }

  start(): void {
    const waited = this.#takes !== undefined && this.#ports.waiting.delete(this.#takes);
    if (waited) this.#ports.took();
    const ready = (): void => {
      this.#note({ kind: 'ready', ...(waited ? { inAdvance: true as const } : {}) });
      this.#ports.reads();
    };
    this.#cancels.push(this.#ports.timers.after(waited ? takeMs : startMs, ready));
  }

  read(bytes: Buffer): void {
    this.#held = Buffer.concat([this.#held, bytes]);
    while (this.#held.byteLength >= lengthBytes && !this.#isOver) {
      const end = lengthBytes + this.#held.readUInt32BE(0);
      if (this.#held.byteLength < end) return;
      const record = this.#held.subarray(0, end);
      this.#held = this.#held.subarray(end);
      this.#hear(record);
    }
  }

  interrupt(): void {
    this.#kernel.interrupt();
  }

  /** Asks it to shut down; the second time it is killed. */
  terminate(): boolean {
    if (this.#isOver) return true;
    if (this.#isAsked) this.#ended({ signal: sigkill });
    else if (this.#kernel.heedsShutdown) this.#later(shutdownMs, { exitCode: 0 });
    this.#later(killMs, { signal: sigkill });
    this.#isAsked = true;
    return true;
  }

  end(): void {
    this.#isOver = true;
    for (const cancel of this.#cancels.splice(0)) cancel();
    this.#kernel.end();
  }

  #later(ms: number, how: KernelEnd): void {
    this.#cancels.push(this.#ports.timers.after(ms, () => this.#ended(how)));
  }

  #hear(record: Buffer): void {
    const { channel, parts } = splitMessage(record.subarray(lengthBytes));
    if (!inputChannels.includes(channel)) return this.#note({ kind: 'refused', bytes: record.byteLength });
    const [header, , , content] = parts.map((part) => JSON.parse(Buffer.from(part).toString()) as object);
    this.#kernel.hear({ channel, header: header as never, content: content as never });
  }

  /** All that it had sent comes before the end of the bridge. */
  #ended(how: KernelEnd): void {
    if (this.#isOver) return;
    this.end();
    this.#note({ kind: 'ended', ...how });
    this.#leave(how);
  }

  #leave(how: KernelEnd): void {
    if (this.#ports.isFull()) {
      this.#cancels.push(this.#ports.timers.after(fullMs, () => this.#leave(how)));
      return;
    }
    this.#watch.ended();
    if ('signal' in how) this.#ports.dies(how.signal);
    else this.#ports.exit(how.exitCode);
  }

  #note(note: BridgeNote): void {
    const header = { msg_id: 'note', msg_type: 'causeway', session: '', username: '', date: '', version: '5.3' };
    const parts = [header, {}, {}, note].map((part) => Buffer.from(JSON.stringify(part)));
    this.#write(joinRecord({ channel: bridgeChannel, parts }));
  }

  #write(record: Uint8Array): void {
    this.#watch.wrote(record);
    this.#ports.write('stdout', Buffer.from(record));
  }
}

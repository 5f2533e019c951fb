/** The model init of the simulation against the real causeway-init: the same frames in, the same frames out. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { encode, FrameReader } from '../../agent-daemon/init/codec.ts';
import { Handshake, type KeyStore } from '../../agent-daemon/init/handshake.ts';
import type { FromInit, SpawnSpec, ToInit } from '../../agent-daemon/init/messages.ts';
import { firstSocketName } from '../../agent-daemon/init/listener.ts';
import { type SessionKey, socketName } from '../../agent-daemon/init/session-key.ts';
import { newId } from '../../schema/ids.ts';
import { initBinary } from '../agent-daemon/init/harness.ts';
import { random } from '../agent-daemon/init/ports.ts';
import { VirtualTime } from '../simulation/clock.ts';
import { SimDoor } from '../simulation/host/door.ts';
import { ModelInit } from '../simulation/host/init.ts';
import { start } from '../support/process.ts';
import { tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

const memoryBytes = 1024 * 1024; // the smallest ring: 64 KiB
const idOf = (n: number): string => newId('process', 1_800_000_000_000 + n, new Uint8Array(10));
const [one, two] = [idOf(1), idOf(2)];

/** What an init answered, without what differs by its nature: times, process ids, how bytes were cut into frames. */
type Told = Record<string, unknown>;

/** The agent's end of one connection, after the handshake. */
class Talk {
  readonly told: Told[] = [];
  isOver = false;
  bootMs = 0;
  readonly #stream: Duplex;
  readonly #reader = new FrameReader();

  private constructor(stream: Duplex) {
    this.#stream = stream;
  }

  static async begin(stream: Duplex, keys: KeyStore): Promise<Talk> {
    const talk = new Talk(stream);
    const opened = Promise.withResolvers<void>();
    let handshake: Handshake | undefined;
    const shake = async (frame: FromInit): Promise<void> => {
      if (frame.type === 'hello') {
        handshake = new Handshake(keys, random, frame);
        stream.write(await handshake.answer(random));
      } else if ((await handshake?.accept(frame)) === true) {
        stream.write(encode({ type: 'welcome' }));
        opened.resolve();
      } else opened.reject(new Error(`the handshake failed at ${frame.type}`));
    };
    stream.on('data', (chunk: Buffer) => {
      for (const frame of talk.#reader.push(chunk)) {
        if (frame.type === 'hello' || frame.type === 'proof') void shake(frame);
        else talk.#note(frame);
      }
    });
    stream.on('error', () => undefined);
    stream.on('close', () => (talk.isOver = true));
    stream.on('end', () => (talk.isOver = true));
    await opened.promise;
    return talk;
  }

  send(frame: ToInit, seq = 0): void {
    this.#stream.write(encode(frame, seq));
  }

  close(): void {
    this.#stream.destroy();
  }

  count(type: string): number {
    return this.told.filter((each) => each['type'] === type).length;
  }

  bytes(processId: string): number {
    const output = this.told.filter((each) => each['type'] === 'output' && each['processId'] === processId);
    return output.reduce((sum, each) => sum + (each['text'] as string).length, 0);
  }

  #note(frame: FromInit): void {
    if (frame.type === 'ready') this.bootMs = frame.bootMs;
    const told = normal(frame);
    const last = this.told.at(-1);
    // Whether the end is told once more before it is final is a matter of the moment.
    if (told['type'] === 'exit' && told['final'] === false) return;
    // Output that follows output is one.
    if (told['type'] === 'output' && last?.['type'] === 'output' && last['processId'] === told['processId'])
      last['text'] = `${String(last['text'])}${String(told['text'])}`;
    else this.told.push(told);
  }
}

function normal(frame: FromInit): Told {
  switch (frame.type) {
    case 'output': {
      const { type, processId, stream, offset, bytes } = frame;
      return { type, processId, stream, offset, text: Buffer.from(bytes).toString('latin1') };
    }
    case 'exit': {
      const { timeMs: _, ...exit } = frame.exit;
      return { type: 'exit', processId: frame.processId, ...exit };
    }
    case 'state': {
      const { pid: _, startedMs: __, exit, ...state } = frame.state;
      return { type: 'state', ...state, exit: exit === undefined ? undefined : { ...exit, timeMs: 0 } };
    }
    case 'ready':
      return { ...frame, bootMs: 0 };
    case 'spawned':
      return { type: 'spawned', processId: frame.processId };
    case 'refused':
      return { type: 'refused', seq: frame.seq, refusal: frame.refusal };
    default:
      return { ...frame };
  }
}

/** An init that can be talked to, again and again. */
interface Side {
  /** Where programs are found. */
  path: string;
  /** Accepts the next connection of the init and shakes hands. */
  connect(): Promise<Talk>;
  until(isSo: () => boolean, what: string): Promise<void>;
  /** Time that passes without anything asked. */
  pass(ms: number): Promise<void>;
  hasExited(): boolean;
}

type Script = (side: Side) => Promise<Told[][]>;

function keyStore(): KeyStore & { now?: SessionKey } {
  const store: KeyStore & { now?: SessionKey } = {
    key: () => store.now,
    saveKey: (key) => {
      store.now = key;
      return Promise.resolve();
    },
  };
  return store;
}

/** The simulated programs, for a real shell. */
const programs = {
  count: 'i=0; while [ $i -lt $1 ]; do printf "%07d\\n" $i; i=$((i+1)); /bin/sleep 0.0$2; done; exit ${3:-0}',
  burst: 'awk "BEGIN { for (i = 0; i < $1 / 8; i++) printf \\"%07d\\\\n\\", i }"; exit ${2:-0}',
  sleep: 'exec /bin/sleep $(($1 / 1000))',
  exit: 'exit $1',
  cat: 'exec /bin/cat',
  'ignore-term': 'trap "" TERM; while :; do /bin/sleep 0.05; done',
};

async function realSide(): Promise<Side & { stop(): Promise<void> }> {
  const dir = tmpDir('mod');
  const run = join(dir.path, 'run');
  mkdirSync(run);
  mkdirSync(join(dir.path, 'bin'));
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(dir.path, 'bin', name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(dir.path, 'bin', name), 0o755);
  }
  const keys = keyStore();
  const child = start(initBinary, [join(run, firstSocketName), '--memory', String(memoryBytes)], { name: 'init' });
  const servers: Server[] = [];
  const waitFor = (isSo: () => boolean, what: string): Promise<void> =>
    until(() => isSo() || undefined, { what, everyMs: 5 }).then(() => undefined);
  return {
    path: `${join(dir.path, 'bin')}:/usr/bin:/bin`,
    async connect() {
      const path = join(run, keys.now === undefined ? firstSocketName : socketName(keys.now.bytes));
      const accepted = Promise.withResolvers<Duplex>();
      const server = createServer((socket) => accepted.resolve(socket));
      servers.push(server);
      server.listen(path);
      await once(server, 'listening');
      const talk = await Talk.begin(await accepted.promise, keys);
      server.close();
      await waitFor(() => talk.count('ready') === 1, 'READY');
      return talk;
    },
    until: waitFor,
    pass: (ms) => new Promise((resolve) => void setTimeout(resolve, ms)),
    hasExited: () => child.exit !== undefined,
    async stop() {
      for (const server of servers) server.close();
      if (child.exit === undefined) child.kill('SIGKILL');
      await child.exited;
      dir.remove();
    },
  };
}

function modelSide(): Side {
  const time = new VirtualTime();
  const clock = { nowMs: () => 1_800_000_000_000 + Math.floor(time.nowMs), bootMs: () => Math.floor(time.nowMs) + 1 };
  const door = new SimDoor(time);
  const keys = keyStore();
  let code: number | undefined;
  const dial = (name: string): Duplex | undefined => door.dial('/run', name);
  void new ModelInit({ clock, timers: time, random, memoryBytes, dial, exited: (status) => (code = status) });
  const waitFor = async (isSo: () => boolean, what: string): Promise<void> => {
    if (!(await time.runWhile(() => !isSo(), time.nowMs + 600_000))) throw new Error(`the model never did: ${what}`);
  };
  return {
    path: '/bin',
    async connect() {
      const accepted = Promise.withResolvers<Duplex>();
      const name = keys.now === undefined ? firstSocketName : socketName(keys.now.bytes);
      const close = await door.listen('/run', name, (stream) => accepted.resolve(stream));
      let talk: Talk | undefined;
      void accepted.promise.then((stream) => Talk.begin(stream, keys)).then((begun) => (talk = begun));
      await waitFor(() => (talk?.count('ready') ?? 0) === 1, 'READY');
      close();
      return talk as Talk;
    },
    until: waitFor,
    pass: (ms) => time.runUntil(time.nowMs + ms),
    hasExited: () => code !== undefined,
  };
}

const spawn = ({ path }: Side, processId: string, argv: string[], more: Partial<SpawnSpec> = {}): ToInit => ({
  type: 'spawn',
  spec: { processId, argv, env: { PATH: path }, ...more },
});
const ended = (talk: Talk, processId: string): boolean =>
  talk.told.some((each) => each['type'] === 'exit' && each['processId'] === processId && each['final'] === true);

const scripts: Record<string, Script> = {
  'runs a program to its end, and forgets it when released': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['count', '5', '10', '7']), 1);
    await side.until(() => ended(talk, one), 'the end');
    talk.send({ type: 'ack', processId: one, stream: 1, offset: 40 });
    talk.send({ type: 'release', processId: one }, 2);
    await side.until(() => talk.count('done') === 1, 'the answer');
    talk.send({ type: 'release', processId: one }, 3);
    talk.send({ type: 'signal', processId: one, signal: 9, scope: 'group' }, 4);
    await side.until(() => talk.count('refused') === 1, 'the refusal');
    return [talk.told];
  },
  'says what it can not start, and refuses to release what runs': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['no-such-program']), 1);
    await side.until(() => ended(talk, one), 'the failure');
    talk.send(spawn(side, two, ['sleep', '100000']), 2);
    await side.until(() => talk.count('spawned') === 2, 'the start');
    talk.send({ type: 'release', processId: two }, 3);
    await side.until(() => talk.count('refused') === 1, 'the refusal');
    talk.send({ type: 'signal', processId: two, signal: 15, scope: 'group' }, 4);
    await side.until(() => ended(talk, two), 'the end');
    return [talk.told.map((each) => ({ ...each, message: undefined }))];
  },
  'starts the same id once, and tells it again': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['sleep', '100000']), 1);
    await side.until(() => talk.count('spawned') === 1, 'the start');
    talk.send(spawn(side, one, ['sleep', '100000']), 2);
    await side.until(() => talk.count('spawned') === 2, 'the same again');
    talk.send({ type: 'signal', processId: one, signal: 9, scope: 'process' }, 3);
    await side.until(() => ended(talk, one), 'the end');
    return [talk.told];
  },
  'takes input at its offset, once, and closes it at the end alone': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['cat'], { stdin: 'open' }), 1);
    await side.until(() => talk.count('spawned') === 1, 'the start');
    await side.pass(200);
    const say = (offset: number, text: string): void =>
      talk.send({ type: 'stdin', processId: one, offset, bytes: Buffer.from(text) });
    const acks = (count: number): Promise<void> =>
      side.until(() => talk.count('stdinAck') === count, `${count} answers`);
    say(0, 'hello ');
    await acks(1);
    await side.until(() => talk.bytes(one) === 6, 'the echo');
    say(3, 'lo world');
    await acks(2);
    await side.until(() => talk.bytes(one) === 11, 'the rest');
    say(50, 'beyond');
    await acks(3);
    talk.send({ type: 'stdinClose', processId: one, offset: 5 }, 2);
    await side.until(() => talk.count('refused') === 1, 'the refusal');
    talk.send({ type: 'stdinClose', processId: one, offset: 11 }, 3);
    await side.until(() => ended(talk, one), 'the end');
    const inOrder = (each: Told): boolean => each['type'] !== 'stdinAck';
    return [talk.told.filter(inOrder), talk.told.filter((each) => !inOrder(each))];
  },
  'goes on after a loss of contact, from the offset that is asked for': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['burst', '4000']), 1);
    await side.until(() => ended(talk, one), 'the end');
    talk.send({ type: 'ack', processId: one, stream: 1, offset: 1000 });
    await side.pass(100);
    talk.close();
    const again = await side.connect();
    await side.until(() => ended(again, one), 'the end again');
    again.send({ type: 'resume', processId: one, stream: 1, offset: 2000 });
    await side.until(() => again.bytes(one) === 2000, 'the rest');
    again.send({ type: 'resume', processId: one, stream: 1, offset: 500 });
    await side.until(() => again.count('gap') === 1 && again.bytes(one) === 5000, 'all that is left');
    return [talk.told, again.told];
  },
  'closes the connection at what can not be': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['burst', '80']), 1);
    await side.until(() => ended(talk, one), 'the end');
    talk.send({ type: 'ack', processId: one, stream: 1, offset: 81 });
    await side.until(() => talk.isOver, 'the close');
    const again = await side.connect();
    again.send({ type: 'resume', processId: one, stream: 1, offset: 81 });
    await side.until(() => again.isOver, 'the close');
    return [talk.told, again.told];
  },
  'kills everything when the lease is over, and starts nothing more': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['ignore-term']), 1);
    await side.until(() => talk.count('spawned') === 1, 'the start');
    talk.send({ type: 'lease', deadlineBootMs: Math.ceil(talk.bootMs) + 600_000 }, 2);
    await side.until(() => talk.count('done') === 1, 'the lease');
    talk.send({ type: 'lease', deadlineBootMs: 1 }, 3);
    await side.until(() => ended(talk, one) && talk.count('leaseExpired') === 1, 'the end');
    talk.send(spawn(side, two, ['exit', '0']), 4);
    await side.until(() => talk.count('refused') === 1, 'the refusal');
    talk.close();
    const again = await side.connect();
    await side.until(() => ended(again, one), 'the end again');
    const isAnswer = (each: Told): boolean => each['type'] === 'leaseExpired';
    return [talk.told.filter((each) => !isAnswer(each)), again.told];
  },
  'ends what hears SIGTERM and kills the rest after the grace, and leaves when all is released': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['ignore-term']), 1);
    await side.until(() => talk.count('spawned') === 1, 'the first start');
    talk.send(spawn(side, two, ['sleep', '100000']), 2);
    await side.until(() => talk.count('spawned') === 2, 'the second start');
    await side.pass(300);
    talk.send({ type: 'terminate', graceMs: 500 }, 3);
    await side.until(() => ended(talk, two), 'the first end');
    talk.send(spawn(side, idOf(3), ['exit', '0']), 4);
    await side.until(() => ended(talk, one), 'the second end');
    talk.send({ type: 'shutdown', now: false }, 5);
    talk.send({ type: 'release', processId: one }, 6);
    talk.send({ type: 'release', processId: two }, 7);
    await side.until(() => side.hasExited(), 'its exit');
    return [talk.told];
  },
  'drops the oldest of a stream that may, with one exact gap': async (side) => {
    const talk = await side.connect();
    talk.send(spawn(side, one, ['burst', '400000'], { output: { onFull: 'drop' } }), 1);
    await side.until(() => ended(talk, one), 'the end');
    talk.close();
    const again = await side.connect();
    again.send({ type: 'resume', processId: one, stream: 1, offset: 0 });
    const gapOf = (): Told | undefined => again.told.find((each) => each['type'] === 'gap');
    await side.until(() => Number(gapOf()?.['to']) + again.bytes(one) === 400_000, 'a gap, and the rest behind it');
    // How much a ring holds at the end depends on how the bytes came in.
    return [[{ from: gapOf()?.['from'], gaps: again.count('gap'), keepsSome: again.bytes(one) > 0 }]];
  },
};

describe('a model init and a real one', () => {
  it.each(Object.keys(scripts))('are alike: it %s', async (name) => {
    const script = scripts[name] as Script;
    const real = await realSide();
    try {
      const expected = await script(real);
      expect(await script(modelSide())).toEqual(expected);
    } finally {
      await real.stop();
    }
  });
});

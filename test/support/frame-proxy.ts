/**
 * A fault proxy that knows the tunnel's framing: between agents and the edge it duplicates, reorders and replays single
 * frames of `causeway.tunnel.v1`, in both directions, which a proxy of bytes can not. What is not an upgrade to a tunnel
 * passes as it is. Seeded. A frame is never made up and never changed; from an earlier socket only whole control messages
 * are replayed, since stream ids are a socket's own.
 */
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';
import { type Frame, decodeFrames, encodeFrames, frameTypes } from '../../schema/protocol/frame.ts';
import { limits } from '../../schema/protocol/limits.ts';
import { type Rng, seededRandom } from './random.ts';
import { type Unit, UnitParser, binary, binaryMessage } from './ws-units.ts';

/** Probabilities, 0 to 1, for each message that passes. */
export interface FrameFaults {
  /** One of its frames is sent twice. */
  duplicate?: number;
  /** Two of its frames change places; one that is alone waits for the next message. */
  reorder?: number;
  /** A frame that passed before is sent again, of this socket or (control messages) of an earlier one. */
  replay?: number;
}

export interface FrameProxy {
  readonly port: number;
  /** How often each was done. */
  readonly done: Required<FrameFaults>;
  set(faults: FrameFaults): void;
  stop(): Promise<void>;
}

const loopback = '127.0.0.1';
const maxHeadBytes = 64 * 1024;
const kept = 256;
/** How long a frame is held back for another to pass it. */
const holdMs = 100;

/** Starts a proxy to the port, which is asked for at each connection. */
export async function startFrameProxy(target: () => number, seed: number): Promise<FrameProxy> {
  const proxy = new Relay(target, seededRandom(seed));
  await proxy.listen();
  return proxy;
}

class Relay implements FrameProxy {
  readonly done = { duplicate: 0, reorder: 0, replay: 0 };
  readonly random: Rng;
  faults: FrameFaults = {};
  /** Whole control messages of all sockets so far, oldest first. */
  readonly passed: Record<'up' | 'down', Frame[]> = { up: [], down: [] };
  readonly #target: () => number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(target: () => number, random: Rng) {
    this.#target = target;
    this.random = random;
    this.#server = createServer({ noDelay: true }, (client) => this.#accept(client));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => void this.#server.listen(0, loopback, resolve));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  set(faults: FrameFaults): void {
    this.faults = { ...faults };
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await new Promise((resolve) => void this.#server.close(resolve));
  }

  #accept(client: Socket): void {
    const target = connect({ host: loopback, port: this.#target(), noDelay: true });
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => other.resetAndDestroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.end();
      });
    }
    relayHead(client, target, (isTunnel) => {
      if (!isTunnel) {
        client.pipe(target);
        target.pipe(client);
        return;
      }
      target.pause();
      new Direction(this, 'up', client, target).start();
      relayHead(target, client, (switched) => {
        if (switched) new Direction(this, 'down', target, client).start();
        else target.pipe(client);
      });
    });
  }
}

/** Passes on an HTTP head, then says whether a tunnel follows; what came behind the head is put back. */
function relayHead(source: Socket, sink: Socket, then: (isTunnel: boolean) => void): void {
  let head = Buffer.alloc(0);
  const take = (bytes: Buffer): void => {
    head = Buffer.concat([head, bytes]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0 && head.length < maxHeadBytes) return;
    source.off('data', take);
    source.pause();
    const text = head.toString('latin1', 0, end < 0 ? head.length : end);
    const isTunnel = /^GET \/agent\/v1\/tunnel|^HTTP\/1\.1 101/.test(text);
    const whole = end < 0 ? head.length : end + 4;
    sink.write(head.subarray(0, whole));
    if (whole < head.length) source.unshift(head.subarray(whole));
    then(isTunnel);
  };
  source.on('data', take);
  source.resume();
}

/** One direction of one tunnel socket. */
class Direction {
  readonly #relay: Relay;
  readonly #name: 'up' | 'down';
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #parser = new UnitParser();
  readonly #mine: Frame[] = [];
  #held: { frames: Frame[]; masked: boolean; timer: NodeJS.Timeout } | undefined;

  constructor(relay: Relay, name: 'up' | 'down', source: Socket, sink: Socket) {
    this.#relay = relay;
    this.#name = name;
    this.#source = source;
    this.#sink = sink;
  }

  start(): void {
    this.#source.on('data', (bytes: Buffer) => {
      for (const unit of this.#parser.take(bytes)) this.#pass(unit);
      if (this.#sink.writableNeedDrain) this.#source.pause();
    });
    this.#source.on('end', () => {
      this.#release();
      this.#sink.end();
    });
    this.#sink.on('drain', () => this.#source.resume());
    this.#source.resume();
  }

  #pass(unit: Unit): void {
    const frames = unit.opcode === binary && unit.final ? decoded(unit.payload) : undefined;
    if (frames === undefined) {
      this.#release();
      this.#write(unit.raw);
      return;
    }
    const held = this.#held;
    this.#held = undefined;
    clearTimeout(held?.timer);
    const changed = this.#disturb(frames, unit.masked);
    if (changed === frames) this.#write(unit.raw);
    else if (changed !== undefined) this.#send(changed, unit.masked);
    if (held !== undefined) this.#send(held.frames, held.masked);
    this.#remember(frames);
  }

  /** The frames as they shall go out, the same array when nothing happens to them; undefined when they wait. */
  #disturb(frames: Frame[], masked: boolean): Frame[] | undefined {
    const { random, faults, done } = this.#relay;
    const happens = (probability = 0): boolean => probability > 0 && random.next() < probability;
    const at = random.integer(0, frames.length - 1);
    if (happens(faults.duplicate)) {
      done.duplicate++;
      return frames.toSpliced(at, 0, frames[at]!);
    }
    if (happens(faults.replay)) {
      const past = random.integer(0, 1) === 0 ? this.#mine : this.#relay.passed[this.#name];
      const old = past[random.integer(0, past.length - 1)];
      if (old === undefined) return frames;
      done.replay++;
      return [...frames, old];
    }
    if (happens(faults.reorder)) {
      done.reorder++;
      if (frames.length > 1) {
        const first = Math.min(at, frames.length - 2);
        return frames.toSpliced(first, 2, frames[first + 1]!, frames[first]!);
      }
      this.#held = { frames, masked, timer: setTimeout(() => this.#release(), holdMs) };
      return undefined;
    }
    return frames;
  }

  #release(): void {
    const held = this.#held;
    this.#held = undefined;
    clearTimeout(held?.timer);
    if (held !== undefined) this.#send(held.frames, held.masked);
  }

  #remember(frames: Frame[]): void {
    const { passed } = this.#relay;
    this.#mine.push(...frames);
    passed[this.#name].push(...frames.filter(({ type, flags }) => type === frameTypes.message && flags === 0));
    for (const list of [this.#mine, passed[this.#name]]) list.splice(0, Math.max(0, list.length - kept));
  }

  #send(frames: Frame[], masked: boolean): void {
    const bytes = encodeFrames(frames);
    if (bytes.length <= limits.messageBytes) this.#write(binaryMessage(bytes, masked));
    else for (const frame of frames) this.#write(binaryMessage(encodeFrames([frame]), masked));
  }

  #write(bytes: Buffer): void {
    if (this.#sink.writable) this.#sink.write(bytes);
  }
}

function decoded(payload: Buffer): Frame[] | undefined {
  try {
    return decodeFrames(payload);
  } catch {
    return undefined; // not ours to judge
  }
}

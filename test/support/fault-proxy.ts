/**
 * Our own TCP fault proxy: it stands between a client and a target and does to their bytes what bad networks do.
 * Delays, rates and cuts are seeded, so that a failing run can be repeated. It works on bytes of connections; for
 * lost packets and one-way silence below TCP use `netns.ts`.
 */
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';
import { type Faults, Flow, Link } from './fault-link.ts';
import { seededRandom } from './random.ts';

/** `up` is from the client to the target. */
export type Direction = 'up' | 'down' | 'both';

export interface FaultProxyOptions {
  target: { host?: string; port: number };
  /** Address to listen on, default loopback. */
  host?: string;
  /** Port to listen on, default an ephemeral one. */
  port?: number;
  seed?: number;
}

export interface FaultProxy {
  readonly host: string;
  readonly port: number;
  /** Connections accepted so far, open now, and bytes carried. */
  readonly stats: { accepted: number; open: number; upBytes: number; downBytes: number };
  /** Replaces the faults of a direction; takes effect at once, for open connections too. */
  set(direction: Direction, faults: Faults): void;
  /** Removes all faults, accepts again; what was held back is delivered. */
  heal(): void;
  /** Answers every new connection with a reset until `heal()`. */
  refuse(): void;
  /** Points new connections to another target. */
  retarget(target: { host?: string; port: number }): void;
  /** Cuts every open connection with RST at both ends; bytes under way are lost. Returns how many there were. */
  reset(): number;
  /** Ends one direction of every open connection and leaves the other. */
  halfClose(direction: 'up' | 'down'): void;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a proxy in this process and returns when it listens. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const proxy = new Relay(options);
  await proxy.listen(options.host ?? '127.0.0.1', options.port ?? 0);
  return proxy;
}

interface Connection {
  client: Socket;
  target: Socket;
  flows: { link: Link; flow: Flow }[];
}

class Relay implements FaultProxy {
  readonly stats = { accepted: 0, open: 0, upBytes: 0, downBytes: 0 };
  readonly #up: Link;
  readonly #down: Link;
  readonly #connections = new Set<Connection>();
  readonly #server: Server;
  #target: { host?: string; port: number };
  #refusing = false;

  constructor({ target, seed = 1 }: FaultProxyOptions) {
    this.#up = new Link(seededRandom(seed));
    this.#down = new Link(seededRandom(seed + 1));
    this.#target = target;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#accept(client));
    Object.defineProperties(this.stats, {
      open: { get: () => this.#connections.size },
      upBytes: { get: () => this.#up.carriedBytes },
      downBytes: { get: () => this.#down.carriedBytes },
    });
  }

  async listen(host: string, port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, resolve);
    });
  }

  get host(): string {
    return (this.#server.address() as AddressInfo).address;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  set(direction: Direction, faults: Faults): void {
    if (direction !== 'down') this.#up.faults = { ...faults };
    if (direction !== 'up') this.#down.faults = { ...faults };
    this.#up.pump();
    this.#down.pump();
  }

  heal(): void {
    this.#refusing = false;
    this.set('both', {});
  }

  refuse(): void {
    this.#refusing = true;
  }

  retarget(target: { host?: string; port: number }): void {
    this.#target = target;
  }

  reset(): number {
    const cut = [...this.#connections];
    for (const connection of cut) this.#drop(connection);
    return cut.length;
  }

  halfClose(direction: 'up' | 'down'): void {
    (direction === 'up' ? this.#up : this.#down).endAll();
  }

  async stop(): Promise<void> {
    this.reset();
    this.#up.stop();
    this.#down.stop();
    if (!this.#server.listening) return;
    await new Promise((resolve) => void this.#server.close(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #accept(client: Socket): void {
    this.stats.accepted++;
    client.on('error', ignore);
    if (this.#refusing) {
      client.resetAndDestroy();
      return;
    }
    const target = connect({ host: '127.0.0.1', ...this.#target, allowHalfOpen: true, noDelay: true });
    const connection: Connection = { client, target, flows: [] };
    const drop = (): void => this.#drop(connection);
    this.#connections.add(connection);
    for (const [link, source, sink] of [
      [this.#up, client, target],
      [this.#down, target, client],
    ] as const) {
      const flow = new Flow(source, sink, drop);
      connection.flows.push({ link, flow });
      link.add(flow);
    }
    target.on('error', ignore);
    for (const socket of [client, target]) {
      // An error is a reset (or no target): the other end learns it unless the network swallows it.
      socket.on('close', (failed) => (failed ? this.#failed(connection, socket) : this.#ended(connection)));
    }
  }

  #failed(connection: Connection, socket: Socket): void {
    const link = socket === connection.client ? this.#up : this.#down;
    if (link.faults.blackhole !== true) this.#drop(connection);
  }

  #ended(connection: Connection): void {
    if (connection.client.destroyed && connection.target.destroyed) this.#forget(connection);
  }

  #drop(connection: Connection): void {
    this.#forget(connection);
    connection.client.resetAndDestroy();
    connection.target.resetAndDestroy();
  }

  #forget(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    for (const { link, flow } of connection.flows) link.remove(flow);
  }
}

/** Errors of sockets are handled at their close. */
function ignore(): void {}

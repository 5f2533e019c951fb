/**
 * A real OCI registry (Debian's docker-registry) for private engines, behind a front that counts what is fetched and can
 * be slow, cut layers, or be gone. Engines find it on their own loopback, which they take for insecure by default, so
 * that it needs neither TLS nor an account; its name is the same in every namespace that has a door to it.
 */
import { type IncomingMessage, type ServerResponse, createServer, request } from 'node:http';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type Docker from 'dockerode';
import type { Dockerd } from './dockerd.ts';
import { type Started, start } from './process.ts';
import { tmpDir } from './tmp.ts';
import { until } from './wait.ts';

/** What happens to layers that are fetched. */
export interface LayerFaults {
  /** Speed of each transfer. */
  bytesPerSecond?: number;
  /** Each transfer is cut after so many bytes, `cuts` times in all (default for ever). */
  cutAfterBytes?: number;
  cuts?: number;
}

export interface Registry {
  /** Begins the name of every image in it: `127.0.0.1:PORT`. */
  readonly host: string;
  /** Fetches of blobs (layers and configurations) begun so far, by digest. */
  readonly fetched: ReadonlyMap<string, number>;
  /** Transfers of layers that go on now. */
  readonly transfers: number;
  /** Lets the engine reach it. */
  open(engine: Dockerd): Promise<void>;
  /** Pushes what the engine has under this name of this registry. Returns its digest. */
  push(docker: Docker, image: string): Promise<string>;
  /** Replaces the faults of transfers; those that go on take them too. */
  set(faults: LayerFaults): void;
  /** Refuses every connection until `set`. */
  refuse(): void;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a registry that this engine reaches. */
export async function startRegistry(engine: Dockerd): Promise<Registry> {
  const registry = new FrontedRegistry();
  try {
    await registry.start();
    await registry.open(engine);
    return registry;
  } catch (error) {
    await registry.stop();
    throw error;
  }
}

const blobPath = /^\/v2\/.+\/blobs\/(sha256:[0-9a-f]{64})/;
const chunkBytes = 16 * 1024;

class FrontedRegistry implements Registry {
  readonly fetched = new Map<string, number>();
  transfers = 0;
  readonly #dir = tmpDir('reg');
  readonly #doors: Started[] = [];
  readonly #front = createServer((from, to) => void this.#answer(from, to).catch(() => to.destroy()));
  #server: Started | undefined;
  #port = 0;
  #faults: LayerFaults = {};
  #refuses = false;

  get host(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get #socket(): string {
    return join(this.#dir.path, 'registry.sock');
  }

  async start(): Promise<void> {
    const { path } = this.#dir;
    const config = {
      version: 0.1,
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: join(path, 'data') } },
      http: { net: 'unix', addr: this.#socket, relativeurls: true, secret: 'of a test' },
    };
    // JSON is YAML.
    writeFileSync(join(path, 'config.yml'), JSON.stringify(config));
    const server = start('docker-registry', ['serve', join(path, 'config.yml')], { name: 'docker-registry' });
    this.#server = server;
    await until(async () => (await this.#ask('/v2/')) === 200, {
      what: 'the registry to answer',
      giveUp: () => (server.exit === undefined ? undefined : `it ended:\n${server.output()}`),
    });
    await new Promise<void>((resolve) => this.#front.listen(join(path, 'front.sock'), resolve));
  }

  async open({ netns }: Dockerd): Promise<void> {
    const args = [
      join(import.meta.dirname, 'registry-door.ts'),
      String(this.#port),
      join(this.#dir.path, 'front.sock'),
    ];
    const door = start(process.execPath, args, { name: 'registry-door', netns });
    this.#doors.push(door);
    this.#port = Number((await door.line('ready'))['port']);
  }

  async push(docker: Docker, image: string): Promise<string> {
    const answer = await docker.getImage(image).push({ authconfig: { username: '', password: '' } });
    const said = await new Promise<{ error?: string; aux?: { Digest?: string } }[]>((resolve, reject) => {
      docker.modem.followProgress(answer, (error, lines) => (error === null ? resolve(lines) : reject(error)));
    });
    const digest = said.find((line) => line.aux?.Digest !== undefined)?.aux?.Digest;
    if (digest === undefined) throw new Error(`${image} was not pushed: ${JSON.stringify(said.slice(-3))}`);
    return digest;
  }

  set(faults: LayerFaults): void {
    this.#faults = { ...faults };
    this.#refuses = false;
  }

  refuse(): void {
    this.#refuses = true;
    this.#front.closeAllConnections();
  }

  async stop(): Promise<void> {
    this.#front.close();
    this.#front.closeAllConnections();
    await Promise.all(this.#doors.map((door) => door.kill9()));
    await this.#server?.kill9();
    this.#dir.remove();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #ask(path: string): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      request({ socketPath: this.#socket, path }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      })
        .on('error', reject)
        .end();
    });
  }

  async #answer(from: IncomingMessage, to: ServerResponse): Promise<void> {
    if (this.#refuses) return void from.socket.destroy();
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const { method, url, headers } = from;
      const asked = request({ socketPath: this.#socket, method, path: url, headers }, resolve);
      asked.on('error', reject);
      to.on('close', () => asked.destroy());
      from.pipe(asked);
    });
    to.writeHead(answer.statusCode ?? 502, answer.headers);
    const digest = from.method === 'GET' ? blobPath.exec(from.url ?? '')?.[1] : undefined;
    if (digest === undefined) return void answer.pipe(to);
    this.fetched.set(digest, (this.fetched.get(digest) ?? 0) + 1);
    await this.#transfer(answer, to);
  }

  async #transfer(answer: IncomingMessage, to: ServerResponse): Promise<void> {
    let sentBytes = 0;
    this.transfers++;
    try {
      for await (const whole of answer as AsyncIterable<Buffer>) {
        for (let at = 0; at < whole.length; at += chunkBytes) {
          const chunk = whole.subarray(at, at + chunkBytes);
          if (this.#cuts(sentBytes + chunk.length)) return void to.destroy();
          to.write(chunk);
          sentBytes += chunk.length;
          const { bytesPerSecond } = this.#faults;
          if (bytesPerSecond !== undefined) await sleep((1000 * chunk.length) / bytesPerSecond);
          if (to.destroyed) return;
        }
      }
      to.end();
    } finally {
      this.transfers--;
    }
  }

  #cuts(bytes: number): boolean {
    const { cutAfterBytes, cuts = Number.POSITIVE_INFINITY } = this.#faults;
    if (cutAfterBytes === undefined || bytes <= cutAfterBytes || cuts <= 0) return false;
    this.#faults.cuts = cuts - 1;
    return true;
  }
}

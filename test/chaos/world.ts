/**
 * The world of a chaos run: the real stack with a private engine for each agent, all but the first behind NAT in network
 * namespaces; between every agent and the edge a proxy of bytes and one of frames, one between users and edge, and one
 * between edge and Redis. The first agent's state is on a small disk, and so is the second one's engine.
 */
import { randomBytes } from 'node:crypto';
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Api } from '../../cli/http/api.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { type FrameProxy, startFrameProxy } from '../support/frame-proxy.ts';
import { type NatHost, createNatHost } from '../support/netns.ts';
import { runToEnd } from '../support/process.ts';
import { type Rng, seededRandom } from '../support/random.ts';
import { StackClient } from '../support/stack-client.ts';
import { AgentPart, type RedisPart } from '../support/stack-parts.ts';
import { type Stack, newStack } from '../support/stack.ts';

/** A small disk that can be filled and emptied. */
export class SmallDisk {
  readonly #dir: string;
  constructor(dir: string) {
    this.#dir = dir;
  }

  fill(): void {
    const { bavail, bsize } = statfsSync(this.#dir);
    const block = Buffer.alloc(1024 * 1024);
    for (let left = bavail * bsize; left > 0; left -= block.length) this.#append(block.subarray(0, left));
  }

  empty(): void {
    rmSync(this.#file, { force: true });
  }

  get #file(): string {
    return join(this.#dir, 'chaos-fill');
  }

  #append(bytes: Buffer): void {
    try {
      writeFileSync(this.#file, bytes, { flag: 'a' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }
}

export interface Host {
  name: string;
  part: AgentPart;
  link: FaultProxy;
  frames: FrameProxy;
  nat: NatHost | undefined;
  /** Of the agent's journal, spools and homes. */
  stateDisk: SmallDisk | undefined;
  /** Of the engine's images and containers. */
  engineDisk: SmallDisk | undefined;
  /** Its disk was full once: output may have announced gaps from then on. */
  mayHaveGaps: boolean;
  /** Power losses so far: sessions that were on it have ended. */
  powerLosses: number;
}

const stateBytes = 160 * 1024 ** 2;
const engineBytes = 192 * 1024 ** 2;

export class World {
  readonly stack: Stack;
  readonly hosts: Host[] = [];
  /** For the schedule and the targets. */
  readonly random: Rng;
  readonly seed: number;
  /** Between edge and Redis. */
  redisLink!: FaultProxy;
  /** Between users and edge. */
  userLink!: FaultProxy;
  /** Speaks to the edge past every proxy: the judge's eyes. */
  readonly client: StackClient;
  /** What users use: through their link. */
  users!: StackClient;
  api!: Api;
  readonly #bootstrap = `canary-bootstrap-${randomBytes(12).toString('hex')}`;

  constructor(seed: number) {
    this.seed = seed;
    this.random = seededRandom(seed);
    this.stack = newStack({ redis: 'server', edgeEnv: { CAUSEWAY_BOOTSTRAP: this.#bootstrap } });
    this.client = this.stack.client;
  }

  get redis(): RedisPart {
    return this.stack.redis!;
  }

  /** Starts everything and returns when each agent is connected. */
  async start(agents: number): Promise<void> {
    const { stack } = this;
    const bindings = await this.redis.start();
    const redisPort = Number(new URL(bindings['UPSTASH_REDIS_REST_URL']!).port);
    this.redisLink = await startFaultProxy({ target: { port: redisPort }, seed: this.seed });
    const redisUrl = `http://127.0.0.1:${this.redisLink.port}`;
    await stack.edge.start({ ...bindings, UPSTASH_REDIS_REST_URL: redisUrl });
    await this.client.bootstrap(this.#bootstrap);
    this.userLink = await startFaultProxy({ target: { port: this.edgePort }, seed: this.seed + 1 });
    const url = `http://127.0.0.1:${this.userLink.port}`;
    this.users = new StackClient(() => url, this.client.token);
    this.api = new Api({ url, token: this.client.token! });
    await Promise.all(Array.from({ length: agents }, async (_, number) => this.#addHost(number)));
    this.hosts.sort((a, b) => a.name.localeCompare(b.name));
    stack.agents.push(...this.hosts.map(({ part }) => part));
    await Promise.all(this.hosts.map(async ({ part }) => part.untilConnected()));
  }

  get edgePort(): number {
    return Number(new URL(this.stack.url).port);
  }

  async #addHost(number: number): Promise<void> {
    const nat = number === 0 ? undefined : await createNatHost();
    const part = new AgentPart({
      dir: this.stack.dir,
      number,
      env: { CAUSEWAY_WARM_CONTAINERS: '2' },
      ...(nat === undefined ? {} : { netns: nat.netns }),
      ...(number === 1 ? { engineDataBytes: engineBytes } : {}),
    });
    const frames = await startFrameProxy(() => this.edgePort, this.seed + number);
    const host = nat?.outsideAddress ?? '127.0.0.1';
    const link = await startFaultProxy({ target: { port: frames.port }, host, seed: this.seed + number });
    this.hosts.push({
      name: part.name,
      part,
      link,
      frames,
      nat,
      stateDisk: number === 0 ? new SmallDisk(part.state) : undefined,
      engineDisk: undefined,
      mayHaveGaps: false,
      powerLosses: 0,
    });
    if (number === 0)
      await runToEnd('mount', ['-t', 'tmpfs', '-o', `size=${stateBytes},mode=700`, 'tmpfs', part.state]);
    await part.join(`http://${host}:${link.port}`, await this.client.newJoinToken());
    if (number === 1) this.hosts.find((each) => each.part === part)!.engineDisk = new SmallDisk(part.engine.dataRoot);
  }

  async stop(): Promise<void> {
    for (const host of this.hosts) {
      await host.part.stop();
      await host.link.stop();
      await host.frames.stop();
      if (host.stateDisk !== undefined) await runToEnd('umount', ['--lazy', host.part.state]);
      await host.nat?.stop();
    }
    await this.redisLink?.stop();
    await this.userLink?.stop();
    await this.stack.stop();
  }
}

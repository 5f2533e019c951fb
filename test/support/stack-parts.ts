/** The parts of the stack: each is one program with its own state, started, killed and started again as the same one. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Dockerd, startDockerd } from './dockerd.ts';
import { type FailpointServer, startFailpointServer } from './failpoint-server.ts';
import { type Fetch, fetchBy } from '../../wire/http.ts';
import { Way } from '../../wire/way.ts';
import { freePort } from './free-port.ts';
import { importBusybox } from './images.ts';
import { type Started, isMessage, start } from './process.ts';
import { until } from './wait.ts';

const root = join(import.meta.dirname, '../..');

/** The edge: a Node process that keeps workerd. */
export class EdgePart {
  readonly state: string;
  readonly #host: string;
  readonly #env: Record<string, string>;
  readonly #logFile: string;
  readonly #tlsFlags: string[];
  readonly #checkout: string;
  /** Pin of its key, over TLS. */
  pin: string | undefined;
  /** Reaches it, whatever it speaks. */
  fetch: Fetch = fetchBy(new Way({}));
  #started: Started | undefined;
  #workerdPid = Number.NaN;
  #url: string | undefined;
  #extraEnv: Record<string, string> = {};
  #failpoint: FailpointServer | undefined;

  constructor({
    dir,
    host,
    env,
    tls = false,
    checkout = root,
  }: {
    dir: string;
    host: string;
    env: Record<string, string>;
    tls?: boolean;
    /** Where its program is, if not here. */
    checkout?: string | undefined;
  }) {
    this.#checkout = checkout;
    this.state = join(dir, 'edge');
    this.#tlsFlags = tls ? ['--tls-dir', join(dir, 'tls')] : [];
    this.#host = host;
    this.#env = env;
    this.#logFile = join(dir, 'logs', 'edge.log');
  }

  /** The same over restarts. */
  get url(): string {
    if (this.#url === undefined) throw new Error('the edge was not started yet');
    return this.#url;
  }

  get process(): Started {
    if (this.#started === undefined) throw new Error('the edge was not started yet');
    return this.#started;
  }

  /** Kept: of many lines the first are forgotten. */
  get workerdPid(): number {
    const line = this.process.lines.findLast(({ msg }) => msg === 'ready' || msg === 'workerd restarted');
    if (line !== undefined) this.#workerdPid = Number(line['workerdPid']);
    return this.#workerdPid;
  }

  /** Starts it, on the port it had before; `extraEnv` is kept for later restarts, `onceEnv` is not. */
  async start(extraEnv = this.#extraEnv, onceEnv: Record<string, string> = {}): Promise<void> {
    this.#extraEnv = extraEnv;
    const port = this.#url === undefined ? await freePort(this.#host) : new URL(this.#url).port;
    const address = ['--host', this.#host, '--port', String(port)];
    const args = ['edge/serve/index.ts', '--state', this.state, ...address, ...this.#tlsFlags];
    this.#started = start(process.execPath, args, {
      name: 'edge',
      cwd: this.#checkout,
      env: { ...this.#env, ...extraEnv, ...this.#failpoint?.env, ...onceEnv },
      logFile: this.#logFile,
    });
    const ready = await this.#started.line('ready', { timeoutMs: 60_000 });
    this.#url = String(ready['url']);
    this.#workerdPid = Number(ready['workerdPid']);
    this.pin = (ready['tls'] as { pin: string } | undefined)?.pin;
    this.fetch = fetchBy(new Way({}, this.pin === undefined ? undefined : [this.pin]));
  }

  /** Arms a failpoint for the next start: workerd is killed there, once. */
  async arm(failpoint: string): Promise<void> {
    this.#failpoint = await startFailpointServer(failpoint, () => this.killWorkerd9());
  }

  /** How often the armed failpoint was reached. */
  get failpointHits(): number {
    return this.#failpoint?.hits() ?? 0;
  }

  /** SIGKILL to the Node process; workerd dies with it. */
  async kill9(): Promise<void> {
    await this.process.kill9();
  }

  /** SIGKILL to workerd alone; its keeper starts it again by itself. */
  killWorkerd9(): void {
    process.kill(this.workerdPid, 'SIGKILL');
  }

  async restart(onceEnv?: Record<string, string>): Promise<void> {
    await this.stop();
    await this.start(this.#extraEnv, onceEnv);
  }

  /** True as soon as it answers again. */
  async isHealthy(): Promise<boolean> {
    return this.fetch(`${this.url}/healthz`, { signal: AbortSignal.timeout(2000) }).then(
      (response) => response.ok,
      () => false,
    );
  }

  async untilHealthy(): Promise<void> {
    await until(() => this.isHealthy(), { what: 'the edge to answer /healthz' });
  }

  async stop(): Promise<void> {
    await this.#started?.stop(15_000);
    this.#failpoint?.stop();
  }
}

/** Redis behind its REST gateway: a private redis-server, or the store in memory. */
export class RedisPart {
  readonly #mode: 'memory' | 'server';
  readonly #dir: string;
  readonly #logFile: string;
  readonly #token = randomBytes(24).toString('hex');
  #started: Started | undefined;
  #url: string | undefined;

  constructor(dir: string, mode: 'memory' | 'server') {
    this.#mode = mode;
    this.#dir = join(dir, 'redis');
    this.#logFile = join(dir, 'logs', 'redis.log');
  }

  /** Of its gateway; the same over restarts. */
  get url(): string {
    if (this.#url === undefined) throw new Error('redis was not started yet');
    return this.#url;
  }

  get process(): Started {
    if (this.#started === undefined) throw new Error('redis was not started yet');
    return this.#started;
  }

  /** Starts the gateway, on the port it had before. Returns the bindings of the edge. */
  async start(): Promise<Record<string, string>> {
    const port = this.#url === undefined ? await freePort() : new URL(this.#url).port;
    const flags = ['--mode', this.#mode, '--dir', this.#dir, '--port', String(port), '--dies-with-parent'];
    const args = ['edge/serve/redis/index.ts', ...flags];
    this.#started = start(process.execPath, args, {
      name: 'redis',
      cwd: root,
      env: { CAUSEWAY_REDIS_TOKEN: this.#token },
      logFile: this.#logFile,
    });
    this.#url = String((await this.#started.line('ready'))['url']);
    return { UPSTASH_REDIS_REST_URL: this.#url, UPSTASH_REDIS_REST_TOKEN: this.#token };
  }

  /** SIGKILL to the redis-server alone; its keeper starts it again by itself. */
  killServer9(): void {
    process.kill(this.serverPid, 'SIGKILL');
  }

  /** Process id of the redis-server that runs now. */
  get serverPid(): number {
    const line = this.process.lines.findLast(({ msg }) => msg === 'ready' || msg === 'redis restarted');
    return Number(line?.['redisPid'] ?? line?.['pid']);
  }

  /** Sends one command; its answer. */
  async command(...words: string[]): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.#token}` };
    const signal = AbortSignal.timeout(5000);
    const response = await fetch(this.url, { method: 'POST', headers, body: JSON.stringify(words), signal });
    return ((await response.json()) as { result?: unknown }).result;
  }

  /** True when a command is answered. */
  async isHealthy(): Promise<boolean> {
    const headers = { authorization: `Bearer ${this.#token}` };
    const answer = fetch(`${this.#url}/ping`, { headers, signal: AbortSignal.timeout(2000) });
    return answer.then(
      (response) => response.ok,
      () => false,
    );
  }

  async untilHealthy(): Promise<void> {
    await until(async () => this.isHealthy(), { what: 'redis to answer' });
  }

  async stop(): Promise<void> {
    await this.#started?.stop();
  }
}

/** An agent with its private engine. */
export class AgentPart {
  /** True when somebody starts it again whenever it ends. */
  kept = false;
  readonly state: string;
  readonly #dir: string;
  readonly #name: string;
  readonly #env: Record<string, string>;
  readonly #netns: string | undefined;
  readonly #engineDataBytes: number | undefined;
  readonly #gvisor: boolean;
  readonly #checkout: string;
  #engine: Dockerd | undefined;
  #started: Started | undefined;
  #url = '';
  #token = '';
  #pinFlags: string[] = [];

  /** `engineDataBytes`: the engine's data root is on a disk of that size. `gvisor`: containers run under it. `checkout`: where its program is. */
  constructor(options: {
    dir: string;
    number: number;
    env: Record<string, string>;
    netns?: string;
    engineDataBytes?: number;
    gvisor?: boolean;
    checkout?: string | undefined;
  }) {
    this.#checkout = options.checkout ?? root;
    this.#name = `agent-${options.number}`;
    this.#dir = options.dir;
    this.#netns = options.netns;
    this.#engineDataBytes = options.engineDataBytes;
    this.#gvisor = options.gvisor ?? false;
    this.#env = options.env;
    this.state = join(options.dir, this.#name);
    mkdirSync(this.state, { mode: 0o700 });
  }

  get engine(): Dockerd {
    if (this.#engine === undefined) throw new Error(`${this.#name} has no engine yet`);
    return this.#engine;
  }

  get name(): string {
    return this.#name;
  }

  get process(): Started {
    if (this.#started === undefined) throw new Error(`${this.#name} was not started yet`);
    return this.#started;
  }

  /** Known once it has enrolled. */
  get agentId(): string {
    return (JSON.parse(readFileSync(join(this.state, 'identity.json'), 'utf8')) as { agentId: string }).agentId;
  }

  /** Starts the engine with the busybox image and the daemon, which enrols with the token. */
  async join(url: string, token: string, pin?: string): Promise<void> {
    this.#pinFlags = pin === undefined ? [] : ['--pin', pin];
    this.#url = url;
    this.#token = token;
    this.#engine = await startDockerd({
      gvisor: this.#gvisor,
      ...(this.#netns === undefined ? {} : { netns: this.#netns }),
      ...(this.#engineDataBytes === undefined ? {} : { dataBytes: this.#engineDataBytes }),
    });
    await importBusybox(this.#engine.docker);
    this.#spawn();
  }

  /** Starts the daemon again on its state; `onceEnv` is for this start alone. */
  async start(onceEnv: Record<string, string> = {}): Promise<void> {
    this.#spawn(onceEnv);
    await this.untilConnected();
  }

  /** Starts the daemon without waiting for its connection: it may be about to die at a failpoint. */
  spawnAgain(): void {
    this.#spawn();
  }

  /** Waits for the connection, also of a process that is started meanwhile. */
  async untilConnected(): Promise<void> {
    await until(() => this.process.lines.some((line) => isMessage(line, 'connected')), {
      what: `${this.#name} to connect`,
      timeoutMs: 60_000,
      giveUp: () => (this.kept || this.process.exit === undefined ? undefined : `it ended:\n${this.process.output()}`),
    });
  }

  async kill9(): Promise<void> {
    await this.process.kill9();
  }

  async restart(onceEnv?: Record<string, string>): Promise<void> {
    await this.process.stop();
    await this.start(onceEnv);
  }

  async stop(): Promise<void> {
    await this.#started?.stop();
    await this.#engine?.stop();
  }

  #spawn(onceEnv: Record<string, string> = {}): void {
    if (!existsSync(this.state)) throw new Error(`the state of ${this.#name} is gone`);
    const argv = ['agent-daemon/index.ts', '--url', this.#url, '--state', this.state, '--token', this.#token];
    argv.push(...this.#pinFlags);
    this.#started = start(process.execPath, argv, {
      name: this.#name,
      cwd: this.#checkout,
      // Tests count containers: those that are started in advance are for who asks for them.
      env: {
        DOCKER_HOST: this.engine.dockerHost,
        CAUSEWAY_AGENT_NAME: this.#name,
        CAUSEWAY_WARM_CONTAINERS: '0',
        ...this.#env,
        ...onceEnv,
      },
      logFile: join(this.#dir, 'logs', `${this.#name}.log`),
      ...(this.#netns === undefined ? {} : { netns: this.#netns }),
    });
  }
}

/**
 * The supervisor of an instance: brings its parts up in order, keeps them up, writes down how they are, and takes them down.
 * Containers are not its own: they outlive it, and the agent adopts them when it is back.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { CliFailure } from '../exit.ts';
import { type Admin, ensureAdmin, signIn } from './admin.ts';
import { installPackages, mayInstall } from './apt.ts';
import { type EdgeAddress, fetchEdge } from './edge-api.ts';
import { type Engine, requireEngine } from './engine-start.ts';
import { watchEngine } from './engine-watch.ts';
import { writeJson } from './files.ts';
import { type Home, homePaths } from './home.ts';
import { bringImage } from './image-job.ts';
import { LogFile } from './log-file.ts';
import { Part, type PartLine, type PartSpec } from './part.ts';
import { agentPart, edgePart, findAgentId, type RedisAddress, redisPart, root, ServedTls } from './parts.ts';
import type { Report, Say } from './report.ts';
import type { Settings } from './settings.ts';
import { type ImageState, type InstanceState, isReady } from './state.ts';

/** How long the agent of this machine may take to connect before `up` says that it did not. */
const CONNECT_MS = 60_000;
/** Its end when what it is told can not be: the same again would be no better (`exitCodes` of `agent-daemon/daemon.ts`). */
const USAGE_EXIT = 'exit 64';

export class Supervisor {
  readonly #home: Home;
  readonly #settings: Settings;
  readonly #report: Report;
  readonly #onImage: (image: ImageState) => void;
  readonly #parts: Part[] = [];
  readonly #logs: LogFile[] = [];
  readonly #startedAtMs = Date.now();
  #phase: InstanceState['phase'] = 'starting';
  #engine: Engine | undefined;
  #redis: InstanceState['redis'];
  #agent: InstanceState['agent'];
  #image: ImageState | undefined;
  #tls: InstanceState['tls'];
  #stopWatching = (): void => {};

  /** `onImage` is told how far the image is. */
  constructor(home: Home, settings: Settings, report: Report, onImage: (image: ImageState) => void) {
    this.#onImage = onImage;
    this.#home = home;
    this.#settings = settings;
    this.#report = report;
  }

  get state(): InstanceState {
    return {
      pid: process.pid,
      startedAtMs: this.#startedAtMs,
      phase: this.#phase,
      url: this.#settings.url,
      ...(this.#settings.publicUrl === undefined ? {} : { publicUrl: this.#settings.publicUrl }),
      ...(this.#tls ? { tls: this.#tls } : {}),
      instance: this.#home.identity.id,
      ...(this.#engine ? { engine: this.#engine } : {}),
      ...(this.#redis ? { redis: this.#redis } : {}),
      ...(this.#agent ? { agent: this.#agent } : {}),
      ...(this.#image ? { image: this.#image } : {}),
      parts: this.#parts.map((part) => part.view),
      versions: versions(),
    };
  }

  get isReady(): boolean {
    return isReady(this.state);
  }

  /** Brings everything up. Throws CliFailure when something is missing that it may not bring. */
  async start(): Promise<void> {
    const engine = await this.#startEngine();
    const redis = await this.#startRedis();
    await this.#startEdge(redis);
    const admin = await this.#makeAdmin();
    void this.#bringImage(engine);
    await this.#startAgent(engine, admin);
    this.#phase = 'running';
    this.#stopWatching = watchEngine({
      engine,
      logFile: this.#home.at('log', 'dockerd.log'),
      marker: this.#home.at('run', 'dockerd.json'),
      onRestart: () => this.#report.warn('dockerd had ended and was started again; containers went on'),
    });
    this.#changed();
  }

  /** Stops every part, the last first. Containers go on. */
  async stop(): Promise<void> {
    this.#phase = 'stopping';
    this.#stopWatching();
    this.#changed();
    for (const part of this.#parts.toReversed()) await part.stop();
    this.#changed();
  }

  /** Ends every part at once. */
  kill(): void {
    for (const part of this.#parts) part.kill();
  }

  /** The image that everybody starts with; it comes beside everything else. */
  #bringImage(engine: Engine): Promise<ImageState> {
    return bringImage({
      socket: engine.socket,
      scratch: this.#home.at('build'),
      pullFrom: this.#settings.pythonImage,
      log: this.#openLog('image'),
      onChange: (image) => {
        this.#image = image;
        this.#changed();
        this.#onImage(image);
      },
    });
  }

  async #startEngine(): Promise<Engine> {
    return this.#report.step('engine', async (say) => {
      const engine = await requireEngine({
        configured: this.#settings.engineSocket,
        logFile: this.#home.at('log', 'dockerd.log'),
        marker: this.#home.at('run', 'dockerd.json'),
        say,
      });
      this.#engine = engine;
      return { line: `Docker ${engine.version} at ${engine.socket}`, value: engine };
    });
  }

  async #startRedis(): Promise<RedisAddress> {
    const { upstash } = this.#settings;
    return this.#report.step('redis', async (say) => {
      if (upstash) {
        this.#redis = { mode: 'upstash' };
        return { line: `Upstash at ${new URL(upstash.url).host}`, value: upstash };
      }
      const mode = await this.#findRedisMode(say);
      const ready = await this.#startPart(redisPart(this.#home, mode));
      this.#redis = { mode };
      const value = { url: String(ready['url']), token: this.#home.secrets.redis };
      return {
        line: mode === 'server' ? 'a private redis-server' : 'IN MEMORY: events and reports are lost at a restart',
        value,
      };
    });
  }

  async #findRedisMode(say: Say): Promise<'server' | 'memory'> {
    if (existsSync('/usr/bin/redis-server')) return 'server';
    if (!mayInstall()) return 'memory';
    say('none found: installing redis-server');
    try {
      await installPackages(['redis-server']);
      return 'server';
    } catch (error) {
      this.#report.warn(`redis-server can not be installed: ${error instanceof Error ? error.message : String(error)}`);
      return 'memory';
    }
  }

  async #startEdge(redis: RedisAddress): Promise<void> {
    await this.#report.step('edge', async (say) => {
      await requireFreePort(this.#settings);
      say('starting workerd');
      const onLine = (line: PartLine) => this.#hearEdge(line);
      await this.#startPart(edgePart(this.#home, this.#settings, redis, onLine));
      await waitForHealth(this.#edge);
      const how = this.#tls === undefined ? '' : ', TLS';
      return { line: `control plane at ${this.#settings.url}${how}`, value: undefined };
    });
    const { host, isLoopback } = this.#settings;
    if (!isLoopback && this.#tls === undefined)
      this.#report.warn(
        `${host} can be reached from elsewhere WITHOUT TLS: tokens, commands and outputs can be read and changed on ` +
          'the way. Put a TLS proxy in front of it, or take CAUSEWAY_TLS=off away',
      );
  }

  /** It tells at each start, and when it serves another certificate; one of another key has to be made known on this machine. */
  #hearEdge({ tls }: PartLine): void {
    if (tls === undefined) return;
    const former = this.#tls;
    this.#tls = ServedTls.parse(tls);
    this.#changed();
    if (former === undefined || former.pin === this.#tls.pin || this.#phase !== 'running') return;
    void this.#followKey().catch((error: unknown) => this.#report.warn(`another key is served: ${String(error)}`));
  }

  async #followKey(): Promise<void> {
    await waitForHealth(this.#edge);
    const { admin, isNew } = await this.#ensureAdmin();
    if (isNew) signIn(admin);
    const agent = this.#parts.find((part) => part.view.name === 'agent');
    await agent?.stop();
    if (this.#phase === 'running') await agent?.start();
  }

  #ensureAdmin(): ReturnType<typeof ensureAdmin> {
    const file = homePaths(this.#home.path).admin;
    return ensureAdmin({ file, ...this.#edge, bootstrapSecret: this.#home.secrets.bootstrap });
  }

  /** Where our own edge is, and by what it is known. */
  get #edge(): EdgeAddress {
    return { url: this.#settings.url, pin: this.#tls?.pin };
  }

  async #makeAdmin(): Promise<Admin> {
    return this.#report.step('accounts', async () => {
      const { admin, isNew, isStale } = await this.#ensureAdmin();
      if (isNew) signIn(admin);
      const file = homePaths(this.#home.path).admin;
      if (isStale)
        return { line: `neither token nor password in ${file} are good any more: causeway login`, value: admin };
      return { line: `administrator ${admin.email}, signed in on this machine`, value: admin };
    });
  }

  async #startAgent(engine: Engine, admin: Admin): Promise<void> {
    const { agentName } = this.#home.identity;
    await this.#report.step('agent', async (say) => {
      say('joining this machine');
      const onLine = (line: PartLine) => this.#hearAgent(line);
      const part = this.#addPart(agentPart({ home: this.#home, edge: () => this.#edge, engine, admin, onLine }));
      part.start().catch(() => undefined); // it is tried again; how it ended is in its state
      for (const until = Date.now() + CONNECT_MS; Date.now() < until && this.#phase === 'starting'; await sleep(50)) {
        if (this.#agent?.connected) return { line: `${agentName} is connected`, value: undefined };
        const { lastExit } = part.view;
        if (lastExit?.how === USAGE_EXIT) break;
        if (lastExit !== undefined) say(`joining this machine (the agent ended: ${lastExit.said ?? lastExit.how})`);
      }
      if (this.#phase !== 'starting') await new Promise(() => {}); // a signal came: stopping ends the process
      const why = part.view.lastExit?.said ?? part.view.lastExit?.how ?? `read ${this.#home.at('log', 'agent.log')}`;
      return { line: `${agentName} is NOT connected, and is tried again: ${why}`, value: undefined };
    });
  }

  #hearAgent({ msg }: PartLine): void {
    const id = findAgentId(this.#home);
    if (id === undefined) return;
    if (msg === 'connected') this.#agent = { id, connected: true };
    else if (msg === 'the control socket closed' || msg === 'the edge was not reached')
      this.#agent = { id, connected: false };
    else return;
    this.#changed();
  }

  #startPart(spec: PartSpec): Promise<PartLine> {
    return this.#addPart(spec).start();
  }

  #addPart(spec: PartSpec): Part {
    const part = new Part(spec, this.#openLog(spec.name), () => this.#changed());
    this.#parts.push(part);
    return part;
  }

  #openLog(name: string): LogFile {
    const log = new LogFile(this.#home.at('log', `${name}.log`));
    this.#logs.push(log);
    return log;
  }

  #changed(): void {
    const agentRuns = this.#parts.some((part) => part.view.name === 'agent' && part.view.state === 'running');
    if (this.#agent && !agentRuns) this.#agent = { ...this.#agent, connected: false };
    try {
      writeJson(homePaths(this.#home.path).state, this.state);
    } catch {
      // a full disk must not end what runs: `status` is old until there is room again
    }
  }
}

/** Says who has the port before workerd stumbles over it. A former workerd that is about to end gets a moment. */
async function requireFreePort({ host, port }: Settings): Promise<void> {
  for (const until = Date.now() + 5_000; ;) {
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      const server = createServer();
      server.once('error', resolve);
      server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
    });
    if (!error) return;
    if (error.code !== 'EADDRINUSE')
      throw new CliFailure(`HOST=${host} PORT=${port} can not be used: ${error.message}`);
    if (Date.now() > until)
      throw new CliFailure(`port ${port} is in use by another program`, { hint: `PORT=${port + 1} causeway up` });
    await sleep(200);
  }
}

async function waitForHealth(edge: EdgeAddress): Promise<void> {
  const [url, fetch] = [edge.url, fetchEdge(edge)];
  for (const until = Date.now() + 30_000; ;) {
    const answer = await fetch(new URL('/healthz', url), { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
    await answer?.arrayBuffer().catch(() => undefined);
    if (answer?.ok) return;
    if (Date.now() > until)
      throw new CliFailure(`the edge started, but ${url}/healthz does not answer`, { hint: 'causeway doctor' });
    await sleep(100);
  }
}

function versions(): InstanceState['versions'] {
  const read = (file: string) => (JSON.parse(readFileSync(join(root, file), 'utf8')) as { version: string }).version;
  return {
    causeway: read('package.json'),
    node: process.versions.node,
    workerd: read('node_modules/workerd/package.json'),
  };
}

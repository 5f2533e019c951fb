/**
 * The real stack as processes, for end-to-end tests and benches: edge on workerd, agents, each with a private engine.
 * Every part keeps its state in the stack's folder, so that it can be killed and started again as the same one; every
 * line that a part prints is kept and can be searched for secrets.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { type FrameProxy, startFrameProxy } from './frame-proxy.ts';
import { StackClient } from './stack-client.ts';
import { AgentPart, EdgePart, RedisPart } from './stack-parts.ts';
import type { NatHost } from './netns.ts';
import { type TmpDir, tmpDir } from './tmp.ts';

export interface StackOptions {
  /** How many agents, each with an engine of its own; default 1. */
  agents?: number;
  /** Redis behind the edge; default none. */
  redis?: 'memory' | 'server';
  /** Places agents and engines on this host behind NAT; the edge then listens on the host's outside address. */
  natHost?: NatHost;
  /** Puts a fault proxy between agents and edge: `stack.agentProxy`. */
  agentProxy?: boolean;
  /** Puts a proxy of single frames between agents and edge, seeded with this: `stack.frames`. */
  frameProxy?: number;
  /** Containers run under gVisor (Debian's `runsc`). */
  gvisor?: boolean;
  /** The edge serves TLS with a certificate of its own; agents and client pin it. */
  tls?: boolean;
  /** Where the programs of the edge and of the agents are, if not here. */
  edgeCheckout?: string;
  agentCheckout?: string;
  /** Added to the environment of the edge, and of the agents. */
  edgeEnv?: Record<string, string>;
  agentEnv?: Record<string, string>;
}

/** Starts everything and returns when every agent is connected. */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const stack = newStack(options);
  try {
    await stack.startEdge();
    const agents = await Promise.all(Array.from({ length: options.agents ?? 1 }, async () => stack.newAgent()));
    await Promise.all(agents.map(async (agent) => agent.untilConnected()));
    return stack;
  } catch (error) {
    const said = stack.output();
    await stack.stop();
    throw new Error(`the stack did not start: ${(error as Error).message}\n${said}`, { cause: error });
  }
}

/** A stack of which nothing runs yet, for tests that arm failpoints first. */
export function newStack(options: StackOptions = {}): Stack {
  return new Stack(tmpDir('stk'), options);
}

export class Stack {
  /** Folder of everything of the stack. */
  readonly dir: string;
  readonly edge: EdgePart;
  readonly agents: AgentPart[] = [];
  readonly redis: RedisPart | undefined;
  agentProxy: FaultProxy | undefined;
  frames: FrameProxy | undefined;
  /** Signed in as the first administrator. */
  readonly client: StackClient;
  readonly #options: StackOptions;
  readonly #logs: string;
  readonly #folder: TmpDir;
  readonly #bootstrap = `canary-bootstrap-${randomBytes(12).toString('hex')}`;

  constructor(folder: TmpDir, options: StackOptions) {
    this.dir = folder.path;
    this.#options = options;
    this.#folder = folder;
    this.#logs = join(this.dir, 'logs');
    mkdirSync(this.#logs);
    this.redis = options.redis === undefined ? undefined : new RedisPart(this.dir, options.redis);
    this.edge = new EdgePart({
      dir: this.dir,
      host: options.natHost?.outsideAddress ?? '127.0.0.1',
      tls: options.tls ?? false,
      checkout: options.edgeCheckout,
      env: { CAUSEWAY_LAYOUT: 'machine', CAUSEWAY_BOOTSTRAP: this.#bootstrap, ...options.edgeEnv },
    });
    this.client = new StackClient(
      () => this.edge.url,
      undefined,
      () => this.edge.fetch,
    );
  }

  get url(): string {
    return this.edge.url;
  }

  /** Starts the edge and signs the client in as its first administrator. */
  async startEdge(): Promise<void> {
    await this.edge.start(await this.redis?.start());
    await this.client.bootstrap(this.#bootstrap);
  }

  /** Starts another agent with an engine of its own; it may not be connected yet. */
  async newAgent(): Promise<AgentPart> {
    const { natHost, agentEnv = {}, gvisor = false } = this.#options;
    const agent = new AgentPart({
      dir: this.dir,
      number: this.agents.length,
      env: agentEnv,
      gvisor,
      checkout: this.#options.agentCheckout,
      ...(natHost === undefined ? {} : { netns: natHost.netns }),
    });
    this.agents.push(agent);
    await agent.join(await this.#urlForAgents(), await this.client.newJoinToken(), this.edge.pin);
    return agent;
  }

  async #urlForAgents(): Promise<string> {
    const { frameProxy } = this.#options;
    if (frameProxy !== undefined) {
      this.frames ??= await startFrameProxy(() => Number(new URL(this.url).port), frameProxy);
      return `http://127.0.0.1:${this.frames.port}`;
    }
    if (this.#options.agentProxy !== true) return this.url;
    this.agentProxy ??= await startFaultProxy({ target: { port: Number(new URL(this.url).port) } });
    return `http://127.0.0.1:${this.agentProxy.port}`;
  }

  /** Lines of any log that hold one of the secrets, as `file: line`; tests expect none. */
  leaks(secrets: readonly string[]): string[] {
    return this.#logFiles().flatMap((file) =>
      readFileSync(join(this.#logs, file), 'utf8')
        .split('\n')
        .filter((line) => secrets.some((secret) => line.includes(secret)))
        .map((line) => `${file}: ${line}`),
    );
  }

  /** The end of everything that all parts printed, for messages. */
  output(): string {
    return this.#logFiles()
      .map((file) => `${file}:\n${readFileSync(join(this.#logs, file), 'utf8').slice(-8000)}`)
      .join('\n');
  }

  #logFiles(): string[] {
    return readdirSync(this.#logs);
  }

  async stop(): Promise<void> {
    await Promise.all(this.agents.map((agent) => agent.stop()));
    await this.agentProxy?.stop();
    await this.frames?.stop();
    await this.edge.stop();
    await this.redis?.stop();
    this.#folder.remove();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

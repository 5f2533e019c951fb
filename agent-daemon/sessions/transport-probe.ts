/**
 * Finds out once, at the agent's start, whether a container of this host can reach a socket of the agent's in a mounted
 * directory: some runtimes and SELinux hosts do not let it. Where it can not, new containers are talked to over stdin and
 * stdout. What the engine did not answer decides nothing: then it is the socket, and asked again at the next start.
 */
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { z } from 'zod';
import type { Clock, Log, Random, Timers } from '../../schema/ports.ts';
import type { Disk } from '../disk.ts';
import { InitLink } from '../init/link.ts';
import type { InitDoor, InitTransport, Soon } from '../init/link-options.ts';
import { probeOptions } from '../runtime/docker-spec.ts';
import type { ContainerRuntime, EngineInfo } from '../runtime/runtime.ts';
import { pause } from '../deadline.ts';

export interface TransportProbeOptions {
  runtime: ContainerRuntime;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  disk: Disk;
  door: InitDoor;
  soon: Soon;
  agentId: string;
  /** Directory of the agent's state, and of the directories with sockets. */
  stateDir: string;
  runRoot: string;
  initPath: string;
  /** What the host's owner has set; `auto` looks. */
  configured: InitTransport | 'auto';
  /** Facts of the engine; undefined while it is silent. */
  engine(): EngineInfo | undefined;
}

/** A good answer is kept until the engine or the kernel changes; a bad one is looked at again at each start. */
const Known = z.object({ transport: z.literal('socket'), host: z.string() });
const image = { name: 'causeway-probe', tag: 'empty' } as const;
/** From the start of the container to the init's first word. */
const reachMs = 8_000;

export class TransportProbe {
  readonly #options: TransportProbeOptions;
  #found: InitTransport | undefined;
  #looking: Promise<InitTransport> | undefined;

  constructor(options: TransportProbeOptions) {
    this.#options = options;
  }

  /** As far as it is known now. */
  get found(): InitTransport | undefined {
    return this.#found;
  }

  /** How to reach the inits of new containers. Never rejects. */
  transport(): Promise<InitTransport> {
    this.#looking ??= this.#look();
    return this.#looking;
  }

  async #look(): Promise<InitTransport> {
    const { configured, log } = this.#options;
    try {
      this.#found = configured === 'auto' ? await this.#ask() : configured;
    } catch (error) {
      log.warn('whether containers reach the agent could not be tried', { error: String(error) });
      this.#looking = undefined;
      return 'socket';
    }
    return this.#found;
  }

  async #ask(): Promise<InitTransport> {
    const { log } = this.#options;
    const info = this.#options.engine();
    if (info === undefined) throw new Error('the engine is silent');
    const host = `${info.description} ${info.kernel}`;
    if (await this.#isKnown(host)) return 'socket';
    const transport = (await this.#reachesSocket()) ? 'socket' : 'stdio';
    if (transport === 'socket') await this.#keep(host);
    else log.warn('containers can not reach a socket of the agent: their stdin and stdout are used instead');
    return transport;
  }

  async #isKnown(host: string): Promise<boolean> {
    try {
      return Known.parse(JSON.parse((await this.#options.disk.readFile(this.#path)).toString())).host === host;
    } catch {
      return false;
    }
  }

  async #keep(host: string): Promise<void> {
    const { disk } = this.#options;
    await disk.writeFile(`${this.#path}.new`, JSON.stringify({ transport: 'socket', host }), { mode: 0o600 });
    await disk.rename(`${this.#path}.new`, this.#path);
  }

  get #path(): string {
    return join(this.#options.stateDir, 'transport.json');
  }

  /** Runs an init in an empty container, as restricted as those of sessions, and waits for its word. */
  async #reachesSocket(): Promise<boolean> {
    const { runtime, timers, disk, runRoot, initPath, agentId } = this.#options;
    const dir = join(runRoot, '.probe');
    await disk.mkdir(dir, { recursive: true, mode: 0o711 });
    const reached = Promise.withResolvers<void>();
    const link = new InitLink({
      ...this.#options,
      dir,
      sessionKey: undefined,
      saveSessionKey: () => Promise.resolve(),
      onConnected: () => reached.resolve(),
    });
    const options = probeOptions({ agentId, image: `${image.name}:${image.tag}`, initPath, runPath: dir });
    const name = options.name ?? '';
    try {
      await link.listen();
      await this.#makeImage();
      await runtime.removeContainer(name);
      await runtime.startContainer(await runtime.createContainer(options));
      const late = new AbortController();
      await Promise.race([reached.promise, pause(timers, reachMs, late.signal)]);
      late.abort();
      if (link.state === 'connected') return true;
      if ((await runtime.findContainer(name))?.status === 'running') return false;
      throw new Error('the container of the probe ended before its init spoke');
    } finally {
      await link.close();
      await this.#tidy(name, dir);
    }
  }

  async #makeImage(): Promise<void> {
    const tar = pack();
    tar.entry({ name: 'causeway', type: 'directory', mode: 0o755 });
    tar.finalize();
    await this.#options.runtime.importImage(
      image.name,
      image.tag,
      await buffer(tar as unknown as AsyncIterable<Buffer>),
    );
  }

  async #tidy(name: string, dir: string): Promise<void> {
    const { runtime, log } = this.#options;
    try {
      await runtime.removeContainer(name);
      await runtime.removeImage(`${image.name}:${image.tag}`);
      await this.#options.disk.rm(dir, { recursive: true, force: true });
    } catch (error) {
      log.warn('the container of the probe is still there', { name, error: String(error) });
    }
  }
}

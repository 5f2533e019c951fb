/**
 * The Docker engine behind the ContainerRuntime interface, by dockerode. The only file that knows dockerode at run time.
 * Every call has a deadline, because a stopped engine accepts connections and never answers.
 */
import { availableParallelism, constants, setPriority } from 'node:os';
import { pipeline } from 'node:stream';
import { text } from 'node:stream/consumers';
import Docker, { type ContainerCreateOptions } from 'dockerode';
import { extract } from 'tar-stream';
import { type PullLine, PullTally } from '../images/pull-progress.ts';
import { attachTo } from './attach.ts';
import {
  type Attached,
  type ContainerFacts,
  type ContainerRuntime,
  type ContainerSummary,
  type EngineEvent,
  type EngineInfo,
  type ImageFacts,
  type ImageSummary,
  type NetworkFacts,
  type PullProgress,
  RuntimeError,
} from './runtime.ts';
import { toRuntimeError } from './docker-errors.ts';
import { linesOf } from './lines.ts';

/** Deadlines in ms: a create or a start on a loaded host is slow, a look is not. */
const deadlines = { look: 5_000, change: 30_000, create: 60_000, list: 15_000 } as const;
/** How long a killed container may take to die before it is given more of the processor. */
const throttledMs = 1_000;
const maxFileBytes = 1024 * 1024;

/** dockerode takes an abort signal with every call, where its types do not say so. */
interface Signal {
  abortSignal: AbortSignal;
}

export class DockerRuntime implements ContainerRuntime {
  readonly #docker: Docker;
  readonly #socketPath: string;

  /** `socketPath`: the engine's unix socket. */
  constructor(socketPath: string) {
    this.#docker = new Docker({ socketPath });
    this.#socketPath = socketPath;
  }

  async ping(): Promise<void> {
    await call('ping', deadlines.look, (signal) => this.#get('/_ping', signal));
  }

  async info(): Promise<EngineInfo> {
    const [info, version] = await Promise.all([
      call('info', deadlines.list, (signal) => this.#get<DockerInfo>('/info', signal)),
      call('version', deadlines.list, (signal) => this.#get<DockerVersion>('/version', signal)),
    ]);
    return toEngineInfo(info, version);
  }

  async findImage(reference: string): Promise<ImageFacts | undefined> {
    const path = `/images/${reference}/json`;
    const look = (signal: Signal) => this.#get<Docker.ImageInspectInfo>(path, signal);
    const image = await found(call('image inspect', deadlines.look, look));
    return image === undefined ? undefined : toImageFacts(image);
  }

  async listImages(): Promise<ImageSummary[]> {
    const images = await call('image list', deadlines.list, (signal) => this.#docker.listImages(signal));
    return images.map((image) => ({
      id: image.Id,
      names: realNames(image.RepoTags),
      digests: realNames(image.RepoDigests),
      sizeBytes: image.Size,
      createdAtMs: image.Created * 1000,
    }));
  }

  async pullImage(reference: string, onProgress: (progress: PullProgress) => void, signal: AbortSignal): Promise<void> {
    try {
      const options: Signal = { abortSignal: signal };
      const stream = await this.#docker.pull(reference, options);
      const tally = new PullTally();
      let isDone = false;
      for await (const line of linesOf(stream)) {
        const said = JSON.parse(line) as PullLine;
        if (said.error !== undefined) throw new Error(said.error);
        if (tally.add(said)) onProgress(tally.progress());
        isDone ||= said.status?.startsWith('Status: ') === true;
      }
      signal.throwIfAborted();
      if (!isDone) throw new RuntimeError('unavailable', 'pull: the engine closed the connection');
    } catch (error) {
      throw toRuntimeError('pull', error);
    }
  }

  async listNetworks(labels: Record<string, string>): Promise<NetworkFacts[]> {
    const options = { filters: { label: toFilter(labels) } };
    const networks = await call('network list', deadlines.list, (signal) =>
      this.#docker.listNetworks({ ...options, ...signal }),
    );
    return networks.map((network) => ({
      id: network.Id,
      name: network.Name,
      labels: network.Labels ?? {},
      subnets: (network.IPAM?.Config ?? []).flatMap((config) => config['Subnet'] ?? []),
    }));
  }

  async createNetwork(name: string, subnet: string, labels: Record<string, string>): Promise<string> {
    const created = await call('network create', deadlines.change, (signal) =>
      this.#docker.createNetwork({
        Name: name,
        Driver: 'bridge',
        CheckDuplicate: true,
        Labels: labels,
        IPAM: { Driver: 'default', Config: [{ Subnet: subnet }] },
        ...signal,
      }),
    );
    return created.id;
  }

  async removeNetwork(idOrName: string): Promise<void> {
    await found(call('network remove', deadlines.change, (signal) => this.#docker.getNetwork(idOrName).remove(signal)));
  }

  async createContainer(options: ContainerCreateOptions): Promise<string> {
    const created = await call('create', deadlines.create, (signal) =>
      this.#docker.createContainer({ ...options, ...signal }),
    );
    return created.id;
  }

  async startContainer(idOrName: string): Promise<void> {
    const container = this.#docker.getContainer(idOrName);
    // 304: it runs already.
    await call('start', deadlines.create, (signal) => container.start(signal)).catch(unlessStatus(304));
  }

  async findContainer(idOrName: string): Promise<ContainerFacts | undefined> {
    const container = this.#docker.getContainer(idOrName);
    const facts = await found(call('inspect', deadlines.look, (signal) => container.inspect(signal)));
    return facts === undefined ? undefined : toContainerFacts(facts);
  }

  async listContainers(labels: Record<string, string>): Promise<ContainerSummary[]> {
    const options = { all: true, filters: { label: toFilter(labels) } };
    const listed = await call('list', deadlines.list, (signal) =>
      this.#docker.listContainers({ ...options, ...signal }),
    );
    return listed.map((container) => ({
      id: container.Id,
      name: (container.Names[0] ?? '').replace(/^\//, ''),
      labels: container.Labels,
      status: container.State as ContainerSummary['status'],
      createdAtMs: container.Created * 1000,
    }));
  }

  async renameContainer(idOrName: string, name: string): Promise<void> {
    const container = this.#docker.getContainer(idOrName);
    await call('rename', deadlines.change, (signal) => container.rename({ name, ...signal }));
  }

  async killContainer(idOrName: string): Promise<void> {
    const container = this.#docker.getContainer(idOrName);
    // Answered when it does not run any more. Who has used up its share of the processor is killed when it has one again,
    // and a flood of processes may owe minutes of it (kernel 6.18: what is spent within system calls counts, too).
    const freeing = setTimeout(() => void this.#freeProcessor(container).catch(() => undefined), throttledMs);
    const kill = call('kill', deadlines.change, (signal) => container.kill({ signal: 'SIGKILL', ...signal }));
    try {
      // 409: it does not run.
      await found(kill).catch(unlessStatus(409));
    } finally {
      clearTimeout(freeing);
    }
  }

  async #freeProcessor(container: Docker.Container): Promise<void> {
    await call('update', deadlines.change, (signal) =>
      container.update({ NanoCpus: availableParallelism() * 1e9, ...signal }),
    );
  }

  /** Nice values count within a control group only: no other container is worse off. */
  async favour(pid: number): Promise<void> {
    try {
      setPriority(pid, constants.priority.PRIORITY_HIGHEST);
    } catch {
      // It is gone, or this agent is not root.
    }
  }

  async removeContainer(idOrName: string): Promise<void> {
    const container = this.#docker.getContainer(idOrName);
    const remove = call('remove', deadlines.change, (signal) => container.remove({ force: true, v: true, ...signal }));
    await found(remove);
  }

  attachContainer(idOrName: string): Promise<Attached> {
    return call('attach', deadlines.look, ({ abortSignal }) => attachTo(this.#socketPath, idOrName, abortSignal));
  }

  async importImage(name: string, tag: string, tar: Buffer): Promise<void> {
    const answer = await call('import', deadlines.change, (signal) =>
      this.#docker.importImage(tar as unknown as string, { repo: name, tag, ...signal }),
    );
    const said = await text(answer);
    if (said.includes('"error"')) throw new RuntimeError('failed', `import: ${said.slice(0, 200)}`);
  }

  async removeImage(reference: string): Promise<void> {
    const image = this.#docker.getImage(reference);
    await found(call('image remove', deadlines.change, (signal) => image.remove(signal)));
  }

  async readContainerFile(idOrName: string, path: string): Promise<string | undefined> {
    const container = this.#docker.getContainer(idOrName);
    // To the end of the file: an engine may die, or stand still, behind the beginning of its answer.
    const read = async (signal: Signal) => firstFile(await container.getArchive({ path, ...signal }));
    return found(call('archive', deadlines.look, read));
  }

  async watch(since: string | undefined, onEvent: (event: EngineEvent) => void, signal: AbortSignal): Promise<void> {
    const filters = { type: ['container', 'image', 'network'] };
    const options = { filters, ...(since === undefined ? {} : { since }), abortSignal: signal };
    try {
      // The types want a number, which can not hold nanoseconds; the engine takes `seconds.nanoseconds`.
      const stream = await this.#docker.getEvents(options as object);
      for await (const line of linesOf(stream)) onEvent(toEvent(JSON.parse(line) as DockerEvent));
    } catch (error) {
      throw toRuntimeError('events', error);
    }
    throw new RuntimeError('unavailable', 'events: the engine closed the connection');
  }

  /** For calls to which dockerode passes no signal on: each would stay open for as long as the engine hangs. */
  #get<T>(path: string, { abortSignal }: Signal): Promise<T> {
    const statusCodes = { 200: true, 404: 'not found', 500: 'server error' };
    const modem = this.#docker.modem as {
      dial(request: object, done: (error: unknown, answer: unknown) => void): void;
    };
    return new Promise((resolve, reject) => {
      modem.dial({ path, method: 'GET', abortSignal, statusCodes }, (error, answer) =>
        error === null ? resolve(answer as T) : reject(error instanceof Error ? error : new Error(String(error))),
      );
    });
  }
}

/** Runs one call with its deadline; a call that is over takes no connection of the engine any more. */
async function call<T>(what: string, timeoutMs: number, run: (signal: Signal) => Promise<T>): Promise<T> {
  const deadline = new AbortController();
  const expired = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    expired.reject(new RuntimeError('timeout', `${what}: the engine did not answer within ${timeoutMs / 1000} s`));
    deadline.abort();
  }, timeoutMs);
  try {
    return await Promise.race([run({ abortSignal: deadline.signal }), expired.promise]);
  } catch (error) {
    throw toRuntimeError(what, error);
  } finally {
    clearTimeout(timer);
  }
}

/** Undefined for what does not exist. */
async function found<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof RuntimeError && error.kind === 'not-found') return undefined;
    throw error;
  }
}

/** Swallows the answers by which the engine says that there was nothing to do. */
function unlessStatus(status: number) {
  return (error: unknown): undefined => {
    const cause = error instanceof Error ? error.cause : undefined;
    if (typeof cause === 'object' && cause !== null && 'statusCode' in cause && cause.statusCode === status) return;
    throw error;
  };
}

function toFilter(labels: Record<string, string>): string[] {
  return Object.entries(labels).map(([name, value]) => (value === '' ? name : `${name}=${value}`));
}

/** Docker lists what has no name as `<none>:<none>`. */
function realNames(names: string[] | null | undefined): string[] {
  return (names ?? []).filter((name) => !name.includes('<none>'));
}

function toImageFacts(image: Docker.ImageInspectInfo): ImageFacts {
  const { Config: config } = image;
  return {
    id: image.Id,
    names: realNames(image.RepoTags),
    digests: realNames(image.RepoDigests),
    env: config.Env ?? [],
    user: config.User ?? '',
    entrypoint: toList(config.Entrypoint),
    cmd: toList(config.Cmd),
    workingDir: config.WorkingDir ?? '',
    labels: config.Labels ?? {},
    sizeBytes: image.Size,
    createdAtMs: toMs(image.Created),
    architecture: image.Architecture,
  };
}

function toList(argv: string | string[] | null | undefined): string[] {
  return typeof argv === 'string' ? [argv] : (argv ?? []);
}

function toContainerFacts(facts: Docker.ContainerInspectInfo): ContainerFacts {
  const { State: state } = facts;
  return {
    id: facts.Id,
    name: facts.Name.replace(/^\//, ''),
    labels: facts.Config.Labels,
    status: state.Status as ContainerFacts['status'],
    pid: state.Pid,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
    createdAtMs: toMs(facts.Created),
    startedAtMs: toMs(state.StartedAt),
    finishedAtMs: toMs(state.FinishedAt),
  };
}

/** Unix ms of the engine's text; 0 for its "never" (year 1). */
function toMs(text: string): number {
  const ms = Date.parse(text);
  return Number.isNaN(ms) || ms < 0 ? 0 : ms;
}

interface DockerInfo {
  KernelVersion: string;
  OperatingSystem: string;
  NCPU: number;
  MemTotal: number;
  LiveRestoreEnabled: boolean;
  SecurityOptions?: string[];
  CgroupVersion?: string;
  Driver: string;
  DockerRootDir: string;
}

interface DockerVersion {
  Version: string;
  Components?: { Name: string; Version: string }[];
}

function toEngineInfo(info: DockerInfo, version: DockerVersion): EngineInfo {
  const component = (name: string) => version.Components?.find((each) => each.Name === name)?.Version ?? 'unknown';
  const seccomp = info.SecurityOptions?.find((option) => option.includes('name=seccomp'));
  return {
    version: version.Version,
    description: `Docker ${version.Version} (runc ${component('runc')}, containerd ${component('containerd')})`,
    runcVersion: component('runc'),
    kernel: info.KernelVersion,
    os: info.OperatingSystem,
    cpus: info.NCPU,
    memoryBytes: info.MemTotal,
    liveRestore: info.LiveRestoreEnabled,
    seccomp: seccomp !== undefined && !seccomp.includes('unconfined'),
    dataRoot: info.DockerRootDir,
  };
}

interface DockerEvent {
  Type: string;
  Action: string;
  Actor?: { ID?: string; Attributes?: Record<string, string> };
  timeNano?: number;
  time?: number;
}

function toEvent(event: DockerEvent): EngineEvent {
  const kind = event.Type === 'image' || event.Type === 'network' ? event.Type : 'container';
  return {
    kind,
    action: event.Action,
    id: event.Actor?.ID ?? '',
    labels: event.Actor?.Attributes ?? {},
    // As a number of nanoseconds it has lost digits in JSON; whole seconds are exact, and events may come twice.
    at: String(event.time ?? 0),
  };
}

async function firstFile(archive: NodeJS.ReadableStream): Promise<string | undefined> {
  const entries = extract();
  // Unlike `pipe`, it ends the one when the other breaks. What breaks is heard where the entries are read.
  pipeline(archive, entries, () => undefined);
  for await (const entry of entries) {
    const { type, size } = entry.header;
    if (type === 'file' && size <= maxFileBytes) return await text(entry);
    entry.resume();
  }
  return undefined;
}

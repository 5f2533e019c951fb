/**
 * The door to the container engine. The session core knows this interface and never a client library, so that a
 * simulator can stand behind it. Every call has a deadline; what it throws is a RuntimeError, whose kind says what the
 * caller may conclude. `timeout` and `unavailable` mean unknown: look again before acting again.
 */
import type { Duplex } from 'node:stream';
import type { ContainerCreateOptions } from 'dockerode';

export type RuntimeErrorKind =
  | 'unavailable' // the engine does not answer, or the connection broke
  | 'timeout' // no answer within the call's deadline; it may still be carried out
  | 'not-found'
  | 'conflict' // a name is taken, or the object is in use
  | 'invalid' // the engine refuses the request as such
  | 'disk-full'
  | 'failed'; // anything else that the engine says

export class RuntimeError extends Error {
  readonly kind: RuntimeErrorKind;
  constructor(kind: RuntimeErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'RuntimeError';
    this.kind = kind;
  }
}

/** What we need to know of an image. */
export interface ImageFacts {
  /** Content id, `sha256:...`. */
  id: string;
  /** Names with tags, and repository digests (`name@sha256:...`). */
  names: string[];
  digests: string[];
  /** Variables as `NAME=value`. */
  env: string[];
  user: string;
  entrypoint: string[];
  cmd: string[];
  workingDir: string;
  labels: Record<string, string>;
  sizeBytes: number;
  createdAtMs: number;
  /** Of its programs, in the words of images: `amd64`, `arm64`; empty when it does not say. */
  architecture: string;
}

export interface ImageSummary {
  id: string;
  names: string[];
  digests: string[];
  sizeBytes: number;
  createdAtMs: number;
}

export interface ContainerFacts {
  id: string;
  name: string;
  labels: Record<string, string>;
  status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';
  /** Process id of PID 1 on the host; 0 when it does not run. */
  pid: number;
  exitCode: number;
  oomKilled: boolean;
  createdAtMs: number;
  startedAtMs: number;
  finishedAtMs: number;
}

/** A container in a listing: without the facts that cost an inspect. */
export interface ContainerSummary {
  id: string;
  name: string;
  labels: Record<string, string>;
  status: ContainerFacts['status'];
  createdAtMs: number;
}

export interface NetworkFacts {
  id: string;
  name: string;
  labels: Record<string, string>;
  subnets: string[];
}

export interface EngineInfo {
  version: string;
  /** Such as `Docker 26.1.5 (runc 1.1.15, containerd 1.7.24)`. */
  description: string;
  runcVersion: string;
  kernel: string;
  os: string;
  cpus: number;
  memoryBytes: number;
  liveRestore: boolean;
  seccomp: boolean;
  /** Directory of images and writable layers on the host. */
  dataRoot: string;
}

export interface PullProgress {
  /** Such as `2 of 5 layers (3fa9c1d20b11 45 %)`. */
  detail: string;
  doneBytes: number;
  totalBytes: number;
}

export interface EngineEvent {
  kind: 'container' | 'image' | 'network';
  action: string;
  id: string;
  labels: Record<string, string>;
  /** Nanoseconds as the engine's own text, for `since`. */
  at: string;
}

/** What comes out is stdout alone, what is written goes to stdin. */
export interface Attached {
  stream: Duplex;
  /** Resolves when it is over, whoever ended it. */
  closed: Promise<void>;
}

export interface ContainerRuntime {
  ping(): Promise<void>;
  info(): Promise<EngineInfo>;

  findImage(reference: string): Promise<ImageFacts | undefined>;
  listImages(): Promise<ImageSummary[]>;
  /** Fetches an image from its registry. Refuses with kind `not-found` or `invalid` what can not be had. */
  pullImage(reference: string, onProgress: (progress: PullProgress) => void, signal: AbortSignal): Promise<void>;

  listNetworks(labels: Record<string, string>): Promise<NetworkFacts[]>;
  createNetwork(name: string, subnet: string, labels: Record<string, string>): Promise<string>;
  removeNetwork(idOrName: string): Promise<void>;

  /** Creates a container and returns its id; kind `conflict` when the name is taken. */
  createContainer(options: ContainerCreateOptions): Promise<string>;
  startContainer(idOrName: string): Promise<void>;
  findContainer(idOrName: string): Promise<ContainerFacts | undefined>;
  listContainers(labels: Record<string, string>): Promise<ContainerSummary[]>;
  /** Gives a container another name, running or not; kind `conflict` when that is taken. */
  renameContainer(idOrName: string, name: string): Promise<void>;
  /** Sends SIGKILL to PID 1; nothing happens when it does not run. */
  killContainer(idOrName: string): Promise<void>;
  /** Lets the process `pid` of this host run before its container's others; nothing happens without the right to that. */
  favour(pid: number): Promise<void>;
  /** Removes a container and its anonymous volumes, running or not; nothing happens when it is gone. */
  removeContainer(idOrName: string): Promise<void>;
  /** Stdin and stdout of a container's first process; ends with the container, or with the engine. */
  attachContainer(idOrName: string): Promise<Attached>;
  /** Makes the image `name:tag` of a tar file. */
  importImage(name: string, tag: string, tar: Buffer): Promise<void>;
  /** Nothing happens when it is gone. */
  removeImage(reference: string): Promise<void>;
  /** A small file of a container's filesystem as text (at most 1 MiB); undefined when there is none. */
  readContainerFile(idOrName: string, path: string): Promise<string | undefined>;

  /** Events from `since` (`at` of an earlier one) on, until `signal`; rejects when the connection ends. */
  watch(since: string | undefined, onEvent: (event: EngineEvent) => void, signal: AbortSignal): Promise<void>;
}

/**
 * The images of this host: finds what a session runs, fetches it when it is not there, and pins it to its content. An
 * image that only exists here (built or imported, in no registry) is known by its content id.
 */
import { Refusal } from '../../schema/errors.ts';
import type { Log, Timers } from '../../schema/ports.ts';
import type { ToEdgeHello } from '../../schema/protocol/messages.ts';
import {
  type ContainerRuntime,
  type ImageFacts,
  type ImageSummary,
  type PullProgress,
  RuntimeError,
} from '../runtime/runtime.ts';
import { pause, timeLimit } from '../deadline.ts';
import { isImageReference, repositoryOf } from './reference.ts';

/** What a session asks for. */
export interface WantedImage {
  image: string;
  /** Content that it must have. */
  digest: string | undefined;
}

export interface FoundImage {
  facts: ImageFacts;
  /** What to pin later generations to: the registry's digest, or the content id of an image that only exists here. */
  digest: string;
}

interface Pull {
  done: Promise<void>;
  /** One for each session that waits for it. */
  listeners: Set<(progress: PullProgress) => void>;
  /** Aborts it when nobody waits for it any more. */
  unwanted: AbortController;
}

const maxListed = 512;
/** A pull that moves nothing for so long is given up by the engine itself; this only bounds the whole. */
const pullMs = 6 * 3_600_000;
const pausesMs = [500, 2_000] as const;
/** What a host runs besides images of its own architecture. */
const alsoRuns: Readonly<Record<string, readonly string[]>> = { amd64: ['386'], arm64: ['arm'] };

export class Images {
  readonly #runtime: ContainerRuntime;
  readonly #log: Log;
  readonly #timers: Timers;
  readonly #architecture: string;
  readonly #pulls = new Map<string, Pull>();
  #listed: ToEdgeHello['images'] = [];

  /** `architecture`: of this host, in the words of images (`amd64`, `arm64`). */
  constructor(
    runtime: ContainerRuntime,
    { log, timers, architecture }: { log: Log; timers: Timers; architecture: string },
  ) {
    this.#runtime = runtime;
    this.#log = log;
    this.#timers = timers;
    this.#architecture = architecture;
  }

  /** The image if this host has it. @throws Refusal `session_image_invalid`, also for what is there and can not run here */
  async find(wanted: WantedImage): Promise<FoundImage | undefined> {
    const found = await this.#look(wanted);
    if (found !== undefined) this.#requireNative(wanted.image, found.facts.architecture);
    return found;
  }

  async #look({ image, digest }: WantedImage): Promise<FoundImage | undefined> {
    if (!isImageReference(image)) {
      throw new Refusal('session_image_invalid', `"${printable(image)}" is not the name of an image`);
    }
    if (digest === undefined) return toFound(await this.#runtime.findImage(image), image);
    if (!isImageReference(digest)) throw new Refusal('session_image_invalid', 'the pinned digest is not one');
    const byDigest = await this.#runtime.findImage(`${repositoryOf(image)}@${digest}`);
    const found = byDigest ?? (await this.#runtime.findImage(digest));
    if (found !== undefined) return toFound(found, image);
    // A name that somebody gave it here has the digest of another repository, by which engines do not find it.
    const named = await this.#runtime.findImage(image);
    return named?.digests.some((each) => each.endsWith(`@${digest}`)) === true ? toFound(named, image) : undefined;
  }

  /** The engine itself takes any: its programs would only end with "exec format error". */
  #requireNative(image: string, architecture: string): void {
    const here = this.#architecture;
    if (architecture === '' || architecture === here || alsoRuns[here]?.includes(architecture) === true) return;
    throw new Refusal(
      'session_image_invalid',
      `${printable(image)} is built for ${printable(architecture)} and this machine runs ${here}: name an image for ${here}`,
    );
  }

  /**
   * Fetches what `find` did not find. Several sessions that want the same image share one pull; it goes on while one of
   * them waits for it.
   * @throws Refusal `session_image_missing`; with `retryAfterSeconds` when the registry could not be asked
   */
  async pull(wanted: WantedImage, onProgress: (progress: PullProgress) => void, signal: AbortSignal): Promise<void> {
    const { image, digest } = wanted;
    const reference = digest === undefined ? withTag(image) : `${repositoryOf(image)}@${digest}`;
    const pull = this.#pulls.get(reference) ?? this.#begin(reference);
    pull.listeners.add(onProgress);
    try {
      await Promise.race([pull.done, rejectOnAbort(signal)]);
    } catch (error) {
      throw toRefusal(image, error);
    } finally {
      pull.listeners.delete(onProgress);
      if (pull.listeners.size === 0 && this.#pulls.get(reference) === pull) {
        this.#pulls.delete(reference);
        pull.unwanted.abort(new Error('nobody waits for it any more'));
      }
    }
  }

  /** The last answer of `list`. */
  get listed(): ToEdgeHello['images'] {
    return this.#listed;
  }

  /** What the edge is told of: newest first. */
  async list(): Promise<ToEdgeHello['images']> {
    const images = await this.#runtime.listImages();
    this.#listed = images
      .toSorted((a, b) => b.createdAtMs - a.createdAtMs)
      .slice(0, maxListed)
      .map((image) => ({
        digest: digestOf(image),
        names: image.names.filter((name) => name.length <= 512).slice(0, 64),
        sizeBytes: Math.max(0, Math.round(image.sizeBytes)),
      }));
    return this.#listed;
  }

  #begin(reference: string): Pull {
    const listeners: Pull['listeners'] = new Set();
    const unwanted = new AbortController();
    const tell = (progress: PullProgress): void => listeners.forEach((listener) => listener(progress));
    this.#log.info('pulling an image', { image: reference });
    const done = this.#tryPull(reference, tell, unwanted.signal);
    done.catch((error: unknown) => {
      if (unwanted.signal.aborted) this.#log.info('a pull was given up', { image: reference });
      else this.#log.warn('an image was not pulled', { image: reference, error: String(error) });
    });
    const pull = { done, listeners, unwanted };
    this.#pulls.set(reference, pull);
    return pull;
  }

  /**
   * A registry that fails is asked again: most of that passes. Once layers were under way it is not: the engine itself
   * has tried each of them several times by then.
   */
  async #tryPull(reference: string, tell: (progress: PullProgress) => void, unwanted: AbortSignal): Promise<void> {
    const limit = timeLimit(this.#timers, pullMs, unwanted);
    let begun = false;
    const note = (progress: PullProgress): void => {
      begun = true;
      tell(progress);
    };
    try {
      for (const pauseMs of [...pausesMs, undefined]) {
        try {
          return await this.#runtime.pullImage(reference, note, limit.signal);
        } catch (error) {
          const isLast = pauseMs === undefined || begun;
          if (isLast || !(error instanceof RuntimeError) || error.kind !== 'failed') throw error;
          await pause(this.#timers, pauseMs, unwanted);
          unwanted.throwIfAborted();
        }
      }
    } finally {
      limit.cancel();
    }
  }
}

/** The registry's digest where there is one, else the content id. */
function digestOf(image: Pick<ImageSummary, 'id' | 'digests'>, reference?: string): string {
  const repository = reference === undefined ? undefined : repositoryOf(reference);
  const named = image.digests.find((each) => repository !== undefined && each.startsWith(`${repository}@`));
  return (named ?? image.digests[0])?.split('@')[1] ?? image.id;
}

function toFound(facts: ImageFacts | undefined, reference: string): FoundImage | undefined {
  return facts === undefined ? undefined : { facts, digest: digestOf(facts, reference) };
}

/** Without a tag Docker would fetch every tag of the repository. */
function withTag(image: string): string {
  return image.includes('@') || repositoryOf(image) !== image ? image : `${image}:latest`;
}

function toRefusal(image: string, error: unknown): unknown {
  if (!(error instanceof RuntimeError)) return error;
  if (error.kind === 'unavailable' || error.kind === 'timeout' || error.kind === 'disk-full') return error;
  const isKnown = error.kind === 'not-found' || error.kind === 'invalid';
  const registry = isKnown ? 'its registry gives none' : 'its registry could not be asked';
  const detail = `This machine has no image ${printable(image)}, and ${registry}: ${error.message}`.slice(0, 1000);
  return new Refusal('session_image_missing', detail, isKnown ? {} : { retryAfterSeconds: 30 });
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error('given up'));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 200);
}

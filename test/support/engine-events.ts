/**
 * What an engine did to containers of sessions, in order, over its own deaths: its event stream, and a listing after each
 * gap in it (a dead engine remembers no events, but containers can only end while it is dead, not start).
 */
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type Docker from 'dockerode';
import { labels } from '../../agent-daemon/runtime/docker-spec.ts';
import type { ContainerLife } from './invariant-rules.ts';

/** How long the engine may take to list everything. */
const answerMs = 20_000;
const nameOfOurs = /^\/?(ses_[0-9a-z]{26}_\d+_\d+)-[a-z]+\d+-g(\d+)$/;

type Run = ContainerLife['runs'][number];

export class EngineEvents {
  readonly lives = new Map<string, ContainerLife>();
  readonly #docker: Docker;
  readonly #seen = new Set<string>();
  /** What is still asked of the engine about what it said. */
  readonly #asked = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  /** Rejects at the stop: whatever the loop waits for then, an engine that hangs included, it waits no longer. */
  readonly #stopped: Promise<never>;
  #sinceSeconds: number;
  #stream: Readable | undefined;
  #loop: Promise<void>;

  constructor(docker: Docker) {
    this.#docker = docker;
    this.#sinceSeconds = Math.floor(Date.now() / 1000);
    const { signal } = this.#stopping;
    this.#stopped = new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('stopped')), { once: true });
    });
    this.#stopped.catch(() => {});
    this.#loop = this.#follow();
  }

  /** Looks at what exists now, so that lives are up to date even if an event is still on its way. */
  async settle(): Promise<void> {
    await this.#list();
    await Promise.all(this.#asked);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    this.#stream?.destroy();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await Promise.race([this.#followOnce(signal), this.#stopped]).catch(() => {
        // The engine is dead; it is asked again until it answers.
      });
      if (!signal.aborted) await sleep(100);
    }
  }

  async #followOnce(abortSignal: AbortSignal): Promise<void> {
    const filters = { type: ['container' as const] };
    const options = { since: this.#sinceSeconds, filters, abortSignal };
    const stream = (await (this.#docker.getEvents(options) as unknown as Promise<NodeJS.ReadableStream>)) as Readable;
    stream.on('error', () => {});
    this.#stream = stream;
    // An engine that dies in the middle of an answer leaves dockerode waiting for the rest of it for ever.
    await Promise.race([this.#list(), sleep(answerMs).then(() => Promise.reject(new Error('no answer')))]);
    await this.#read(stream);
  }

  /** Takes line after line until the stream is over, however it ends. */
  async #read(stream: Readable): Promise<void> {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#take(line);
    });
    if (stream.destroyed) return;
    await new Promise((resolve) => stream.once('close', resolve));
  }

  #take(line: string): void {
    const event = JSON.parse(line) as {
      Action: string;
      Actor: { ID: string; Attributes: { name?: string } };
      timeNano: number;
      time: number;
    };
    this.#sinceSeconds = event.time;
    const key = `${event.timeNano} ${event.Action} ${event.Actor.ID}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    const life = this.#lifeOf(event.Actor.ID, event.Actor.Attributes.name ?? '');
    if (life === undefined) return;
    const atMs = event.timeNano / 1e6;
    const last = life.runs.at(-1);
    if (event.Action === 'create') life.createdMs = atMs;
    // One that was started in advance begins as a session's when it gets its name.
    const begins = event.Action === 'start' || event.Action === 'rename';
    if (begins && !(last?.endMs === undefined && last !== undefined)) {
      const run = { startMs: atMs };
      life.runs.push(run);
      if (last !== undefined) this.#doubt(life, last, run);
    }
    if (event.Action === 'die' && last !== undefined) last.endMs ??= atMs;
    if (event.Action === 'destroy') {
      if (last !== undefined) last.endMs ??= atMs;
      life.removedMs = atMs;
    }
  }

  async #list(): Promise<void> {
    const found = new Map((await this.#docker.listContainers({ all: true })).map((info) => [info.Id, info]));
    for (const info of found.values()) {
      const life = this.#lifeOf(info.Id, info.Names[0] ?? '');
      if (life === undefined) continue;
      const { State } = await this.#docker.getContainer(info.Id).inspect();
      const startMs = labels.warm in info.Labels ? Date.now() : Date.parse(State.StartedAt);
      if (startMs > 0 && life.runs.length === 0) life.runs.push({ startMs });
      const last = life.runs.at(-1);
      if (last !== undefined && !State.Running && Date.parse(State.FinishedAt) >= last.startMs) {
        last.endMs ??= Date.parse(State.FinishedAt);
      }
    }
    for (const life of this.lives.values()) {
      if (found.has(life.containerId) || life.removedMs !== undefined) continue;
      life.removedMs = Date.now();
      const last = life.runs.at(-1);
      if (last !== undefined) last.endMs ??= life.removedMs;
    }
  }

  /**
   * An engine that died within a start knows nothing of it. At the next start it ends what ran, tells that end two seconds
   * later as that of what runs now, and then that this began: one start, which its own note of the time shows.
   */
  #doubt(life: ContainerLife, before: Run, run: Run): void {
    const asked = this.#docker
      .getContainer(life.containerId)
      .inspect()
      .then(({ State }) => {
        if (!State.Running || Date.parse(State.StartedAt) >= (before.endMs ?? 0)) return;
        life.runs.splice(life.runs.indexOf(run), 1);
        // Its end may have come meanwhile.
        if (run.endMs === undefined) delete before.endMs;
        else before.endMs = run.endMs;
      })
      // It is gone, or the engine does not answer: what it said stands.
      .catch(() => undefined)
      .finally(() => this.#asked.delete(asked));
    this.#asked.add(asked);
  }

  #lifeOf(containerId: string, name: string): ContainerLife | undefined {
    const known = this.lives.get(containerId);
    if (known !== undefined) return known;
    const [, sessionId, generation] = nameOfOurs.exec(name) ?? [];
    if (sessionId === undefined) return undefined;
    const life: ContainerLife = { containerId, name, sessionId, generation: Number(generation), runs: [] };
    this.lives.set(containerId, life);
    return life;
  }
}

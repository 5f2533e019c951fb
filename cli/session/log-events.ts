/**
 * Output as server-sent events, continued over every cut by the id of the last one: lines that the control plane chose, or
 * bytes of what was handed over by a machine that is gone.
 */
import { LineItem } from '../../schema/protocol/lines.ts';
import { CliFailure } from '../exit.ts';
import { parseEvents, type ServerSentEvent } from '../events.ts';
import type { Api, Query } from '../http/api.ts';
import type { ProcessIo } from '../process/follow.ts';
import { placeWords } from '../process/placement.ts';
import { mayPass } from '../tunnel/patience.ts';

export interface LogEventsOptions {
  sessionId: string;
  query: Query;
  /** Options of the command line, by the query's names, for refusals. */
  typed: Readonly<Record<string, string>>;
  /** Go on until the process has ended. */
  follow: boolean;
  timestamps: boolean;
  /** Id of the event to go on behind. */
  lastId?: string;
  /** How long nothing may come, ms; by default three heartbeats of the control plane. */
  silenceMs?: number;
}

/** Answers that broke off at once, one behind the other, without an event. */
const maxCuts = 5;
const atOnceMs = 5000;
const pauseMs = 1000;
/** Between looks at what a machine that is out of reach has handed over. */
const storedPauseMs = 5000;
/** Of refusals after which what is followed goes on: the words to wait with, where the connection is none of it. */
const waits: Readonly<Record<string, string>> = {
  agent_unreachable: placeWords.away,
  session_not_running: placeWords.lost,
};

export class LogEvents {
  readonly #api: Api;
  readonly #options: LogEventsOptions;
  readonly #io: ProcessIo;
  #lastId: string | undefined;
  #isStored = false;
  /** The placement of the session that the events are of. */
  #generation: string | undefined;
  #answeredAtMs = 0;
  /** What was said last of a wait. */
  #waits: string | undefined;
  #saidMissing = false;
  /** The control plane ended the answer before its end: no request lives for ever. */
  #isCut = false;
  #isOver = false;

  constructor(api: Api, options: LogEventsOptions, io: ProcessIo) {
    this.#api = api;
    this.#options = options;
    this.#io = io;
    this.#lastId = options.lastId;
  }

  /** Id of the last event: from where to go on. */
  get lastId(): string | undefined {
    return this.#lastId;
  }

  /** Prints what there is; with `follow` until the process has ended. Returns whether it has. @throws CliFailure */
  async run(): Promise<boolean> {
    for (let cuts = 0; ;) {
      const before = this.#lastId;
      try {
        await this.#once();
        if (this.#isOver || (!this.#options.follow && !this.#isCut)) return this.#isOver;
        if (this.#isCut) continue;
      } catch (error) {
        const isBroken = this.#lastId === before && performance.now() - this.#answeredAtMs < atOnceMs;
        if (error instanceof CliFailure) this.#mustWait(error);
        else cuts = isBroken ? cuts + 1 : 0;
        if (cuts >= maxCuts) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, this.#isStored ? storedPauseMs : pauseMs));
    }
  }

  /** @throws CliFailure when nothing was followed yet, or it does not come back */
  #mustWait(error: CliFailure): void {
    if (!this.#options.follow || this.#generation === undefined || !mayPass(error)) throw error;
    const words = waits[error.code ?? ''] ?? placeWords.cut;
    if (words !== this.#waits) this.#io.say(words);
    this.#waits = words;
  }

  #begin(generation: string | undefined): void {
    if (this.#generation !== undefined && generation !== this.#generation) this.#io.say(placeWords.anew);
    this.#generation = generation;
    this.#answeredAtMs = performance.now();
    this.#waits = undefined;
  }

  async #once(): Promise<void> {
    const { sessionId, query, typed, silenceMs } = this.#options;
    const lastId = this.#lastId === undefined ? {} : { 'last-event-id': this.#lastId };
    const call = { query, typed, headers: { accept: 'text/event-stream', ...lastId } };
    const { headers, body } = await this.#api.follow(`/v1/sessions/${sessionId}/logs`, call, silenceMs);
    this.#begin(headers.get('causeway-generation') ?? undefined);
    // It may be cut before the first event, which is not to be the end of what was asked for then.
    this.#lastId ??= beginOf(headers);
    const isStored = headers.get('causeway-log-source') === 'storage';
    if (isStored && !this.#isStored)
      this.#io.say('the machine does not have it or is out of reach; this is what it handed over');
    this.#isStored = isStored;
    this.#isCut = false;
    for await (const event of parseEvents(body)) {
      if (event.data !== '') await this.#take(event);
      this.#lastId = event.id ?? this.#lastId;
    }
  }

  async #take({ event, data }: ServerSentEvent): Promise<void> {
    if (event === 'cursor') {
      this.#isCut = true;
      return;
    }
    const value = JSON.parse(data) as Record<string, unknown>;
    if (event === 'output') {
      const bytes = Buffer.from(String(value['base64']), 'base64');
      return value['stream'] === 'stderr' ? this.#io.writeStderr(bytes) : this.#io.writeStdout(bytes);
    }
    const item = LineItem.safeParse({ ...value, kind: event }).data;
    if (item === undefined || item.kind === 'at') return;
    if (item.kind === 'line') return this.#print(item);
    if (item.kind === 'gap')
      this.#io.say(
        `${item.to - item.from} bytes of ${item.stream} are missing (${item.reason}): ${item.from} to ${item.to}`,
      );
    else if (item.kind === 'exit') this.#isOver = true;
    else if (!this.#saidMissing) {
      this.#saidMissing = true;
      this.#io.say(
        `what came behind byte ${item.after.stdout} of stdout and ${item.after.stderr} of stderr was not handed over`,
      );
    }
  }

  #print(item: Extract<LineItem, { kind: 'line' }>): Promise<void> {
    const text = item.text === undefined ? Buffer.from(item.base64 ?? '', 'base64') : Buffer.from(item.text);
    const isFirst = this.#options.timestamps && item.continues !== true;
    const time = isFirst ? Buffer.from(`${new Date(item.timeMs).toISOString()} `) : Buffer.alloc(0);
    const line = Buffer.concat([time, text, item.cut === true ? Buffer.alloc(0) : Buffer.from('\n')]);
    return item.stream === 'stderr' ? this.#io.writeStderr(line) : this.#io.writeStdout(line);
  }
}

/** Id of an event behind which the answer begins. */
function beginOf(headers: Headers): string | undefined {
  const parts = ['generation', 'stdout-from', 'stderr-from'].map((name) => headers.get(`causeway-${name}`));
  return parts.includes(null) ? undefined : parts.join('.');
}

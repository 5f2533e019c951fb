/** What ends a stream and passes by itself: whether another try makes sense, and how long to wait before it. */
import { StreamOver } from '../../schema/protocol/stream.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { unreachableCode } from '../http/api.ts';
import { hintFor } from '../http/hints.ts';

/** Refusals after which the same request can succeed a moment later. */
const passing: ReadonlySet<string> = new Set([
  'tunnel_closed',
  'tunnel_deadline',
  'tunnel_stream_unknown',
  'agent_unreachable',
  'agent_replaced',
  'agent_engine_unavailable',
  'session_generation_stale',
  'session_not_running',
  'deploy_overlap',
  'edge_overloaded',
  'terminal_screen_lost',
]);
/** The same of answers to a request, of proxies on the way as well. */
const passingAnswers: ReadonlySet<string> = new Set([
  unreachableCode,
  'archive_unavailable',
  'events_unavailable',
  'request_rate_limited',
  'internal',
  ...[429, 500, 502, 503, 504].map((status) => `http_${status}`),
]);
/** What came did not continue what was there: tried again from what is here, a few times without progress. */
const brokenCodes: ReadonlySet<string> = new Set(['tunnel_frame_invalid', 'tunnel_window_exceeded']);
const maxBroken = 5;
const defaultPauseMs = 200;
const lastPauseMs = 5000;

export class Patience {
  readonly #firstPauseMs: number;
  #pauses = 0;
  #broken = 0;

  /** `firstPauseMs`: before the first try after progress, or less; each further one waits twice as long, up to 5 s. */
  constructor(firstPauseMs = defaultPauseMs) {
    this.#firstPauseMs = firstPauseMs;
  }

  /** Since the last progress. */
  get pauses(): number {
    return this.#pauses;
  }

  /** @throws CliFailure, or `error` itself, unless another try can help */
  judge(error: unknown): void {
    if (!(error instanceof StreamOver)) throw error;
    if (brokenCodes.has(error.code) && this.#broken < maxBroken) this.#broken++;
    else if (!passing.has(error.code)) throw asFailure(error);
  }

  /** There was progress. */
  renew(): void {
    this.#pauses = 0;
    this.#broken = 0;
  }

  /** There is a way again: the next pause is a short one. What comes may be as broken as before. */
  connected(): void {
    this.#pauses = 0;
  }

  pause(): Promise<void> {
    const ms = Math.min(this.#firstPauseMs * 2 ** this.#pauses, lastPauseMs);
    this.#pauses++;
    return new Promise((resolve) => setTimeout(resolve, ms * (0.5 + Math.random() / 2)));
  }
}

/** It is said by whoever dials that the way was lost, and the same request can succeed a moment later. */
export function isPassing({ code }: StreamOver): boolean {
  return passing.has(code);
}

/** True when the same request can succeed a moment later. */
export function mayPass({ code = '' }: CliFailure): boolean {
  return passing.has(code) || passingAnswers.has(code);
}

/** A stream's end that waiting can not cure, as a failure of the CLI; anything else as it is. */
export function asFailure(error: unknown): unknown {
  return error instanceof StreamOver
    ? new CliFailure(error.message, { code: error.code, hint: hintFor(error.code), status: exitStatus.notRun })
    : error;
}

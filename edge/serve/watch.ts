/**
 * workerd can hang without dying, and Miniflare does not notice. Every two seconds its health is asked; a workerd that
 * neither answers nor works is killed (Miniflare starts another on the same port), one that is merely busy gets longer,
 * and one that is gone for good ends this process, so that the supervisor starts anew.
 */
import type { Fetch } from '../../wire/http.ts';
import { findProcessUse, type ProcessUse } from './process-use.ts';

const INTERVAL_MS = 2_000;
/** Unanswered probes before an idle workerd is taken for hung. */
const HUNG_AFTER = 3;
/** Unanswered probes before a workerd that uses its CPU is killed all the same: an endless loop, half a minute. */
const BUSY_AFTER = 15;
/** ... and one that reads and writes meanwhile: it serves a herd of agents that return, and killing it brings them again. */
const SERVING_AFTER = 90;
/** Reads and writes from one probe to the next, on average, of one that serves. */
const SERVING_CALLS = 20;
/** Unanswered probes of one that never answered: it is being started, on a machine that may be busy. */
const STARTING_AFTER = 15;
/** Unanswered probes without a process: Miniflare is about to put another in its place. */
const GONE_AFTER = 10;

export type Verdict = 'wait' | 'kill' | 'gone';

/**
 * What to do after `missed` unanswered probes in a row, given what workerd used since the last one that was answered, or
 * since it was there; `answered`: it has answered before.
 */
export function judge(
  missed: number,
  before: ProcessUse | undefined,
  now: ProcessUse | undefined,
  answered: boolean,
): Verdict {
  if (missed < HUNG_AFTER) return 'wait';
  if (!now) return missed < GONE_AFTER ? 'wait' : 'gone';
  if (!answered && missed < STARTING_AFTER) return 'wait';
  const works = before !== undefined && now.state !== 'T' && now.cpuTicks - before.cpuTicks > missed;
  if (!works) return 'kill';
  const serves = now.ioCalls - before.ioCalls > missed * SERVING_CALLS;
  return missed < (serves ? SERVING_AFTER : BUSY_AFTER) ? 'wait' : 'kill';
}

export type Watched = {
  fetch: Fetch;
  healthUrl: string;
  pid: () => number | undefined;
  /** Said before workerd is killed. */
  onHung: (pid: number, missed: number) => void;
  onGone: () => void;
};

/** Starts probing; the returned function stops it. */
export function watchWorkerd({ fetch, healthUrl, pid, onHung, onGone }: Watched): () => void {
  let missed = 0;
  let before: ProcessUse | undefined;
  let stopped = false;
  /** Of which `missed` and `before` are, and whether it has answered. Another one starts with a clean sheet. */
  let watched = pid();
  let hasAnswered = true;
  const use = () => {
    const current = pid();
    return current === undefined ? undefined : findProcessUse(current);
  };
  const probe = async () => {
    const answered = await fetch(healthUrl, { signal: AbortSignal.timeout(INTERVAL_MS) }).then(
      async (answer) => {
        await answer.arrayBuffer();
        return true;
      },
      () => false,
    );
    if (stopped) return;
    const current = pid();
    if (answered || current !== watched) {
      watched = current;
      hasAnswered = answered;
      missed = 0;
      before = use();
      return;
    }
    missed += 1;
    const verdict = judge(missed, before, use(), hasAnswered);
    if (verdict === 'gone') onGone();
    if (verdict !== 'kill' || current === undefined) return;
    onHung(current, missed);
    missed = 0;
    process.kill(current, 'SIGKILL');
  };
  let running = false;
  const timer = setInterval(() => {
    if (running) return;
    running = true;
    void probe().finally(() => (running = false));
  }, INTERVAL_MS);
  return () => {
    stopped = true;
    clearInterval(timer);
  };
}

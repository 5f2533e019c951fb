/**
 * The failpoint that a test asked for: `CAUSEWAY_FAILPOINT=<name>:<before|after|unknown>`. When the step of that name is
 * reached the first time, the process that serves us is asked (CAUSEWAY_FAILPOINT_URL) to kill workerd, and the step waits
 * for its end. Without that binding nothing happens and nothing is read.
 */
import { outcomeUnknown, Refusal } from '../../schema/errors.ts';
import { type EdgeFailpoint, type FailpointPhase, parseFailpoint } from '../../schema/failpoints.ts';
import type { Failpoints } from '../../schema/ports.ts';
import { readConfig } from './config.ts';

const none: Failpoints<EdgeFailpoint> = {
  before: () => Promise.resolve(),
  after: () => Promise.resolve(),
  unknown: () => false,
};
/** Far longer than it takes to be killed. */
const dyingMs = 600_000;
const made = new WeakMap<object, Failpoints<EdgeFailpoint>>();
/** Names that fired in this isolate: with `unknown` the process lives on, so each fires once. */
const fired = new Set<string>();
/** The word to the serving process that a point fired: a request that ends at once would take it away unsaid. */
let told: Promise<unknown> = Promise.resolve();

/** The failpoints of this isolate. */
export function failpointsOf(env: Env): Failpoints<EdgeFailpoint> {
  const known = made.get(env);
  if (known) return known;
  const { failpoint, failpointUrl } = readConfig(env);
  const wanted = parseFailpoint(failpoint);
  const points = wanted ? armed(wanted.name, wanted.phase, failpointUrl) : none;
  made.set(env, points);
  return points;
}

function armed(name: string, phase: FailpointPhase, url: string | undefined): Failpoints<EdgeFailpoint> {
  const hits = (point: string, at: FailpointPhase) => point === name && at === phase && !fired.has(point);
  const die = async (point: string) => {
    fired.add(point);
    // The supervisor answers `dying` and kills this process, or `spent` when this point already fired before a restart.
    const answer = url === undefined ? undefined : await fetch(url, { method: 'POST', body: `${name}:${phase}` });
    // A wait for nothing would be ended by the runtime, with a 500, if the end is slower.
    if ((await answer?.text()) !== 'spent') await scheduler.wait(dyingMs);
  };
  return {
    before: (point) => (hits(point, 'before') ? die(point) : Promise.resolve()),
    after: (point) => (hits(point, 'after') ? die(point) : Promise.resolve()),
    unknown(point) {
      if (!hits(point, 'unknown')) return false;
      fired.add(point);
      if (url !== undefined) told = fetch(url, { method: 'POST', body: `${name}:${phase}` }).catch(() => undefined);
      return true;
    },
  };
}

/**
 * Carries out a durable step between its failpoints. With `unknown` the step is done and its answer lost: it throws, and the
 * caller must find out by reading, as after a time-out.
 */
export async function durably<Result>(
  points: Failpoints<EdgeFailpoint>,
  name: EdgeFailpoint,
  step: () => Promise<Result>,
): Promise<Result> {
  await points.before(name);
  const result = await step();
  await points.after(name);
  if (points.unknown(name)) {
    await told;
    throw new Refusal('edge_overloaded', outcomeUnknown);
  }
  return result;
}

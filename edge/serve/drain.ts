/**
 * The end of the edge's process: first the hubs are told to close their sockets (an open WebSocket holds a draining workerd
 * until its grace ends, and is then cut without a close frame), then workerd finishes the requests that run.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Miniflare } from 'miniflare';

import type { Fetch } from '../../wire/http.ts';
import { findProcessUse } from './process-use.ts';

/** Time for running requests to end; what still runs then is cut. */
const GRACE_MS = 5_000;
/** Time for the Worker to tell its hubs. */
const TELL_MS = 3_000;

export type Draining = {
  mf: Miniflare;
  fetch: Fetch;
  /** Where the Worker listens; undefined before it did. */
  url: URL | undefined;
  /** Proof for the Worker's internal door, CAUSEWAY_BOOTSTRAP. */
  secret: string | undefined;
  workerdPid: number | undefined;
};

/** Asks the Worker to close its sockets. True if it said that it did. */
async function closeSockets(fetch: Fetch, url: URL, secret: string): Promise<boolean> {
  const answer = await fetch(new URL('/internal/drain', url), {
    method: 'POST',
    headers: { authorization: `Bearer ${secret}` },
    signal: AbortSignal.timeout(TELL_MS),
  }).catch(() => undefined);
  await answer?.arrayBuffer().catch(() => undefined);
  return answer?.ok ?? false;
}

/** Stops workerd within about eight seconds. Resolves with what was achieved; never rejects for a workerd already gone. */
export async function drain(draining: Draining): Promise<{ told: boolean; finished: boolean }> {
  const { mf, fetch, url, secret, workerdPid } = draining;
  const told = url !== undefined && secret !== undefined && (await closeSockets(fetch, url, secret));
  // Miniflare takes the end of workerd for a crash and starts another: give it one that ends at once.
  process.env['MINIFLARE_WORKERD_PATH'] = '/bin/false';
  let finished = true;
  if (workerdPid !== undefined && findProcessUse(workerdPid)) {
    process.kill(workerdPid, 'SIGTERM'); // refuses new connections, finishes what runs
    const until = Date.now() + GRACE_MS;
    while (Date.now() < until && findProcessUse(workerdPid)) await sleep(20);
    finished = findProcessUse(workerdPid) === undefined;
  }
  await mf.dispose().catch(() => undefined);
  return { told, finished };
}

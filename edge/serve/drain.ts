/**
 * The end of the edge's process, or of its workerd alone: first the hubs are told to close their sockets (an open WebSocket
 * holds a draining workerd until its grace ends, and is then cut without a close frame), then workerd finishes the requests
 * that run.
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

/** `told`: the hubs closed their sockets. `finished`: so did all requests in time. */
export type Drained = { told: boolean; finished: boolean };

/** Stops workerd within about eight seconds. Resolves with what was achieved; never rejects for a workerd already gone. */
export async function drain(draining: Draining): Promise<Drained> {
  const told = await tellHubs(draining);
  // Miniflare takes the end of workerd for a crash and starts another: give it one that ends at once.
  process.env['MINIFLARE_WORKERD_PATH'] = '/bin/false';
  const finished = await endWorkerd(draining.workerdPid);
  await draining.mf.dispose().catch(() => undefined);
  return { told, finished };
}

/** Ends workerd in the same way, and lets Miniflare start another in its place, with what it then is to serve TLS with. */
export async function drainWorkerd(draining: Draining): Promise<Drained> {
  const told = await tellHubs(draining);
  const finished = await endWorkerd(draining.workerdPid);
  if (!finished && draining.workerdPid !== undefined) process.kill(draining.workerdPid, 'SIGKILL');
  return { told, finished };
}

async function tellHubs({ fetch, url, secret }: Draining): Promise<boolean> {
  return url !== undefined && secret !== undefined && closeSockets(fetch, url, secret);
}

/** True when it has ended within its grace. */
async function endWorkerd(pid: number | undefined): Promise<boolean> {
  if (pid === undefined || !findProcessUse(pid)) return true;
  process.kill(pid, 'SIGTERM'); // refuses new connections, finishes what runs
  const until = Date.now() + GRACE_MS;
  while (Date.now() < until && findProcessUse(pid)) await sleep(20);
  return findProcessUse(pid) === undefined;
}

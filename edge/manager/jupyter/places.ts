/**
 * How far clients and kernels are, in this isolate's memory. What is forgotten here costs a client of Jupyter what it
 * missed and nobody the log: `outputs` reads that from any place.
 */
import { Refusal } from '../../../schema/errors.ts';
import type { Askers } from './askers.ts';
import { Executions } from './executions.ts';
import type { Requests } from './requests.ts';

/** A client by its `session_id`, at one kernel. */
export interface Place {
  starts: number;
  /** Behind the last record that was sent. */
  sent: number;
  /** What was sent well before the client last said something: it has that. */
  safe: number;
  askers: Askers;
  requests: Requests;
  /** The socket that it has now; an older one notices, since no request may touch what is another's. */
  owner: object | undefined;
}

const maxPlaces = 4096;
const maxKernels = 1024;
const places = new Map<string, Place>();
const kernels = new Map<string, Executions>();

/** The place of a client, if it was here before. `key` names the person, the kernel and the `session_id`. */
export function findPlace(key: string): Place | undefined {
  return places.get(key);
}

export function keepPlace(key: string, place: Place): void {
  remember(places, key, place, maxPlaces);
}

/** What is known of a kernel's executions. */
export function executionsOf(kernelId: string): Executions {
  const known = kernels.get(kernelId) ?? new Executions();
  remember(kernels, kernelId, known, maxKernels);
  return known;
}

/** What was read of a kernel's log from its begin. */
export function keepExecutions(kernelId: string, executions: Executions): void {
  remember(kernels, kernelId, executions, maxKernels);
}

/** Kernels that somebody restarts: their end is no death. */
const restarted = new Map<string, number>();
const restartMs = 60_000;

export function noteRestart(kernelId: string, nowMs: number): void {
  remember(restarted, kernelId, nowMs, maxKernels);
}

export function isRestarted(kernelId: string, nowMs: number): boolean {
  const atMs = restarted.get(kernelId);
  return atMs !== undefined && nowMs - atMs < restartMs;
}

/** Names of terminals by session, as they were listed last. */
const terminals = new Map<string, string[]>();

/** What a client must not take for closed while the agent can not be asked. */
export function knownTerminals(sessionId: string): readonly string[] | undefined {
  return terminals.get(sessionId);
}

export function keepTerminals(sessionId: string, names: string[]): void {
  remember(terminals, sessionId, names, maxKernels);
}

/** Sockets to kernels and terminals that one person may have open in this isolate. */
const maxSockets = 256;

/** @throws Refusal `tunnel_stream_limit` when a person has too many */
export function requireRoomForSocket(userId: string): void {
  if (socketsOf(userId) < maxSockets) return;
  throw new Refusal('tunnel_stream_limit', `You have ${maxSockets} sockets to kernels and terminals open: close some.`);
}

/** Open sockets, by kernel and by person. */
const sockets = new Map<string, number>();

export function socketsOf(id: string): number {
  return sockets.get(id) ?? 0;
}

/** One more, or with -1 one less. */
export function countSocket(id: string, more: 1 | -1): void {
  const count = socketsOf(id) + more;
  if (count > 0) sockets.set(id, count);
  else sockets.delete(id);
}

function remember<Value>(map: Map<string, Value>, key: string, value: Value, most: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= most) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}

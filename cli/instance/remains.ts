/** What an instance has in a container engine: found by the label that its agents put on everything, and by nothing else. */
import { json, text } from 'node:stream/consumers';

import { callEngine, EngineError } from './engine.ts';

/** The label of everything that an agent makes; its value is the instance's id. */
const LABEL = 'causeway.instance';

type Found = { containers: string[]; networks: string[]; running: number };

/** Containers and networks of an instance. */
export async function listOurs(socket: string, instance: string): Promise<Found> {
  const filters = JSON.stringify({ label: [`${LABEL}=${instance}`] });
  const containers = await list<{ Id: string; State: string }>(socket, '/containers/json', { all: '1', filters });
  const networks = await list<{ Id: string }>(socket, '/networks', { filters });
  return {
    containers: containers.map(({ Id }) => Id),
    networks: networks.map(({ Id }) => Id),
    running: containers.filter(({ State }) => State === 'running' || State === 'paused').length,
  };
}

/** Removes them all, running or not. */
export async function removeOurs(socket: string, instance: string): Promise<{ containers: number; networks: number }> {
  const found = await listOurs(socket, instance);
  for (const id of found.containers) await remove(socket, `/containers/${id}`, { force: 'true', v: 'true' });
  for (const id of found.networks) await remove(socket, `/networks/${id}`, {});
  return { containers: found.containers.length, networks: found.networks.length };
}

async function list<Item>(socket: string, path: string, query: Record<string, string>): Promise<Item[]> {
  return (await json(await callEngine(socket, 'GET', path, { query }))) as Item[];
}

async function remove(socket: string, path: string, query: Record<string, string>): Promise<void> {
  try {
    await text(await callEngine(socket, 'DELETE', path, { query, timeoutMs: 60_000 }));
  } catch (error) {
    if (!(error instanceof EngineError && error.status === 404)) throw error;
  }
}
